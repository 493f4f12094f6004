from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from uvlm.config import EncoderConfig
from uvlm.model.build import build_encoder, build_unet
from uvlm.model.fast_norm import ready, use_group_norms
from uvlm.model.weights import load_weights, weights_of


def shaken(network: nn.Module) -> nn.Module:
    """Weights and biases of norms away from one and zero."""
    torch.manual_seed(0)
    for weight in network.parameters():
        weight.data.add_(0.1 * torch.randn_like(weight))
    return network.eval()


@torch.no_grad()
def test_group_norms_give_the_same_features(encoder_config: EncoderConfig) -> None:
    encoder = shaken(build_encoder(encoder_config))
    fast = copy.deepcopy(encoder)
    use_group_norms(fast)
    x = torch.randn(2, 1, 8, 16, 16)
    for one, other in zip(encoder(x), fast(x), strict=True):
        torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-4)
    assert not any(isinstance(module, nn.InstanceNorm3d) for module in fast.modules())


def test_names_and_weights_stay_so_that_a_model_folder_loads_either_way(
    encoder_config: EncoderConfig,
) -> None:
    unet = shaken(build_unet(encoder_config, 5))
    fast = shaken(build_unet(encoder_config, 5))
    before = {name: id(parameter) for name, parameter in fast.named_parameters()}
    use_group_norms(fast)
    assert {name: id(parameter) for name, parameter in fast.named_parameters()} == before
    assert fast.state_dict().keys() == unet.state_dict().keys()
    load_weights(fast, weights_of(unet), "the other network")
    assert weights_of(fast).keys() == weights_of(unet).keys()


@pytest.mark.parametrize(
    ("precision", "kind"), [("bf16-mixed", nn.GroupNorm), ("32-true", nn.InstanceNorm3d)]
)
def test_only_bf16_on_a_cpu_uses_them(
    precision: str,
    kind: type[nn.Module],
    encoder_config: EncoderConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UVLM_PRECISION", precision)
    encoder = build_encoder(encoder_config)
    ready(encoder, torch.device("cpu"))
    norms = [m for m in encoder.modules() if isinstance(m, nn.GroupNorm | nn.InstanceNorm3d)]
    assert norms
    assert all(isinstance(norm, kind) for norm in norms)
    weight = encoder.stages[1].blocks[0].conv1.conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)

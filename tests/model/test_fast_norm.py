from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.operations import Operations
from uvlm.config import EncoderConfig
from uvlm.model import fast_norm
from uvlm.model.build import build_encoder, build_unet
from uvlm.model.fast_norm import (
    ChannelsLastNorm,
    ready,
    ready_to_train,
    use_channels_last_norms,
    use_group_norms,
)
from uvlm.model.weights import load_weights, weights_of


def shaken(network: nn.Module) -> nn.Module:
    """Weights and biases of norms away from one and zero."""
    torch.manual_seed(0)
    for weight in network.parameters():
        weight.data.add_(0.1 * torch.randn_like(weight))
    return network.eval()


Swap = Callable[[nn.Module], None]
SWAPS = [use_group_norms, use_channels_last_norms]


@pytest.mark.parametrize("use_norms", SWAPS)
@torch.no_grad()
def test_other_norms_give_the_same_features(use_norms: Swap, encoder_config: EncoderConfig) -> None:
    encoder = shaken(build_encoder(encoder_config))
    fast = copy.deepcopy(encoder)
    use_norms(fast)
    x = torch.randn(2, 1, 8, 16, 16)
    for one, other in zip(encoder(x), fast(x), strict=True):
        torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-4)
    assert not any(type(module) is nn.InstanceNorm3d for module in fast.modules())


@pytest.mark.parametrize("use_norms", SWAPS)
def test_names_and_weights_stay_so_that_a_model_folder_loads_either_way(
    use_norms: Swap, encoder_config: EncoderConfig
) -> None:
    unet = shaken(build_unet(encoder_config, 5))
    fast = shaken(build_unet(encoder_config, 5))
    before = {name: id(parameter) for name, parameter in fast.named_parameters()}
    use_norms(fast)
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


def gradients(network: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    network.zero_grad()
    outputs = network(x)
    torch.stack([output.square().mean() for output in outputs]).sum().backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("batch", [1, 2])
def test_channels_last_norms_have_the_same_gradients(
    batch: int, encoder_config: EncoderConfig
) -> None:
    plain = shaken(build_unet(encoder_config, 5, deep_supervision=True)).train()
    tuned = copy.deepcopy(plain)
    ready_to_train(tuned)
    x = torch.randn(batch, 1, 8, 16, 16)
    expected, found = gradients(plain, x), gradients(tuned, x)
    assert found.keys() == expected.keys()
    # The bias of a convolution before a norm has no gradient but rounding errors.
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4 * largest)


@pytest.mark.parametrize("batch", [1, 2])
def test_channels_last_norms_copy_no_layout_where_instance_norms_do(
    batch: int, encoder_config: EncoderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = []
    for tuning in ("", "norms"):
        network = build_unet(encoder_config, 5, deep_supervision=True)
        with monkeypatch.context() as patch:
            patch.setenv("UVLM_TUNING", tuning)
            patch.setattr(fast_norm, "choose_device", lambda: torch.device("cuda"))
            ready_to_train(network)
        with Operations() as operations:
            network(torch.randn(batch, 1, 16, 32, 32))
        copies.append(len(operations.layout_copies))
    num_norms = len({m for m in network.modules() if isinstance(m, nn.InstanceNorm3d)})
    num_skips = 5  # their convolutions of one voxel return the layout they get, which is contiguous
    # Of a single case both layouts have the same view.
    assert copies == [num_norms - num_skips if batch > 1 else 0, 0]


@pytest.mark.slow
# torch.compile itself looks at the gradients of what it traces.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_a_compiled_network_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a backend that traces and differentiates as inductor does, but writes no code."""
    convolution = nn.Conv3d(1, 4, 3, padding=1)
    norm = nn.InstanceNorm3d(4, affine=True)
    plain = nn.Sequential(convolution, norm, nn.LeakyReLU(inplace=True))
    tuned = copy.deepcopy(plain)
    names = list(tuned.state_dict())
    monkeypatch.setenv("UVLM_TUNING", "compile,norms")
    ready_to_train(tuned, backend="aot_eager")
    assert tuned._compiled_call_impl is not None
    assert list(tuned.state_dict()) == names
    x = torch.randn(2, 1, 4, 5, 6)
    expected, found = gradients(plain, x), gradients(tuned, x)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("kind", "are_ours"), [("cpu", True), ("cuda", False)])
def test_without_tuning_a_gpu_trains_with_torchs_norms(
    kind: str, are_ours: bool, encoder_config: EncoderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_norm, "choose_device", lambda: torch.device(kind))
    unet = build_unet(encoder_config, 5)
    ready_to_train(unet)
    norms = [m for m in unet.modules() if isinstance(m, nn.InstanceNorm3d)]
    assert norms
    assert all(isinstance(norm, ChannelsLastNorm) == are_ours for norm in norms)
    assert unet._compiled_call_impl is None

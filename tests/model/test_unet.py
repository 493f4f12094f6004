"""The U-Net: paper sizes, nnU-Net's names, and the encoder handed on."""

from __future__ import annotations

import copy
from itertools import product

import pytest
import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from torch import nn

from uvlm.config import EncoderConfig
from uvlm.errors import DataError
from uvlm.model.build import build_encoder, build_unet
from uvlm.model.unet import Convolution, use_safe_convolutions
from uvlm.model.weights import load_weights, weights_of

PAPER_ENCODER = EncoderConfig(
    channels=(32, 64, 128, 256, 320, 320),
    strides=(1, 2, 2, 2, 2, 2),
    blocks=(1, 3, 4, 6, 6, 6),
    decoder_convs=1,
)


def test_the_encoder_returns_one_feature_per_stage(encoder_config: EncoderConfig) -> None:
    features = build_encoder(encoder_config)(torch.zeros(2, 1, 8, 16, 16))
    assert [tuple(f.shape) for f in features] == [
        (2, 2, 8, 16, 16),
        (2, 3, 4, 8, 8),
        (2, 4, 2, 4, 4),
        (2, 5, 2, 4, 4),
        (2, 6, 1, 2, 2),
        (2, 8, 1, 2, 2),
    ]


def test_deep_supervision_gives_logits_of_every_stage_but_the_deepest(
    encoder_config: EncoderConfig,
) -> None:
    unet = build_unet(encoder_config, num_classes=7)
    outputs = unet(torch.zeros(1, 1, 8, 16, 16))
    assert [tuple(o.shape[1:]) for o in outputs] == [
        (7, 8, 16, 16),
        (7, 4, 8, 8),
        (7, 2, 4, 4),
        (7, 2, 4, 4),
        (7, 1, 2, 2),
    ]
    unet.decoder.deep_supervision = False
    assert unet(torch.zeros(1, 1, 8, 16, 16)).shape == (1, 7, 8, 16, 16)


def test_convolutions_start_as_he_initialisation_says(encoder_config: EncoderConfig) -> None:
    wide = encoder_config.model_copy(update={"channels": (16, 24, 32, 40, 48, 64)})
    weight = build_encoder(wide).stages[-1].blocks[0].conv1.conv.weight.detach()
    fan_in = 48 * 27
    assert float(weight.std()) == pytest.approx((2 / (1 + 0.01**2) / fan_in) ** 0.5, rel=0.05)


def test_paper_sizes_are_90_million_in_the_encoder_and_102_million_in_the_unet() -> None:
    with torch.device("meta"):
        unet = build_unet(PAPER_ENCODER, num_classes=49)
    assert sum(p.numel() for p in unet.encoder.parameters()) == pytest.approx(90.3e6, abs=5e4)
    assert sum(p.numel() for p in unet.parameters()) == pytest.approx(102.4e6, abs=5e4)


def test_names_are_those_of_nnunet(encoder_config: EncoderConfig) -> None:
    state = weights_of(build_unet(encoder_config, num_classes=3).encoder)
    assert "stem.convs.0.conv.weight" in state
    assert "stages.1.blocks.0.conv2.norm.bias" in state
    assert not [name for name in state if "all_modules" in name]


def test_a_full_nnunet_state_with_its_aliases_loads(encoder_config: EncoderConfig) -> None:
    source = build_unet(encoder_config, 3, deep_supervision=False)
    target = build_unet(encoder_config, 3, deep_supervision=False)
    full = source.state_dict()
    assert any(name.startswith("decoder.encoder.") for name in full)
    load_weights(target, full, "nnU-Net")
    x = torch.randn(1, 1, 8, 16, 16)
    assert torch.equal(target(x), source(x))


def test_an_encoder_handed_on_computes_the_same_features(encoder_config: EncoderConfig) -> None:
    unet = build_unet(encoder_config, num_classes=3)
    encoder = build_encoder(encoder_config)
    x = torch.randn(1, 1, 8, 16, 16)
    assert not torch.equal(encoder(x)[-1], unet.encoder(x)[-1])
    load_weights(encoder, weights_of(unet.encoder), "seg")
    for own, given in zip(encoder(x), unet.encoder(x), strict=True):
        assert torch.equal(own, given)


def test_each_tensor_appears_once_in_a_state(encoder_config: EncoderConfig) -> None:
    unet = build_unet(encoder_config, num_classes=3)
    state = weights_of(unet)
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)
    assert state.keys() == dict(ResidualEncoderUNet.named_parameters(unet)).keys()


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ("missing", "no tensor stem.convs.0.conv.weight"),
        ("unknown", "unknown tensor stages.9.weight"),
        ("shape", r"stem.convs.0.conv.weight has shape \(5,\), expected \(2, 1, 3, 3, 3\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_nothing_is_copied(
    encoder_config: EncoderConfig, change: str, fact: str
) -> None:
    state = weights_of(build_unet(encoder_config, num_classes=3).encoder)
    if change == "missing":
        del state["stem.convs.0.conv.weight"]
    elif change == "unknown":
        state["stages.9.weight"] = torch.zeros(1)
    else:
        state["stem.convs.0.conv.weight"] = torch.zeros(5)
    encoder = build_encoder(encoder_config)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(DataError, match=fact):
        load_weights(encoder, state, "seg/encoder.safetensors")
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, before[name])


def fill_free_memory() -> None:
    """Leave numbers that no sum survives in memory that the next tensors get."""
    for value in (float("inf"), 1e30):
        kept = [torch.full((size,), value) for size in (16, 64, 256, 1024, 4096, 16384, 65536)]
        del kept


def convolved(convolution: nn.Conv3d, x: torch.Tensor, weights: torch.Tensor) -> list[torch.Tensor]:
    """Return the output, then the gradients of the input, the weights and the bias."""
    x = x.clone().requires_grad_()
    y = convolution(x)
    gradients = torch.autograd.grad((y * weights).sum(), [x, *convolution.parameters()])
    return [value.double() for value in (y.detach(), *gradients)]


@pytest.mark.parametrize("channels", [(1, 4), (8, 8), (16, 8)])
@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 2), (1, 2, 2)])
@pytest.mark.parametrize("layout", [torch.channels_last_3d, torch.contiguous_format])
def test_bf16_is_right_on_grids_of_a_few_voxels(
    channels: tuple[int, int], stride: tuple[int, int, int], layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv3d(*channels, 3, stride, padding=1)
    use_safe_convolutions(convolution)
    convolution.to(memory_format=layout)  # type: ignore[call-overload]
    exact = copy.deepcopy(convolution).double()
    for sides in product((1, 2, 3, 5), repeat=3):
        x = torch.randn(2, channels[0], *sides).to(memory_format=layout)
        weights = torch.randn(
            2, channels[1], *(-(-n // s) for n, s in zip(sides, stride, strict=True))
        )
        fill_free_memory()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = convolved(convolution, x, weights)
        for one, other in zip(found, convolved(exact, x.double(), weights.double()), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0.02 * float(other.abs().max()))


@pytest.mark.parametrize(
    ("stride", "sides", "is_small"),
    [(1, (3, 3, 3), False), (1, (3, 3, 2), True), (2, (5, 5, 5), False), (2, (5, 4, 5), True)],
)
def test_only_small_grids_are_computed_in_float32(
    stride: int, sides: tuple[int, int, int], is_small: bool
) -> None:
    torch.manual_seed(0)
    convolution, x = Convolution(8, 8, 3, stride, padding=1), torch.randn(1, 8, *sides)
    in_float32 = convolution(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = convolution(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, in_float32.bfloat16()) == is_small  # else its inputs were rounded too
    assert convolution.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    assert convolution.double()(x.double()).dtype == torch.float64


def test_every_convolution_of_a_network_is_safe(encoder_config: EncoderConfig) -> None:
    for network in (build_encoder(encoder_config), build_unet(encoder_config, 3)):
        convolutions = [m for m in network.modules() if isinstance(m, nn.Conv3d)]
        assert all(isinstance(m, Convolution) for m in convolutions)

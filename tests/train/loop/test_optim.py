from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.tiny_qwen import LAYERS, SIZES, write_qwen
from uvlm.config import Params
from uvlm.estimates.imagined import imagined
from uvlm.model.build import build_classifier, build_encoder, build_unet, build_uvlm
from uvlm.model.qwen import LORA_TARGETS
from uvlm.model.uvlm import SpecialIds
from uvlm.train.cls import ClassifierNet
from uvlm.train.loop.optim import build_optimizer, parameter_groups, set_learning_rate
from uvlm.train.report_net import ReportNet


class Toy(nn.Module):
    """One of each kind of parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv3d(1, 2, 3), nn.InstanceNorm3d(2, affine=True))
        self.embedding = nn.Embedding(5, 4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.queries = nn.Parameter(torch.zeros(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x


def classifier_net(params: Params) -> ClassifierNet:
    head = build_classifier(params.encoder, params.classifier, params.preprocess.grid, 18)
    return ClassifierNet(build_encoder(params.encoder), head)


def report_net(params: Params, kind: str = "scratch") -> ReportNet:
    sizes = {} if kind == "scratch" else SIZES
    uvlm = build_uvlm(
        params.encoder,
        params.decoder.model_copy(update={"kind": kind, **sizes}),
        params.injection,
        params.preprocess.grid,
        256,
        SpecialIds(pad=0, start_of_image=1, end_of_image=2, bos=3, eos=4),
    )
    return ReportNet(uvlm, params.injection, build_encoder(params.encoder))


def names_of(model: nn.Module, parameters: list[nn.Parameter]) -> set[str]:
    by_id = {id(p): name for name, p in model.named_parameters()}
    return {by_id[id(p)] for p in parameters}


def test_only_weights_of_linear_and_convolution_layers_decay(params: Params) -> None:
    toy = Toy()
    groups = parameter_groups(toy, params.train_cls.optim, encoder_lr_scale=0.1)
    decayed = [p for g in groups if g["weight_decay"] > 0 for p in g["params"]]
    assert names_of(toy, decayed) == {
        "encoder.0.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
    }


def test_every_parameter_is_in_exactly_one_group(params: Params) -> None:
    unet = build_unet(params.encoder, 5)
    groups = parameter_groups(unet, params.train_seg.optim)
    grouped = [id(p) for g in groups for p in g["params"]]
    assert sorted(grouped) == sorted(id(p) for p in unet.parameters())


def test_the_encoder_learns_at_its_own_fraction_of_the_rate(params: Params) -> None:
    net = classifier_net(params)
    config = params.train_cls.optim
    optimizer = build_optimizer(net, config, encoder_lr_scale=0.1)
    set_learning_rate(optimizer, 0, 100, config.model_copy(update={"warmup_steps": 2}))
    for group in optimizer.param_groups:
        in_encoder = {name.startswith("encoder.") for name in names_of(net, group["params"])}
        scale = 0.1 if in_encoder == {True} else 1.0
        assert len(in_encoder) == 1
        assert group["lr"] == pytest.approx(config.lr * scale / 2)


def test_scale_zero_freezes_the_encoder(params: Params) -> None:
    toy = Toy()
    groups = parameter_groups(toy, params.train_cls.optim, encoder_lr_scale=0)
    grouped = names_of(toy, [p for g in groups for p in g["params"]])
    assert not any(name.startswith("encoder.") for name in grouped)
    assert not any(p.requires_grad for p in toy.encoder.parameters())
    assert "queries" in grouped


def independent_groups(model: nn.Module) -> dict[str, bool]:
    """Whether each parameter decays, told by the module that owns it instead of by its name."""
    kinds = (nn.Linear, nn.Conv3d, nn.ConvTranspose3d)
    decays: dict[str, bool] = {}
    for path, module in model.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            full = f"{path}.{name}" if path else name
            is_projection = isinstance(module, nn.MultiheadAttention) and name == "in_proj_weight"
            decays[full] = (isinstance(module, kinds) and name == "weight") or is_projection
    known = dict(model.named_parameters())  # without the second names of shared modules
    return {name: flag for name, flag in decays.items() if name in known}


@pytest.mark.parametrize("kind", ["unet", "classifier", "scratch", "qwen3_full", "qwen3_lora"])
def test_decay_and_rate_of_every_parameter_of_the_real_networks(
    params: Params, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVLM_QWEN3", str(tmp_path / "qwen"))
    if kind.startswith("qwen3"):
        write_qwen(tmp_path / "qwen")
    networks: dict[str, Callable[[], nn.Module]] = {
        "unet": lambda: build_unet(params.encoder, 5),
        "classifier": lambda: classifier_net(params),
    }
    net = networks.get(kind, lambda: report_net(params, kind))()
    config = params.train_report.optim.model_copy(update={"weight_decay": 0.3, "lr": 0.01})
    optimizer = build_optimizer(net, config, encoder_lr_scale=0.25)
    held = {
        name: (group["weight_decay"], group["lr"])
        for group in optimizer.param_groups
        for name in names_of(net, group["params"])
    }
    expected = {
        name: (0.3 if decays else 0.0, 0.0025 if name.startswith("encoder.") else 0.01)
        for name, decays in independent_groups(net).items()
        if kind != "qwen3_lora" or "lora_" in name or "decoder." not in name
    }
    assert held == expected
    undecayed = {name for name, (decay, _) in held.items() if decay == 0}
    if kind == "classifier":
        assert {"classifier.queries", "classifier.positions"} <= undecayed
    if kind in ("scratch", "qwen3_full"):
        tied = {name for name, module in net.named_modules() if isinstance(module, nn.Embedding)}
        assert {f"{name}.weight" for name in tied} <= undecayed
        assert len(tied) == 1
    if kind == "qwen3_full":
        norms = {name for name in held if name.endswith("norm.weight") and "decoder." in name}
        assert len(norms) == 4 * LAYERS + 1  # two of a layer, of queries and of keys, the last
        assert norms <= undecayed
    if kind == "qwen3_lora":
        adapter = {name for name in held if "decoder." in name}
        assert len(adapter) == LAYERS * len(LORA_TARGETS) * 2
        assert not adapter & undecayed
    assert {name for name in held if name.endswith("bias")} <= undecayed


@pytest.mark.parametrize("frozen", [(1,), (2, 6)])
def test_frozen_stages_are_held_by_no_group_and_get_no_gradient(
    params: Params, frozen: tuple[int, ...]
) -> None:
    net = classifier_net(params)
    optimizer = build_optimizer(net, params.train_cls.optim, 0.1, frozen_stages=frozen)
    grouped = names_of(net, [p for g in optimizer.param_groups for p in g["params"]])
    prefixes = tuple(f"encoder.stages.{stage - 1}." for stage in frozen)
    prefixes += ("encoder.stem.",) if 1 in frozen else ()
    expected = {name for name, _ in net.named_parameters() if name.startswith(prefixes)}
    assert len(expected) > 2
    assert grouped == {name for name, _ in net.named_parameters()} - expected
    net(torch.randn(1, 1, *params.preprocess.grid)).sum().backward()
    without = {name for name, p in net.named_parameters() if p.grad is None}
    assert without == expected


def test_adamw_takes_the_steps_of_its_equations(params: Params) -> None:
    """One weight at a time, in Python's numbers: Loshchilov and Hutter 2019, algorithm 2."""
    changes = {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1}
    config = params.train_cls.optim.model_copy(update=changes)
    torch.manual_seed(0)
    layer = nn.Linear(4, 3, bias=False)
    optimizer = build_optimizer(layer, config, beta2=0.98)
    weights = layer.weight.detach().flatten().tolist()
    means, squares = [0.0] * len(weights), [0.0] * len(weights)
    for step in range(1, 6):
        layer(torch.arange(4.0)[None]).square().sum().backward()
        assert layer.weight.grad is not None
        for i, g in enumerate(layer.weight.grad.flatten().tolist()):
            means[i] = 0.9 * means[i] + 0.1 * g
            squares[i] = 0.98 * squares[i] + 0.02 * g * g
            mean, square = means[i] / (1 - 0.9**step), squares[i] / (1 - 0.98**step)
            weights[i] -= 0.01 * (0.1 * weights[i] + mean / (math.sqrt(square) + 1e-8))
        optimizer.step()
        optimizer.zero_grad()
        torch.testing.assert_close(layer.weight.flatten(), torch.tensor(weights))


def test_adamw_needs_no_memory_beside_its_state(params: Params) -> None:
    config = params.train_cls.optim.model_copy(update={"optimizer": "adamw"})
    with imagined() as held:
        linear = nn.Linear(1000, 1000)
        optimizer = build_optimizer(linear, config)
        for _ in range(2):
            linear(torch.rand(1, 1000)).sum().backward()
            held.peak = before = held.now
            optimizer.step()
        assert held.peak == before


def test_adamw_is_built_where_nothing_is_fused(params: Params) -> None:
    config = params.train_cls.optim.model_copy(update={"optimizer": "adamw"})
    optimizer = build_optimizer(nn.Linear(2, 2, device="meta"), config)
    assert not optimizer.param_groups[0]["fused"]

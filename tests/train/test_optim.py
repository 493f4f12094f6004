from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from uvlm.config import Params
from uvlm.model.build import build_classifier
from uvlm.model.unet import build_encoder, build_unet
from uvlm.train.cls import ClassifierNet
from uvlm.train.optim import build_optimizer, parameter_groups, set_learning_rate


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
    net = ClassifierNet(
        build_encoder(params.encoder),
        build_classifier(params.encoder, params.classifier, params.preprocess.grid, 18),
    )
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

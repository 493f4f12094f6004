"""The head for side, lobe and size learns from mirrored CTs too, with the other side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn

from uvlm.model.attribute_head import AttributeHead
from uvlm.text.attributes import VALUE_NAMES
from uvlm.train.heads.attributes import NOT_SAID, of_mirrored
from uvlm.train.heads.features import FeatureInputs, Volumes, mirrored_averages
from uvlm.train.heads.warm_up import HeadTraining

GRID, CHANNELS = (4, 2, 6), 3
FABRIC = SimpleNamespace(to_device=lambda x: x, autocast=nullcontext)


def test_a_mirrored_ct_has_the_other_side_and_the_same_lobe_and_size() -> None:
    said = torch.full((1, 2, len(VALUE_NAMES)), NOT_SAID)
    said[0, 0] = torch.tensor([1.0, 0, 0, 1, 0, 0, 0, 1])
    found = of_mirrored(said)
    assert found[0, 0].tolist() == [0, 1, 0, 1, 0, 0, 0, 1]
    assert torch.equal(found[0, 1], said[0, 1])
    assert torch.equal(of_mirrored(found), said)
    both = torch.tensor([1.0, 1, -1, -1, -1, 1, 0, 0])
    assert torch.equal(of_mirrored(both), both)


def test_mirrored_volumes_are_pooled_as_the_head_pools_them() -> None:
    torch.manual_seed(0)
    encoder = nn.Conv3d(1, CHANNELS, 3, padding=1)  # not the same from right to left
    volumes = torch.randn(5, 1, *GRID)

    class Some:
        fabric = FABRIC

        def __iter__(self) -> Iterator[Tensor]:
            yield from volumes.split(2)

    head = AttributeHead(CHANNELS, 1, 8, GRID)
    found = mirrored_averages(as_stages(encoder), cast(Volumes, Some()), head)
    for number, volume in enumerate(volumes):
        deepest = encoder(volume[None].flip(-1)).half().float()
        expected = head.pooled(deepest.flatten(2).transpose(1, 2))[0]
        torch.testing.assert_close(found[number], expected)


def as_stages(module: nn.Module) -> nn.Module:
    class Stages(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [x, module(x)]

    return Stages()


def training(features: Tensor, said: Tensor) -> HeadTraining:
    """A training whose encoder mirrors its features with the CT."""
    head = AttributeHead(CHANNELS, 1, len(VALUE_NAMES), GRID)
    mirrored = head.pooled(features.float().flip(-1).flatten(2).transpose(1, 2))
    batches = SimpleNamespace(inputs=FeatureInputs(features))
    rest = cast(Any, None)
    return HeadTraining(
        cast(Any, FABRIC), rest, rest, cast(Any, batches), rest, rest, said, mirrored
    )


def test_what_lies_on_one_side_in_everybody_decides_nothing() -> None:
    """Everybody's heart is on the left and bright where lesions of the left are said to be."""
    torch.manual_seed(1)
    features = torch.randn(80, CHANNELS, *GRID)
    said = torch.full((80, 1, len(VALUE_NAMES)), NOT_SAID)
    is_left = torch.arange(80) % 2
    said[:, 0, 0], said[:, 0, 1] = 1.0 - is_left, is_left.float()
    features[is_left == 1, 0, :, :, 3:] += 1
    features[is_left == 0, 0, :, :, :3] += 1
    features[:, 1, :, :, 3:] += 5 * torch.rand(80)[:, None, None, None]  # the heart
    heads = training(features, said)
    classifier = nn.Module()
    classifier.attributes = AttributeHead(CHANNELS, 1, len(VALUE_NAMES), GRID)
    heads.fit_attributes(cast(Any, classifier))
    tokens = features.flatten(2).transpose(1, 2)
    flipped = features.flip(-1).flatten(2).transpose(1, 2)
    logits, other = (classifier.attributes(x)[:, 0, :2] for x in (tokens, flipped))
    torch.testing.assert_close(logits, other.flip(-1), rtol=1e-4, atol=1e-4)
    assert torch.equal(logits[:, 1] > 0, is_left == 1)
    # Cases that are left out teach nothing, mirrored or not.
    out = [number < 30 for number in range(80)]
    heads.fit_attributes(cast(Any, classifier), out)
    weights = classifier.attributes.weight.clone()
    training(features[30:], said[30:]).fit_attributes(cast(Any, classifier))
    torch.testing.assert_close(classifier.attributes.weight, weights)

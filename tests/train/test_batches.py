from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from uvlm.config import Chance, Params, SpatialConfig
from uvlm.data.contract import normalise
from uvlm.data.examples import Example, read_examples
from uvlm.data.label_scheme import scheme
from uvlm.read_ahead import read_ahead
from uvlm.seeding import generator
from uvlm.store import load_array
from uvlm.train import batches
from uvlm.train.batches import Arrays, CaseSampler
from uvlm.train.volume_batches import (
    ClsBatches,
    SegBatches,
    VolumeInputs,
    case_sampler,
    read_voxels,
)


@pytest.fixture
def examples(project: Any, params: Params) -> list[Example]:
    return read_examples(
        project.index, project.preprocess, params.preprocess, "train", project.label_maps
    )


def seg_source(examples: list[Example], params: Params, **changes: object) -> SegBatches:
    config = params.train_seg.model_copy(update=changes)
    classes = scheme("chest", "fine_lesion")
    return SegBatches(
        examples,
        Arrays(keep=True),
        params.preprocess,
        config,
        case_sampler(examples, config.balanced_fraction),
        np.ones(classes.num_classes),
        classes.lesion_ids,
        seed=3,
    )


def volume_source(examples: list[Example], params: Params) -> ClsBatches:
    config = params.train_cls
    inputs = VolumeInputs(examples, Arrays(keep=True), params.preprocess, config.augment)
    sampler = case_sampler(examples, 0.5)
    return ClsBatches("cls", examples, inputs, sampler, config.batch_size, seed=3)


@pytest.mark.parametrize("build", [seg_source, volume_source])
def test_a_batch_depends_on_its_number_alone(
    build: Callable[..., Any], examples: list[Example], params: Params
) -> None:
    forwards = [build(examples, params)(index) for index in range(4)]
    source = build(examples, params)
    backwards = [source(index) for index in reversed(range(4))][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        assert one.case_ids == other.case_ids
        for a, b in zip(one[1:], other[1:], strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(forwards[0].x, forwards[1].x)


def test_processes_that_prepare_ahead_give_the_same_batches(
    examples: list[Example], params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVLM_LOADERS", "1")
    source = seg_source(examples, params)
    ahead = list(read_ahead(source, range(1, 6, 2), torch.device("cpu")))
    assert [batch.case_ids for batch in ahead] == [source(i).case_ids for i in (1, 3, 5)]
    assert all(torch.equal(batch.x, source(i).x) for batch, i in zip(ahead, (1, 3, 5), strict=True))


def test_voxels_and_classes_of_a_patch_come_from_the_same_place(
    examples: list[Example], params: Params
) -> None:
    still = params.train_seg.augment.model_copy(
        update={"noise_std": 0.0, "shift_std": 0.0, "scale_std": 0.0, "roll_voxels": (1, 2, 2)}
    )
    source = seg_source(examples, params, augment=still, batch_size=16)
    batch = source(0)
    lesion, organ, air = (batch.x[:, 0][batch.target == c] for c in (44, 1, 0))
    assert lesion.min() > 0.6  # 800 HU
    assert organ.abs().max() < 0.3  # 50 HU
    assert air.max() < -0.6  # -900 HU


def test_forced_patches_show_the_lesion_and_random_ones_reach_everything(
    examples: list[Example], params: Params
) -> None:
    forced = seg_source(examples, params, foreground_fraction=1.0, batch_size=64)(0)
    shows: Tensor = (forced.target == 44).flatten(1).any(dim=1)
    assert shows.float().mean() > 0.5
    random = seg_source(examples, params, foreground_fraction=0.0, batch_size=64)(0)
    assert (random.target == 44).flatten(1).any(dim=1).float().mean() < shows.float().mean()


def test_turned_and_scaled_patches_keep_voxels_and_classes_together(
    examples: list[Example], params: Params
) -> None:
    always = SpatialConfig(
        rotation_deg=Chance(probability=1.0, between=(-30, 30)),
        scaling=Chance(probability=1.0, between=(0.7, 1.4)),
    )
    turned = params.train_seg.augment.model_copy(update={"spatial": always})
    batch = seg_source(examples, params, augment=turned, batch_size=32)(0)
    still = seg_source(examples, params, batch_size=32)(0)
    assert not torch.equal(batch.x, still.x)
    lesion, organ, air = (batch.x[:, 0][batch.target == c] for c in (44, 1, 0))
    assert lesion.median() > 0.5  # 800 HU
    assert organ.median().abs() < 0.3  # 50 HU
    assert air.median() < -0.6  # -900 HU
    assert set(batch.target.unique().tolist()) <= {0, 1, 44}


@pytest.mark.parametrize("kind", ["window", "zscore"])
def test_a_region_is_normalised_as_part_of_its_volume(
    kind: str, examples: list[Example], params: Params
) -> None:
    config = params.preprocess.model_copy(update={"normalise": kind})
    whole = normalise(load_array(examples[0].volume), config)
    region = (slice(2, 7), slice(0, 5), slice(8, 16))
    read = read_voxels(examples[0], Arrays(keep=False), config, region)
    np.testing.assert_allclose(read, whole[region], atol=1e-5)


def test_balanced_draws_give_every_abnormality_its_turn() -> None:
    labels = np.zeros((100, 3), dtype=np.int64)
    labels[:90, 0] = 1
    labels[99, 1] = 1  # one case in a hundred; abnormality 2 is never seen
    drawn = CaseSampler(labels, balanced_fraction=1.0).draw(4000, generator(0))
    assert 1840 < drawn.count(99) < 2160  # half of the draws, 5 standard deviations
    plain = CaseSampler(labels, balanced_fraction=0.0).draw(4000, generator(0))
    assert 10 < plain.count(99) < 80
    assert set(plain) == set(range(100))


def test_cases_without_any_abnormality_can_still_be_drawn() -> None:
    sampler = CaseSampler(np.zeros((4, 3), dtype=np.int64), balanced_fraction=1.0)
    assert set(sampler.draw(200, generator(0))) == {0, 1, 2, 3}


def test_small_sets_are_read_once_and_large_ones_never_kept(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []

    def counted(path: Path) -> Any:
        reads.append(path)
        return load_array(path)

    monkeypatch.setattr(batches, "load_array", counted)
    small = Arrays.sized(prod(examples[0].shape))
    assert small.whole(examples[0].volume) is small.whole(examples[0].volume)
    assert len(reads) == 1
    large = Arrays.sized(batches.CACHE_BYTES)
    region = (slice(0, 2), slice(3, 5), slice(6, 9))
    np.testing.assert_array_equal(
        large.region(examples[0].volume, region), small.region(examples[0].volume, region)
    )
    large.whole(examples[0].volume)
    large.whole(examples[0].volume)
    assert len(reads) == 3

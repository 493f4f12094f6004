"""Patches of stage 1: every voxel can come, and a forced patch holds what it was placed for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from uvlm.config import Grid, Params
from uvlm.data.cases import Case
from uvlm.data.examples import Example
from uvlm.data.label_scheme import IGNORE_ID
from uvlm.seeding import generator
from uvlm.train.batches import Arrays
from uvlm.train.seg import voxels_per_class
from uvlm.train.volume_batches import SegBatches, case_sampler

LESION, ORGAN = 44, 1


def make_example(name: str, labels: npt.NDArray[np.uint8]) -> Example:
    counts = {int(c): int(n) for c, n in enumerate(np.bincount(labels.ravel())) if n}
    case = Case(name, name, name, "train", "", None, {}, (0,) * 18, "", "")
    z, y, x = labels.shape
    return Example(case, Path(name), "", (z, y, x), (0.0, 1.0), Path(f"{name}.labels"), counts)


def make_source(
    params: Params,
    pairs: list[tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]],
    patch: Grid,
    **changes: Any,
) -> SegBatches:
    """Give volumes and their label maps from memory; the window keeps every value apart."""
    grid = pairs[0][0].shape
    window = (0, max(1, int(pairs[0][0].max())))
    examples = [make_example(f"case_{i}", labels) for i, (_, labels) in enumerate(pairs)]
    kept: dict[Path, npt.NDArray[Any]] = {}
    for example, (volume, labels) in zip(examples, pairs, strict=True):
        assert example.label_map is not None
        kept |= {example.volume: volume, example.label_map: labels}
    silent = dict.fromkeys(("noise_std", "shift_std", "scale_std", "gamma_std"), 0.0)
    augment = params.train_seg.augment.model_copy(update=silent | {"roll_voxels": (0, 0, 0)})
    config = params.train_seg.model_copy(update={"patch": patch, "augment": augment, **changes})
    return SegBatches(
        examples,
        Arrays(keep=True, kept=kept),
        params.preprocess.model_copy(update={"grid": grid, "window_hu": window}),
        config,
        case_sampler(examples, 0.0),
        rarity=np.ones(49),
        lesion_ids=frozenset({LESION}),
        seed=5,
    )


def with_lesion(shape: Grid, number: int) -> npt.NDArray[np.uint8]:
    """A lesion of 6 x 6 x 6 voxels; the first two lie in opposite corners of the volume."""
    rng = generator(number, "lesion")
    corner = [int(rng.integers(0, size - 5)) for size in shape]
    if number < 2:
        corner = [number * (size - 6) for size in shape]
    labels = np.zeros(shape, dtype=np.uint8)
    labels[tuple(slice(c, c + 6) for c in corner)] = LESION
    return labels


@pytest.mark.slow
@pytest.mark.parametrize("patch", [(24, 32, 32), (32, 48, 48)])
def test_forced_patches_hold_the_whole_of_a_small_lesion(params: Params, patch: Grid) -> None:
    shape = (48, 80, 96)
    pairs = [(np.zeros(shape, np.int16), with_lesion(shape, number)) for number in range(12)]
    source = make_source(params, pairs, patch, foreground_fraction=1.0, batch_size=2)
    targets = [target for index in range(150) for target in source(index).target]
    share = np.mean([(target == LESION).sum() == 6**3 for target in targets])
    assert share >= 0.99
    unforced = make_source(params, pairs, patch, foreground_fraction=0.0, batch_size=2)
    targets = [target for index in range(150) for target in unforced(index).target]
    assert np.mean([(target == LESION).any() for target in targets]) < 0.6


def test_patches_reach_every_voxel_of_the_volume(params: Params) -> None:
    shape = (8, 14, 12)
    volume = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    source = make_source(
        params,
        [(volume, np.zeros(shape, np.uint8))],
        (4, 8, 8),
        foreground_fraction=0.5,
        batch_size=2,
    )
    seen: set[int] = set()
    for index in range(300):
        values = (source(index).x.double().numpy() + 1) / 2 * volume.max()
        seen |= set(values.round().astype(int).ravel().tolist())
    assert seen == set(range(volume.size))


def test_a_case_with_organs_is_forced_to_its_lesion_half_of_the_time(params: Params) -> None:
    """Where the lesion was meant, the patch holds it; the rest of the patches go to organs."""
    shape = (24, 40, 96)
    labels = with_lesion(shape, 0)
    labels[:, 20:, 60:] = ORGAN  # too far for one patch to hold both
    source = make_source(
        params,
        [(np.zeros(shape, np.int16), labels)],
        (24, 32, 32),
        foreground_fraction=1.0,
        batch_size=1,
    )
    targets = [source(index).target for index in range(400)]
    lesion = np.array([bool((target == LESION).any()) for target in targets])
    organ = np.array([bool((target == ORGAN).any()) for target in targets])
    assert (lesion ^ organ).all()
    assert abs(lesion.mean() - 0.5) < 0.12  # nearly 5 standard deviations


def test_ignored_voxels_are_no_class_to_place_a_patch_on_or_to_count(params: Params) -> None:
    shape = (8, 16, 16)
    labels = np.full(shape, IGNORE_ID, dtype=np.uint8)
    labels[:, :4, :4], labels[:2, :2, :2] = 0, ORGAN
    source = make_source(
        params,
        [(np.zeros(shape, np.int16), labels)],
        (4, 4, 4),
        foreground_fraction=1.0,
        batch_size=1,
    )
    assert all((source(index).target == ORGAN).any() for index in range(50))
    counts = voxels_per_class(source.examples, 49)
    assert counts[ORGAN] == 8
    assert counts[0] == 8 * 16 - 8
    assert counts.sum() == 8 * 16

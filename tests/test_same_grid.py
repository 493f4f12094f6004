"""Two grids are one when no corner lies more than half a voxel apart, wherever that is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from uvlm.data.ct.grid_rules import is_on_grid
from uvlm.data.ct.io import read_grid, write_label_map, write_volume
from uvlm.data.ct.volume import LabelMap, Volume
from uvlm.data.labels.pseudo.published import on_the_grid_of
from uvlm.data.labels.quality import check_labels
from uvlm.errors import DataError
from uvlm.evaluation.surface import structure_scores
from uvlm.train.overfit.config import OverfitConfig
from uvlm.train.overfit.overfit import read_subject

SHAPE = (8, 10, 9)
SPACING = (5.0, 0.7, 0.8)  # of z, y, x: 0.1 mm is no part of any rule
AFFINE = np.zeros((4, 4))
AFFINE[[2, 1, 0], [0, 1, 2]], AFFINE[3, 3] = SPACING, 1.0
LIVER = 5  # of TotalSegmentator's task `total`


def shifted(axis: int, voxels: float) -> LabelMap:
    """Labels that lie so many voxels along z, y or x beside the CT."""
    array = np.zeros(SHAPE, np.uint8)
    array[1:5, 1:6, 1:8] = LIVER
    affine = AFFINE.copy()
    affine[:3, 3] += voxels * AFFINE[:3, axis]
    return LabelMap(array, affine)


def write(folder: Path, labels: LabelMap) -> tuple[Path, Path]:
    ct, path = folder / "ct.nii.gz", folder / "labels.nii.gz"
    hu = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
    write_volume(ct, Volume(hu, AFFINE))
    write_label_map(path, labels)
    return ct, path


def is_taken(compare: Callable[[], object]) -> bool:
    try:
        compare()
    except DataError as error:
        return "another grid" not in str(error)
    return True


def by_surface(_: Path, labels: LabelMap) -> bool:
    names = [str(number) for number in range(LIVER + 1)]
    return is_taken(lambda: structure_scores(shifted(0, 0), labels, names))


def by_overfit(folder: Path, labels: LabelMap) -> bool:
    return is_taken(lambda: read_subject(*write(folder, labels), OverfitConfig()))


def by_published_masks(folder: Path, labels: LabelMap) -> bool:
    ct, path = write(folder, labels)
    return is_taken(lambda: on_the_grid_of(read_grid(ct), path))


def by_check_labels(folder: Path, labels: LabelMap) -> bool:
    return not check_labels(*write(folder, labels), "total", "adult").regridded


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("place", [by_surface, by_overfit, by_published_masks, by_check_labels])
def test_labels_four_tenths_of_a_voxel_away_are_on_the_grid_and_six_tenths_are_not(
    place: Callable[[Path, LabelMap], bool], axis: int, tmp_path: Path
) -> None:
    assert place(tmp_path, shifted(axis, 0.4))
    assert not place(tmp_path, shifted(axis, 0.6))
    assert not place(tmp_path, shifted(axis, -0.6))


def test_a_spacing_counts_by_how_far_it_takes_the_last_corner() -> None:
    for factor, expected in ((1 + 0.4 / 8, True), (1 + 0.6 / 8, False)):  # 9 voxels, 8 steps
        affine = AFFINE.copy()
        affine[0, 2] *= factor
        assert is_on_grid(LabelMap(shifted(0, 0).array, affine), SHAPE, AFFINE) is expected


def test_another_number_of_voxels_or_no_number_is_another_grid() -> None:
    labels = shifted(0, 0)
    assert is_on_grid(labels, SHAPE, AFFINE)
    assert not is_on_grid(LabelMap(labels.array[:-1], AFFINE), SHAPE, AFFINE)
    assert not is_on_grid(LabelMap(labels.array, np.full((4, 4), np.nan)), SHAPE, AFFINE)

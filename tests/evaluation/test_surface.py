from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.meandice import compute_dice
from monai.metrics.surface_distance import compute_average_surface_distance
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree

from uvlm.data.ct.io import read_label_map
from uvlm.data.ct.volume import LabelMap
from uvlm.errors import DataError
from uvlm.evaluation.surface import mask_pair_scores, percentile, structure_scores

SPACING = (2.0, 1.0, 0.5)
NAMES = ("background", "box", "ball", "lost")


def label_map(array: npt.NDArray[np.uint8], spacing: tuple[float, ...] = SPACING) -> LabelMap:
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = spacing
    affine[3, 3] = 1.0
    return LabelMap(array, affine)


def surface_points(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    inner = binary_erosion(mask)
    points: npt.NDArray[np.float64] = np.argwhere(mask & ~inner) * np.asarray(SPACING)
    return points


def ball(shift: int) -> npt.NDArray[np.bool_]:
    z, y, x = np.indices((16, 20, 24))
    inside: npt.NDArray[np.bool_] = (z - 8) ** 2 + (y - 10) ** 2 + (x - 12 - shift) ** 2 < 30
    return inside


def test_distances_equal_those_between_all_pairs_of_surface_voxels() -> None:
    reference, predicted = ball(0), ball(3)
    scores = mask_pair_scores(reference, predicted, SPACING)
    to, back = (
        cKDTree(surface_points(a)).query(surface_points(b))[0]
        for a, b in ((reference, predicted), (predicted, reference))
    )
    assert scores["surface_distance"] == pytest.approx(np.concatenate([to, back]).mean(), rel=1e-5)
    far = max(np.percentile(to, 95), np.percentile(back, 95))
    assert scores["hausdorff_95"] == pytest.approx(far, rel=1e-5)
    overlap = 2 * (reference & predicted).sum() / (reference.sum() + predicted.sum())
    assert scores["dice"] == pytest.approx(overlap)


@pytest.mark.parametrize("count", [1, 2, 3, 20, 21, 22, 1000, 54_321])
def test_the_percentile_is_that_of_torch_to_the_bit(count: int) -> None:
    distances = torch.rand(count, generator=torch.Generator().manual_seed(count))
    for values in (distances, distances.double(), (4 * distances).round()):
        assert percentile(values) == float(torch.quantile(values, 0.95))


@pytest.mark.slow
def test_the_percentile_of_more_numbers_than_torch_takes() -> None:
    distances = torch.arange(2**24 + 21, dtype=torch.float32) % 1000
    with pytest.raises(RuntimeError, match="too large"):
        torch.quantile(distances, 0.95)
    assert percentile(distances) == pytest.approx(np.percentile(distances.numpy(), 95), abs=1e-3)


def test_both_distances_are_those_of_monais_own_functions() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        shape = tuple(int(size) for size in rng.integers(3, 12, 3))
        reference, predicted = rng.random(shape) < 0.3, rng.random(shape) < 0.3
        reference[tuple(rng.integers(0, shape))] = predicted[tuple(rng.integers(0, shape))] = True
        scores = mask_pair_scores(reference, predicted, SPACING)
        written, wanted = (torch.from_numpy(m)[None, None] for m in (predicted, reference))
        options: dict[str, Any] = {"include_background": True, "spacing": list(SPACING)}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
            mean = compute_average_surface_distance(written, wanted, symmetric=True, **options)
            far = compute_hausdorff_distance(written, wanted, percentile=95, **options)
        assert scores["surface_distance"] == pytest.approx(float(mean), rel=1e-6)
        assert scores["hausdorff_95"] == pytest.approx(float(far), rel=1e-6)
        assert scores["dice"] == pytest.approx(float(compute_dice(written, wanted)), rel=1e-6)


def test_a_box_one_slice_too_long_is_half_a_slice_away_at_most() -> None:
    reference, predicted = (np.zeros((10, 10, 10), np.uint8) for _ in range(2))
    reference[2:6, 2:8, 2:8] = predicted[2:7, 2:8, 2:8] = 1
    rows = structure_scores(label_map(reference), label_map(predicted), NAMES)
    assert [row["name"] for row in rows] == ["box"]
    assert rows[0]["dice"] == pytest.approx(2 * 4 / 9)
    assert rows[0]["hausdorff_95"] == pytest.approx(2.0)  # one slice of 2 mm
    assert 0.0 < rows[0]["surface_distance"] < 1.0


def test_a_structure_that_is_not_predicted_has_dice_zero_and_no_distance() -> None:
    reference = np.zeros((6, 6, 6), np.uint8)
    reference[1:3], reference[4] = 1, 3
    predicted = np.where(reference == 1, reference, 0).astype(np.uint8)
    box, lost = structure_scores(label_map(reference), label_map(predicted), NAMES)
    assert (box["dice"], box["surface_distance"], box["hausdorff_95"]) == (1.0, 0.0, 0.0)
    assert lost["name"] == "lost"
    assert lost["dice"] == 0.0
    assert np.isnan(lost["surface_distance"])


def test_a_missing_mask_is_infinitely_far_from_every_structure() -> None:
    reference = np.zeros((6, 6, 6), np.uint8)
    reference[1:3], reference[4] = 1, 3
    rows = structure_scores(label_map(reference), None, NAMES)
    assert [row["name"] for row in rows] == ["box", "lost"]
    assert all(row["dice"] == 0.0 and row["surface_distance"] == np.inf for row in rows)


def test_masks_on_two_grids_are_refused() -> None:
    reference = label_map(np.ones((4, 4, 4), np.uint8))
    with pytest.raises(DataError, match=r"\(4, 4, 5\).*\(4, 4, 4\)"):
        structure_scores(reference, label_map(np.ones((4, 4, 5), np.uint8)), NAMES)
    other = label_map(np.ones((4, 4, 4), np.uint8), (1.0, 1.0, 1.0))
    with pytest.raises(DataError, match="compare on one grid"):
        structure_scores(reference, other, NAMES)


def test_a_real_label_map_and_itself_moved_by_one_voxel(real_data: Path) -> None:
    real = read_label_map(real_data / "ct" / "chest_abdomen_3mm_totalsegmentator.nii.gz")
    largest = real.array * (real.array == np.bincount(real.array[real.array > 0]).argmax())
    truth = LabelMap(largest, real.affine)
    names = [str(number) for number in range(256)]
    (same,) = structure_scores(truth, truth, names)
    moved = LabelMap(np.roll(largest, 1, axis=2), real.affine)
    (shifted,) = structure_scores(truth, moved, names)
    assert (same["dice"], same["surface_distance"], same["hausdorff_95"]) == (1.0, 0.0, 0.0)
    assert shifted["dice"] > 0.8
    assert 0.0 < shifted["surface_distance"] < real.spacing[2] + 0.1

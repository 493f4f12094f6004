from __future__ import annotations

import numpy as np
import pytest

from uvlm.data.label_scheme import IGNORE_ID
from uvlm.errors import DataError
from uvlm.evaluation.segmentation import dice_of_present, mean_over_classes, overlap_counts


def naive_dice(reference: np.ndarray, predicted: np.ndarray, label: int) -> float:
    hits = sum(
        int(a == label and b == label)
        for a, b in zip(reference.ravel(), predicted.ravel(), strict=True)
    )
    size = int((reference == label).sum() + (predicted == label).sum())
    return 2 * hits / size


def test_dice_equals_a_naive_voxel_loop_and_is_undefined_for_absent_classes() -> None:
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 4, (4, 5, 6)).astype(np.uint8)
    predicted = rng.integers(0, 6, (4, 5, 6)).astype(np.uint8)
    dice = dice_of_present(overlap_counts("case", reference, predicted, 6))
    for label in range(4):
        assert dice[label] == pytest.approx(naive_dice(reference, predicted, label))
    assert np.isnan(dice[4:]).all()


def test_a_missing_mask_scores_zero_on_everything_present() -> None:
    reference = np.array([[[0, 1, 2, 2]]], dtype=np.uint8)
    dice = dice_of_present(overlap_counts("case", reference, None, 3))
    assert dice[1:].tolist() == [0.0, 0.0]


def test_a_case_averages_over_its_own_classes_only() -> None:
    dice = np.array([[np.nan, 0.5, 1.0, np.nan], [np.nan, np.nan, np.nan, 0.2]])
    np.testing.assert_allclose(mean_over_classes(dice, {1, 2}), [0.75, np.nan])
    np.testing.assert_allclose(mean_over_classes(dice, {2, 3}), [1.0, 0.2])


def test_a_mask_on_another_grid_is_refused_with_the_case() -> None:
    with pytest.raises(DataError, match=r"train_1.*\(2, 2, 3\).*\(2, 2, 2\)"):
        overlap_counts("train_1", np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8), 2)


def test_a_label_that_is_no_class_is_refused() -> None:
    with pytest.raises(DataError, match="label 7 but the scheme has 3 classes"):
        overlap_counts("case", np.zeros((1, 1, 2), np.uint8), np.full((1, 1, 2), 7, np.uint8), 3)


def test_voxels_that_nobody_labelled_are_not_scored() -> None:
    reference = np.array([[[0, 1, 1, IGNORE_ID, IGNORE_ID, 2]]], dtype=np.uint8)
    predicted = np.array([[[0, 1, 2, 1, 2, 2]]], dtype=np.uint8)
    counts = overlap_counts("case", reference, predicted, 3)
    assert counts.tolist() == [[1, 1, 1], [1, 2, 1], [1, 1, 2]]
    missing = overlap_counts("case", reference, None, 3)
    assert missing.tolist() == [[1, 0, 0], [1, 2, 1], [4, 0, 0]]

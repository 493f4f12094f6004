from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from uvlm.data.label_scheme import scheme
from uvlm.train.scores import classifier_scores, dice_scores, tune_thresholds


def test_classifier_scores_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (60, 4))
    probabilities = np.round(0.5 * truth + 0.7 * rng.random((60, 4)), 2).clip(0, 1)
    scores = classifier_scores(probabilities, truth, list("abcd"))
    f1 = f1_score(truth, probabilities >= 0.5, average="macro")
    auroc = roc_auc_score(truth, probabilities, average="macro")
    assert scores.metrics["val_macro_f1"] == pytest.approx(f1)
    assert scores.metrics["val_macro_auroc"] == pytest.approx(auroc)
    assert scores.score == pytest.approx((f1 + auroc) / 2)
    thresholds = np.array([scores.kept[f"threshold.{name}"] for name in "abcd"])
    tuned = f1_score(truth, probabilities >= thresholds, average="macro")
    assert scores.metrics["val_macro_f1_tuned"] == pytest.approx(tuned)


def test_no_threshold_gives_a_better_f1_than_the_tuned_one() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, (40, 3))
    probabilities = 0.3 * truth + 0.6 * rng.random((40, 3))
    tuned = tune_thresholds(truth.astype(bool), probabilities)
    for a in range(3):
        grid = [f1_score(truth[:, a], probabilities[:, a] >= cut) for cut in np.linspace(0, 1, 41)]
        best = f1_score(truth[:, a], probabilities[:, a] >= tuned[a])
        assert best >= max(grid) - 1e-12


def test_thresholds_by_hand() -> None:
    probabilities = np.array([[0.1, 0.2, 0.9], [0.2, 0.3, 0.1], [0.4, 0.4, 0.2]])
    truth = np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], dtype=bool)
    # midway between 0.2 and 0.4; no positive; 0.5 already separates
    assert tune_thresholds(truth, probabilities).tolist() == pytest.approx([0.3, 0.5, 0.5])


def test_dice_averages_lesions_and_anatomy_alike() -> None:
    classes = scheme("chest", "coarse_lesion")
    organ, lesion = min(classes.anatomy_ids), min(classes.lesion_ids)
    dice = np.full((2, classes.num_classes), np.nan)
    dice[:, organ] = [0.8, 0.6]
    dice[1, lesion] = 0.2
    scores = dice_scores(dice, classes)
    assert scores.metrics == pytest.approx({"val_dice": 0.7, "val_lesion_dice": 0.2})
    assert scores.score == pytest.approx(0.45)

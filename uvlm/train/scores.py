"""What a validation measures, with the same definitions as the stage `evaluate`.

N cases, A abnormalities, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uvlm.arrays import Counts, Flags, Floats
from uvlm.data.label_scheme import LabelScheme
from uvlm.evaluation.calibration import TEMPERATURE, fit_temperature
from uvlm.evaluation.classification import per_class_f1, ranking
from uvlm.evaluation.segmentation import mean_over_classes
from uvlm.train.loop.fit import Scores


def dice_scores(dice: Floats, labels: LabelScheme) -> Scores:
    """Score Dice (N, C), NaN where a case lacks a class: mean of anatomy's and of lesions' mean."""
    metrics = {"val_dice": _mean(mean_over_classes(dice, labels.anatomy_ids))}
    if labels.lesion_ids:
        metrics["val_lesion_dice"] = _mean(mean_over_classes(dice, labels.lesion_ids))
    return Scores(sum(metrics.values()) / len(metrics), metrics)


def classifier_scores(probabilities: Floats, abnormalities: Counts, names: Sequence[str]) -> Scores:
    """Score (N, A) probabilities by the mean of macro-F1 at 0.5 and macro-AUROC.

    The thresholds tuned on these cases, and the temperature fitted on them, are kept with the
    weights but not logged.
    """
    truth = abnormalities.astype(bool)
    auroc, _ = ranking(truth, probabilities, np.ones((1, len(truth))))
    thresholds = tune_thresholds(truth, probabilities)
    metrics = {
        "val_macro_f1": macro_f1(probabilities >= 0.5, truth),
        "val_macro_f1_tuned": macro_f1(probabilities >= thresholds, truth),
        "val_macro_auroc": _mean(auroc, otherwise=0.5),
    }
    kept = {f"threshold.{name}": float(t) for name, t in zip(names, thresholds, strict=True)}
    kept[TEMPERATURE] = fit_temperature(truth, probabilities)
    return Scores((metrics["val_macro_f1"] + metrics["val_macro_auroc"]) / 2, metrics, kept)


def tune_thresholds(truth: Flags, probabilities: Floats) -> Floats:
    """Choose per class the cut (A,) with the best F1, midway between two probabilities.

    A probability at or above its cut is a claim. Of equal cuts the one nearest 0.5 wins; a class
    without positives keeps 0.5.
    """
    cuts = np.full(truth.shape[1], 0.5)
    for a in np.flatnonzero(truth.any(axis=0)):
        # F1 changes only where a cut passes a probability, so one cut per gap is enough.
        values = np.unique(probabilities[:, a])
        candidates = np.concatenate([[0.5], values[:1], (values[1:] + values[:-1]) / 2])
        claimed = probabilities[:, a, None] >= candidates  # (N, candidates)
        f1 = per_class_f1(np.broadcast_to(truth[:, a, None], claimed.shape), claimed)[2]
        # Equal F1s may differ in their last digit.
        best = candidates[f1 >= f1.max() - 1e-12]
        cuts[a] = best[np.argmin(np.abs(best - 0.5))]
    return cuts


def macro_f1(claimed: Flags, truth: Flags) -> float:
    """Average F1 over the abnormalities, (N, A) both."""
    return float(per_class_f1(truth, claimed)[2].mean())


def _mean(values: Floats, otherwise: float = 0.0) -> float:
    """Average the values that are not NaN."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else otherwise

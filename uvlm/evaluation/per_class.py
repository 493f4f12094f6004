"""How well the classifier and the reports find each abnormality.

N cases, A abnormalities.
"""

from __future__ import annotations

from typing import Any, Final

from uvlm.arrays import Flags, Floats
from uvlm.evaluation.bootstrap import Resamples, Samples, with_interval
from uvlm.evaluation.classification import ranking
from uvlm.evaluation.missing import wrong_probabilities
from uvlm.evaluation.reference import DEFAULT_THRESHOLD, Reference
from uvlm.evaluation.scores import per_class_samples

LEARNED_F1: Final = 0.3
LEARNED_AUROC: Final = 0.7


def abnormality_rows(
    reference: Reference, claimed: Flags, probabilities: Floats | None, thresholds: Floats
) -> list[dict[str, Any]]:
    """One row per class: its support, its scores, and why it does not count as learned.

    A class without a positive case is not judged, as no report could show that it was learned.

    Args:
        reference: what is true of the N cases.
        claimed: (N, A) what the generated reports claim.
        probabilities: (N, A) of the classifier, where there is one; a row of NaN is a missing one.
        thresholds: (A,) tuned on validation.
    """
    labels, resamples = reference.labels, reference.resamples
    columns = _prf("report", labels, claimed, resamples)
    if probabilities is not None:
        probabilities = wrong_probabilities(labels, probabilities)
        columns |= _prf("cls", labels, probabilities >= DEFAULT_THRESHOLD, resamples)
        tuned = per_class_samples(labels, probabilities >= thresholds, resamples)
        auroc, auprc = ranking(labels, probabilities, resamples.weights)
        # A threshold is the same in every sample: one row, (1, A), so it gets no interval.
        columns |= {"cls_f1_tuned": tuned["f1"], "threshold": thresholds[None]}
        columns |= {"cls_auroc": auroc, "cls_auprc": auprc}
    rows = []
    for number, name in enumerate(reference.names):
        row: dict[str, Any] = {"name": name, "support": int(labels[:, number].sum())}
        for key, samples in columns.items():
            row |= with_interval(key, samples[:, number])  # (1 + R, A) -> (1 + R,)
        rows.append(row | {"not_learned": _shortcomings(row)})
    return rows


def _prf(prefix: str, labels: Flags, claimed: Flags, resamples: Resamples) -> Samples:
    samples = per_class_samples(labels, claimed, resamples)
    return {f"{prefix}_{name}": values for name, values in samples.items()}


def _shortcomings(row: dict[str, Any]) -> list[str]:
    reasons: list[str] = []
    if not row["support"]:
        return reasons
    if row["report_f1"] < LEARNED_F1:
        reasons.append(f"report F1 {row['report_f1']:.2f} is below {LEARNED_F1}")
    auroc = row.get("cls_auroc")
    if auroc is not None and auroc < LEARNED_AUROC:
        reasons.append(f"classifier AUROC {auroc:.2f} is below {LEARNED_AUROC}")
    return reasons

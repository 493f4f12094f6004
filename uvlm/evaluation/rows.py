"""One row per abnormality: how well the classifier and the reports find it.

N cases, A abnormalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from uvlm.evaluation.classification import ranking
from uvlm.evaluation.scores import per_class_f1

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
LEARNED_F1: Final = 0.3
LEARNED_AUROC: Final = 0.7


def abnormality_rows(
    names: Sequence[str],
    labels: Flags,
    claimed: Flags,
    probabilities: Floats | None,
    thresholds: Floats,
) -> list[dict[str, Any]]:
    """Support, scores and what keeps a class from counting as learned, in the given order.

    Args:
        names: the A abnormalities.
        labels: (N, A) truth.
        claimed: (N, A) what the generated reports claim.
        probabilities: (N, A) of the classifier, where there is one.
        thresholds: (A,) tuned on validation.
    """
    columns: dict[str, Floats] = _prf("report", labels, claimed)
    if probabilities is not None:
        columns |= _prf("cls", labels, probabilities >= 0.5)
        columns["cls_f1_tuned"] = per_class_f1(labels, probabilities >= thresholds)[2]
        columns["threshold"] = thresholds
        auroc, auprc = ranking(labels, probabilities, np.ones((1, len(labels))))
        columns |= {"cls_auroc": auroc[0], "cls_auprc": auprc[0]}
    rows = []
    for number, name in enumerate(names):
        row: dict[str, Any] = {"name": name, "support": int(labels[:, number].sum())}
        row |= {key: _rounded(values[number]) for key, values in columns.items()}
        rows.append(row | {"not_learned": _shortcomings(row)})
    return rows


def not_learned(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the classes that have at least one shortcoming."""
    return [row["name"] for row in rows if row["not_learned"]]


def _prf(prefix: str, labels: Flags, claimed: Flags) -> dict[str, Floats]:
    keys = (f"{prefix}_precision", f"{prefix}_recall", f"{prefix}_f1")
    return dict(zip(keys, per_class_f1(labels, claimed), strict=True))


def _rounded(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def _shortcomings(row: dict[str, Any]) -> list[str]:
    reasons = []
    if row["report_f1"] < LEARNED_F1:
        reasons.append(f"report F1 {row['report_f1']:.2f} is below {LEARNED_F1}")
    auroc = row.get("cls_auroc")
    if auroc is not None and auroc < LEARNED_AUROC:
        reasons.append(f"classifier AUROC {auroc:.2f} is below {LEARNED_AUROC}")
    return reasons

"""The summary page's numbers on their own scales: three averages of F1, and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from uvlm.config import F1_AVERAGES
from uvlm.pages.tables import Number, ScoreRow, ScoreTable, number_at

_CALIBRATION: Final = {
    "Brier score": "brier",
    "ECE, all classes together": "ece",
    "ECE, mean over classes": "macro_ece",
}


def averages_table(metrics: Mapping[str, Any]) -> ScoreTable:
    """Show F1 in three averages, each beside the best constant of its own."""
    beside = metrics["averages"]
    claims = ", ".join(str(beside[name]["num_claimed"]) for name in F1_AVERAGES)

    def beside_row(label: str, kind: str, key: str) -> ScoreRow:
        return ScoreRow(label, kind, tuple(number_at(beside[name], key) for name in F1_AVERAGES))

    def row(label: str, kind: str, scores: Mapping[str, Any], ending: str = "") -> ScoreRow:
        numbers = (number_at(scores, f"{name}{ending}") for name in F1_AVERAGES)
        return ScoreRow(label, kind, tuple(numbers))

    rows = [row("This model", "ours", metrics["report"])]
    rows += [beside_row(f"Best constant, claims {claims} abnormalities", "beside", "constant")]
    rows += [beside_row("This model above it", "beside", "above")]
    if metrics["cls"]:
        rows += [row("Classifier, tuned thresholds", "beside", metrics["cls"], "_tuned")]
    rows += [row("Reference reports (labeller's ceiling)", "ceiling", metrics["oracle"])]
    limits = metrics["length_limits"]
    if "not_computed" not in limits:
        rows += [
            row(f"Reference reports cut to {limit} words", "ceiling", cut)
            for limit, cut in limits.items()
        ]
    title = "F1 in three averages; a published number is to be held against its own average only"
    return ScoreTable(title, ("Macro", "Support-weighted", "Micro"), rows)


def calibration_rows(metrics: Mapping[str, Any]) -> list[tuple[str, Number, Number]]:
    """List what probabilities are worth: as they are, then tempered; none without a classifier."""
    scores = metrics["calibration"]
    if not scores:
        return []
    rows = [
        (title, number_at(scores, name), number_at(scores, f"{name}_tempered"))
        for title, name in _CALIBRATION.items()
    ]
    constant = "Brier score of stating the prevalence"
    return [*rows, (constant, number_at(scores, "prevalence_brier"), Number(None))]


def temperature_of(metrics: Mapping[str, Any]) -> str:
    """Write the temperature; nothing if there is none."""
    temperature = metrics["calibration"].get("temperature")
    return "" if temperature is None else f"{temperature:.3g}"

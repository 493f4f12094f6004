"""The numbers of a run as MLflow shows them: a few by which runs are compared, by dotted names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pipeline.profiles import flatten

REPORT: Final = ("report.macro_f1", "report.macro_precision", "report.macro_recall", "report.crg",
                 "report.bleu_mean", "report.rouge_l")  # fmt: skip
CLASSIFIER: Final = ("cls.macro_f1", "cls.macro_f1_tuned", "cls.macro_precision",
                     "cls.macro_recall", "cls.macro_auroc", "cls.crg")  # fmt: skip
MASKS: Final = ("seg.dice", "seg.lesion_dice", "seg.detection.macro_f1")
# What the parent run of a pipeline shows; all other numbers are in its metrics.json.
HEADLINE: Final = (*REPORT, *CLASSIFIER, *MASKS)


def numbers_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Keep the numbers of nested metrics under dotted names; an interval becomes two numbers."""
    numbers: dict[str, float] = {}
    for name, value in flatten(dict(metrics)).items():
        if isinstance(value, int | float):
            numbers[name] = float(value)
        elif name.endswith("_ci") and value:
            numbers[f"{name}_low"], numbers[f"{name}_high"] = map(float, value)
    return numbers


def headline_of(numbers: Mapping[str, float]) -> dict[str, float]:
    """Keep the numbers by which runs are compared."""
    return {name: numbers[name] for name in HEADLINE if name in numbers}

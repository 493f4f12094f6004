"""What is known of the predicted masks, arranged as the summary page shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from uvlm.pages.tables import Number, number_at

_DETECTION: Final = ("precision", "recall", "f1")
_STRUCTURE: Final = ("dice", "native_dice", "surface_distance", "hausdorff_95")


@dataclass(frozen=True)
class DetectionRow:
    """How a lesion is detected from masks: where it must lie, positives of validation and test."""

    lesion: str
    organ: str
    val_positives: int | None
    positives: int | None
    threshold_mm3: int | None
    numbers: tuple[Number, ...]  # precision, recall, F1


@dataclass(frozen=True)
class StructureRow:
    """Dice on the network's grid and the CT's, distances in mm, and how many cases each is over."""

    name: str
    counts: tuple[int, int, int]  # on the grid, in the CT, with a distance
    numbers: tuple[Number, ...]


def detection_rows(detection: Mapping[str, Any]) -> list[DetectionRow]:
    """Line up every lesion that occurs in validation or test, then the mean over those of test."""
    rows = [
        DetectionRow(
            name.replace("_", " "),
            scores["organ"].replace("_", " ") or "anywhere",
            scores["val_support"],
            scores["support"],
            scores["threshold_mm3"],
            tuple(number_at(scores, key) for key in _DETECTION),
        )
        for name, scores in detection.get("lesions", {}).items()
        if scores["support"] or scores["val_support"]
    ]
    if rows:
        macro = tuple(number_at(detection, f"macro_{key}") for key in _DETECTION)
        title = f"mean over {detection['n_lesions']} lesions"
        rows.append(DetectionRow(title, "", None, None, None, macro))
    return rows


def structure_rows(structures: Sequence[Mapping[str, Any]], kind: str) -> list[StructureRow]:
    """Line up the structures of one kind."""
    return [
        StructureRow(
            row["name"].replace("_", " "),
            (row["n"], row["n_native"], row["n_distance"]),
            tuple(number_at(row, key) for key in _STRUCTURE),
        )
        for row in structures
        if row["kind"] == kind
    ]

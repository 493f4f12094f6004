"""The scores of the predicted masks, arranged as the summary page shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from uvlm.pages.tables import number_at

_DETECTION: Final = ("precision", "recall", "f1")
_STRUCTURE: Final = ("dice", "native_dice", "surface_distance", "hausdorff_95")


def detection_rows(detection: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List every lesion that occurs in validation or test, then the mean over those of test."""
    rows = [
        {
            "lesion": name.replace("_", " "),
            "organ": scores["organ"].replace("_", " ") or "anywhere",
            "counts": (scores["val_support"], scores["support"], scores["threshold_mm3"]),
            "numbers": [number_at(scores, key) for key in _DETECTION],
        }
        for name, scores in detection.get("lesions", {}).items()
        if scores["support"] or scores["val_support"]
    ]
    if rows:
        title = f"mean over {detection['n_lesions']} lesions"
        macro = [number_at(detection, f"macro_{key}") for key in _DETECTION]
        rows.append({"lesion": title, "organ": "", "counts": (None,) * 3, "numbers": macro})
    return rows


def structure_rows(structures: Sequence[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    """List the structures of one kind: Dice on the network's grid and the CT's, distances in mm.

    `counts` are the cases on the grid, in the CT, and with a distance.
    """
    return [
        {
            "name": row["name"].replace("_", " "),
            "counts": (row["n"], row["n_native"], row["n_distance"]),
            "numbers": [number_at(row, key) for key in _STRUCTURE],
        }
        for row in structures
        if row["kind"] == kind
    ]

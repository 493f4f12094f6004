"""Predicted masks against the reference label maps of the test split, both on the network grid.

N cases, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uvlm.config import LabelMapsConfig
from uvlm.data.label_scheme import LabelScheme, scheme
from uvlm.evaluation.bootstrap import Resamples, with_interval
from uvlm.evaluation.segmentation import (
    DICE_RULE,
    dice_of_present,
    mean_over_classes,
    overlap_counts,
)
from uvlm.store import Row, load_array, read_manifest, resolve

Floats = npt.NDArray[np.float64]


def mask_scores(
    config: LabelMapsConfig,
    case_ids: Sequence[str],
    label_maps: Path,
    generated_masks: Path,
    resamples: Resamples,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Mean Dice on anatomy and lesions, and one row per structure.

    Cases without a reference label map do not count; cases without a predicted one score 0.
    """
    classes = scheme(config.dataset, config.scheme)
    dice = _dice_by_case(classes, case_ids, label_maps, generated_masks)
    anatomy = mean_over_classes(dice, classes.anatomy_ids - {0})
    lesion = mean_over_classes(dice, classes.lesion_ids)
    scores = {
        **with_interval("dice", resamples.means(anatomy)),
        **with_interval("lesion_dice", resamples.means(lesion)),
        "n": int(np.isfinite(anatomy).sum()),
        "lesion_n": int(np.isfinite(lesion).sum()),
        "rule": DICE_RULE,
    }
    return scores, _structure_rows(classes, dice)


def _dice_by_case(
    classes: LabelScheme, case_ids: Sequence[str], label_maps: Path, generated_masks: Path
) -> Floats:
    """(N, C) Dice, NaN where a case has no such structure or no reference."""
    references = {row.case: row for row in read_manifest(label_maps)}
    predictions = {row.case: row for row in read_manifest(generated_masks)}
    dice = np.full((len(case_ids), len(classes.names)), np.nan)
    for number, case_id in enumerate(case_ids):
        if case_id in references:
            reference = _load(references[case_id], "label_maps")
            row = predictions.get(case_id)
            predicted = _load(row, "generate") if row else None
            counts = overlap_counts(case_id, reference, predicted, len(classes.names))
            dice[number] = dice_of_present(counts)
    return dice


def _load(row: Row, stage: str) -> npt.NDArray[np.uint8]:
    return np.asarray(load_array(resolve(row, stage), row.sha256), dtype=np.uint8)


def _structure_rows(classes: LabelScheme, dice: Floats) -> list[dict[str, Any]]:
    rows = []
    for number, name in enumerate(classes.names):
        known = dice[np.isfinite(dice[:, number]), number]
        if number == 0 or not len(known):
            continue
        kind = "lesion" if number in classes.lesion_ids else "anatomy"
        score = round(float(known.mean()), 6)
        rows.append({"id": number, "name": name, "kind": kind, "n": len(known), "dice": score})
    return rows

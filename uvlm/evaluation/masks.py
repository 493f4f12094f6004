"""Predicted masks against the reference label maps of the test split.

    dice, lesion_dice       on the network's grid
    native.*                Dice and distances in mm on the CT's own grid; see surface.py
    detection.*             lesions found by their volume, as RadGPT finds them; see detection.py

N test cases, C classes (0 is background), L lesions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from uvlm.arrays import Floats, Ids
from uvlm.config import LabelMapsConfig
from uvlm.data.cases import Case
from uvlm.data.label_scheme import LabelScheme, lesion_sites, scheme
from uvlm.evaluation import segmentation
from uvlm.evaluation.bootstrap import Resamples, with_interval, with_intervals
from uvlm.evaluation.detection import choose_thresholds, detection_scores, lesion_labels
from uvlm.evaluation.native_masks import MaskManifests, NativeMasks, measure_masks
from uvlm.store import CaseProgress, Row, load_array, resolve, rows_by_case

_NATIVE: Final = ("dice", "surface_distance", "hausdorff_95")


def mask_scores(
    config: LabelMapsConfig,
    test: Sequence[Case],
    validation: Sequence[Case],
    manifests: MaskManifests,
    resamples: Resamples,
    progress: CaseProgress | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Score masks: the numbers of the split, and one row per structure.

    Cases without a reference label map do not count. Cases without a predicted one score 0, are as
    far away as two voxels of a CT can be, and are wrong about every lesion.

    Args:
        config: the data set and the scheme of its classes.
        test: the N cases to score.
        validation: the cases that the thresholds of detection are chosen on.
        manifests: of references and predictions.
        resamples: of the N cases.
        progress: told how many cases are measured.
    """
    classes = scheme(config.dataset, config.scheme)
    dice = _dice_by_case(classes, [case.case_id for case in test], manifests)
    measured = measure_masks(config, [*test, *validation], manifests, progress)
    native = {name: _native_table(classes, test, measured, name) for name in _NATIVE}
    scores = {
        **_means(classes, {"dice": dice}, resamples),
        "native": _means(classes, native, resamples),
        "detection": _detection(classes, (test, validation), measured, resamples),
        "rule": segmentation.DICE_RULE,
    }
    return scores, _structure_rows(classes, dice, native, resamples)


def _means(
    classes: LabelScheme, tables: Mapping[str, Floats], resamples: Resamples
) -> dict[str, Any]:
    """Average (N, C) tables over anatomy and over lesions, with the cases that have any."""
    scores: dict[str, Any] = {}
    kinds = {"": classes.anatomy_ids - {0}, "lesion_": classes.lesion_ids}
    for name, table in tables.items():
        for prefix, ids in kinds.items():
            means = segmentation.mean_over_classes(table, ids)
            scores |= with_interval(f"{prefix}{name}", resamples.means(means))
            count = f"{prefix}n" if name == "dice" else f"{prefix}{name}_n"
            scores[count] = int(np.isfinite(means).sum())
    return scores


def _dice_by_case(
    classes: LabelScheme, case_ids: Sequence[str], manifests: MaskManifests
) -> Floats:
    """(N, C) Dice on the network's grid, NaN without the structure or without a reference."""
    references, predictions = manifests.references(), rows_by_case(manifests.generated)
    dice = np.full((len(case_ids), len(classes.names)), np.nan)
    for number, case_id in enumerate(case_ids):
        if case_id in references:
            reference = _load(references[case_id], "label_maps")
            row = predictions.get(case_id)
            predicted = _load(row, "generate") if row else None
            counts = segmentation.overlap_counts(case_id, reference, predicted, len(classes.names))
            dice[number] = segmentation.dice_of_present(counts)
    return dice


def _load(row: Row, stage: str) -> Ids:
    return np.asarray(load_array(resolve(row, stage), row.sha256), dtype=np.uint8)


def _native_table(
    classes: LabelScheme, test: Sequence[Case], measured: Mapping[str, NativeMasks], name: str
) -> Floats:
    """(N, C) of one score on the CT's own grid, NaN where it is not defined."""
    table = np.full((len(test), len(classes.names)), np.nan)
    for number, case in enumerate(test):
        if case.case_id in measured:
            for row in measured[case.case_id].structures:
                table[number, row["id"]] = row[name]
    # A missing mask is infinitely far; a mean needs a number that no present mask can exceed.
    furthest = max((masks.diagonal_mm for masks in measured.values()), default=np.nan)
    return np.where(np.isinf(table), furthest, table)


def _detection(
    classes: LabelScheme,
    splits: tuple[Sequence[Case], Sequence[Case]],
    measured: Mapping[str, NativeMasks],
    resamples: Resamples,
) -> dict[str, Any]:
    """Choose thresholds on validation and detect lesions on test; empty without lesion classes."""
    sites = lesion_sites(classes)
    test, validation = ([case for case in cases if case.case_id in measured] for cases in splits)
    if not sites or not test:
        return {}
    judges = [case for case in validation if measured[case.case_id].volumes is not None]
    truth = lesion_labels(judges, sites)
    thresholds = choose_thresholds(_volumes(judges, measured, len(sites)), truth)
    # Resamples are of all N test cases; keep the columns of those that have a reference.
    is_scored = np.isin([case.case_id for case in splits[0]], [case.case_id for case in test])
    scores = detection_scores(
        [site.name for site in sites],
        lesion_labels(test, sites),
        _volumes(test, measured, len(sites)),
        thresholds,
        Resamples(resamples.weights[:, is_scored]),
    )
    for site, support in zip(sites, truth.sum(axis=0), strict=True):
        scores["lesions"][site.name] |= {"organ": site.organ, "val_support": int(support)}
    return {**scores, "n_val": len(judges)}


def _volumes(
    cases: Iterable[Case], measured: Mapping[str, NativeMasks], num_lesions: int
) -> Floats:
    """Predicted mm3 of each lesion, a row of NaN for a case without a mask: (cases, L)."""
    unknown = (np.nan,) * num_lesions
    rows = [measured[case.case_id].volumes or unknown for case in cases]
    return np.asarray(rows, dtype=np.float64).reshape(-1, num_lesions)


def _structure_rows(
    classes: LabelScheme, dice: Floats, native: Mapping[str, Floats], resamples: Resamples
) -> list[dict[str, Any]]:
    """One row per class that a reference has; `n` counts the cases that a mean is over."""
    distances = {name: native[name] for name in ("surface_distance", "hausdorff_95")}
    tables = {"n": {"dice": dice}, "n_native": {"native_dice": native["dice"]}}
    rows = []
    for number, name in enumerate(classes.names):
        kind = "lesion" if number in classes.lesion_ids else "anatomy"
        row: dict[str, Any] = {"id": number, "name": name, "kind": kind}
        for count, scores in (tables | {"n_distance": distances}).items():
            by_case = {key: table[:, number] for key, table in scores.items()}
            row[count] = int(np.isfinite(next(iter(by_case.values()))).sum())
            row |= with_intervals({key: resamples.means(v) for key, v in by_case.items()})
        if number and (row["n"] or row["n_native"]):
            rows.append(row)
    return rows

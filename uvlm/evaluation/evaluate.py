"""Everything that is claimed about a run, beside what would have been reached without a model.

reports/metrics.json

    n, n_patients, n_missing      test cases, patients, cases without a prediction
    protocol.*                    which rules gave the numbers
    seg.*                         masks: Dice, distances, lesions detected; see masks.py
    cls.*, report.*, oracle.*, baselines.*, collapse.*    see report_document.py
    not_learned                   abnormalities that the model does not find

A score has its 95 % patient-bootstrap interval under `<name>_ci`; counts of texts have none.

N test cases, A abnormalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

import numpy as np

from uvlm.arrays import Flags
from uvlm.config import Params
from uvlm.data.cases import Case, Split, read_index, scored_cases
from uvlm.errors import DataError
from uvlm.evaluation.baselines import Seen, TrainingReports
from uvlm.evaluation.bleu import HEADLINE
from uvlm.evaluation.bootstrap import draw_resamples
from uvlm.evaluation.labeller import get_labeller
from uvlm.evaluation.masks import mask_scores
from uvlm.evaluation.missing import RULE as MISSING_RULE
from uvlm.evaluation.native_masks import MaskManifests
from uvlm.evaluation.per_class import not_learned
from uvlm.evaluation.predictions import read_predictions
from uvlm.evaluation.reference import Reference, TextLabels, read_thresholds
from uvlm.evaluation.report_document import report_document
from uvlm.files import file_sha256, write_json_atomic
from uvlm.seeding import generator
from uvlm.store import CaseProgress
from uvlm.text.abnormalities import abnormality_names

_MASKED: Final[tuple[Split, Split]] = ("test", "val")


class EvaluatePaths(TypedDict):
    """Manifests of the stages before, what `generate` and `train_cls` left, and the two outputs.

    `parts` has the manifest of each kind of pseudo-label; `thresholds` is a JSON of the threshold
    by abnormality that the classifier was given on validation, None for 0.5.
    """

    index: Path
    preprocess: Path
    parts: Mapping[str, Path]
    label_maps: Path
    generated_masks: Path
    predictions: Path
    thresholds: Path | None
    out: Path
    per_class: Path


def evaluate(
    params: Params, *, progress: CaseProgress | None = None, **paths: Unpack[EvaluatePaths]
) -> dict[str, Any]:
    """Score the test split; write `out` (numbers) and `per_class` (one row a class).

    Args:
        params: the run's parameters.
        progress: told how many masks are measured.
        **paths: see EvaluatePaths.
    """
    cases = read_index(paths["index"])
    reference = _reference(params, cases, paths["index"])
    predicted = read_predictions(paths["predictions"], reference.case_ids)
    texts = predicted.reports
    label = TextLabels(get_labeller(params.evaluate.labeller, reference.names))
    tuned = read_thresholds(paths["thresholds"], reference.names)
    seen = Seen(predicted.probabilities(reference.names), tuned, predicted.nearest)
    meteor = {"not_computed": "evaluate.meteor is false"}
    if params.evaluate.meteor:
        meteor = reference.meteor(texts)
    found = report_document(reference, texts, label, seen, _training(cases), meteor, params.seed)
    rows = found.pop("abnormalities")
    seg, structures = _masks(params, cases, reference, paths, progress)
    metrics = {
        **reference.size(predicted.num_missing),
        "protocol": _protocol(params, paths["index"]),
        "seg": seg,
        **found,
        "not_learned": not_learned(rows),
    }
    write_json_atomic(paths["out"], metrics)
    write_json_atomic(paths["per_class"], {"abnormalities": rows, "structures": structures})
    return metrics


def _masks(
    params: Params,
    cases: Sequence[Case],
    reference: Reference,
    paths: EvaluatePaths,
    progress: CaseProgress | None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    manifests = MaskManifests(
        paths["preprocess"], paths["label_maps"], paths["generated_masks"], paths["parts"]
    )
    test, validation = (scored_cases(cases, split) for split in _MASKED)
    return mask_scores(
        params.label_maps, test, validation, manifests, reference.resamples, progress
    )


def _reference(params: Params, cases: Sequence[Case], index: Path) -> Reference:
    test = tuple(scored_cases(cases))
    if not test:
        raise DataError(index, "no case in the test split", "add test cases and force index")
    resamples = draw_resamples(
        [case.patient_id for case in test],
        params.evaluate.bootstrap_samples,
        generator(params.seed, "evaluate", "bootstrap"),
    )
    return Reference(
        case_ids=tuple(case.case_id for case in test),
        patient_ids=tuple(case.patient_id for case in test),
        texts=tuple(case.report.text for case in test),
        names=abnormality_names(params),
        labels=_labels(test),
        resamples=resamples,
    )


def _training(cases: Sequence[Case]) -> TrainingReports:
    """Take the reports of training and validation scans, one per scan."""
    by_split = {
        split: list({case.scan_id: case for case in cases if case.split == split}.values())
        for split in ("train", "val")
    }
    if not by_split["train"]:
        raise DataError("index", "no case in the training split", "baselines need its reports")
    return TrainingReports(
        tuple(case.report for case in by_split["train"]),
        _labels(by_split["train"]),
        tuple(case.report for case in by_split["val"]),
        {case.case_id: case.report.text for case in cases if case.split == "train"},
    )


def _labels(cases: Sequence[Case]) -> Flags:
    return np.asarray([case.abnormalities for case in cases]).astype(bool)


def _protocol(params: Params, index: Path) -> dict[str, Any]:
    return {
        "bleu": HEADLINE,
        "labeller": params.evaluate.labeller,
        "missing_prediction": MISSING_RULE,
        "bootstrap_samples": params.evaluate.bootstrap_samples,
        "seed": params.seed,
        "index_sha256": file_sha256(index)[:16],
    }

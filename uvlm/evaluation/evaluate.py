"""Every number that is reported about a run, beside what is reached without a model.

reports/metrics.json

    n, n_patients, n_missing      test scans, patients, scans without a prediction
    n_empty                       scans whose prediction says nothing, which counts as missing
    n_cts                         CTs of the test split: a scan may have several reconstructions,
                                  of which the first is scored
    protocol.*                    which rules gave the numbers
    seg.*                         masks: Dice, distances, lesions detected; see masks.py. Nothing is
                                  measured where `not_computed` says that nothing was predicted
    cls.*, calibration.*, report.*, averages.*, oracle.*, length_limits.*, baselines.*, collapse.*,
    classes.*                     see report_document.py
    not_learned                   abnormalities that the model does not find
    operating_points              of validation, if generate.cue_shifts has any: operating_points.py

A score has its 95 % patient-bootstrap interval under `<name>_ci`; counts of texts have none.

N test scans, A abnormalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

import numpy as np

from uvlm.arrays import Flags
from uvlm.config import Params
from uvlm.data.cases import Case, read_index, scored_cases
from uvlm.errors import DataError, SetupError
from uvlm.evaluation.baselines import Seen, TrainingReports
from uvlm.evaluation.bleu import HEADLINE
from uvlm.evaluation.bootstrap import draw_resamples
from uvlm.evaluation.calibration import read_temperature
from uvlm.evaluation.labeller import get_labeller
from uvlm.evaluation.masks import mask_scores
from uvlm.evaluation.missing import RULE as MISSING_RULE
from uvlm.evaluation.missing import is_missing
from uvlm.evaluation.native_masks import MaskManifests
from uvlm.evaluation.operating_points import operating_points
from uvlm.evaluation.predictions import read_predictions
from uvlm.evaluation.reference import Reference, TextLabels, read_thresholds
from uvlm.evaluation.report_document import report_document
from uvlm.evaluation.scores import meteor_scores
from uvlm.evaluation.text_metrics import why_no_meteor
from uvlm.files import file_sha256, write_json_atomic
from uvlm.seeding import generator
from uvlm.store import CaseProgress
from uvlm.text.abnormalities import abnormality_names
from uvlm.text.claims import CaseClaims, write_claims
from uvlm.text.predictions import has_learned
from uvlm.text.shifted_reports import read_shifted

_NO_MASKS: Final = "segmentation was not trained, so no masks were predicted"


class EvaluatePaths(TypedDict):
    """What is read, then what is written.

    Args:
        index: the cases.
        predictions: JSON lines of the generated reports.
        thresholds: JSON of each abnormality's threshold and of the classifier's temperature, both
            from validation; None for 0.5 and as it is.
        out: metrics.json.
        per_class: per_class.json, one row per abnormality and per structure.
        claims: claims.json, what each report claims; see uvlm/text/claims.py.
    """

    index: Path
    predictions: Path
    thresholds: Path | None
    out: Path
    per_class: Path
    claims: Path


def evaluate(
    params: Params,
    *,
    masks: MaskManifests,
    progress: CaseProgress | None = None,
    **paths: Unpack[EvaluatePaths],
) -> dict[str, Any]:
    """Score the test split, and write the numbers, a row per class and the claims per case.

    Args:
        params: the run's parameters.
        masks: manifests of the reference and predicted masks.
        progress: told how many masks are measured.
        **paths: see EvaluatePaths.
    """
    index = paths["index"]
    cases = read_index(index)
    reference = gather_reference(params, cases, index)
    predicted = read_predictions(paths["predictions"], reference.case_ids)
    label = TextLabels(get_labeller(params.evaluate.labeller, reference.names))
    tuned = read_thresholds(paths["thresholds"], reference.names)
    temperature = read_temperature(paths["thresholds"])
    seen = Seen(predicted.probabilities(reference.names), tuned, predicted.nearest, temperature)
    texts = predicted.reports
    meteor, training = _meteor(params, reference, texts), _training(cases)
    found = report_document(reference, texts, label, seen, training, meteor, params.seed)
    rows = found.pop("abnormalities")
    test, validation = scored_cases(cases, "test"), scored_cases(cases, "val")
    unmeasured = {}
    if not has_learned(paths["predictions"], "segmentation"):
        unmeasured, masks = {"not_computed": _NO_MASKS}, replace(masks, label_maps=None)
    seg, structures = mask_scores(
        params.label_maps, test, validation, masks, reference.resamples, progress
    )
    metrics = {
        **reference.size(predicted.num_missing),
        "n_empty": int(is_missing(texts).sum()) - predicted.num_missing,
        "n_cts": sum(case.split == "test" for case in cases),
        "protocol": _protocol(params, index),
        "seg": seg | unmeasured,
        **found,
        "not_learned": [row["name"] for row in rows if row["not_learned"]],
        **_operating_points(params, paths["predictions"], validation, label),
    }
    write_json_atomic(paths["out"], metrics)
    write_json_atomic(paths["per_class"], {"abnormalities": rows, "structures": structures})
    write_claims(paths["claims"], params.evaluate.labeller, _claims(reference, texts, label))
    return metrics


def _operating_points(
    params: Params, predictions: Path, validation: Sequence[Case], label: TextLabels
) -> dict[str, Any]:
    """Score the validation reports of every shift, if there are any."""
    if not (found := read_shifted(predictions)):
        return {}
    samples, seed = params.evaluate.bootstrap_samples, params.seed
    names = abnormality_names(params)
    how = validation, names, label, samples, seed, predictions
    return {"operating_points": operating_points(found, *how)}


def _claims(reference: Reference, texts: Sequence[str], label: TextLabels) -> list[CaseClaims]:
    """Name what is true of each case, and what the labeller reads in its two reports."""

    def named(flags: Flags) -> tuple[str, ...]:
        return tuple(compress(reference.names, flags))

    flags = (reference.labels, label(reference.texts), label(texts))
    rows = zip(reference.case_ids, *flags, is_missing(texts), strict=True)
    return [
        CaseClaims(case, named(true), named(read), None if missing else named(claimed))
        for case, true, read, claimed, missing in rows
    ]


def _meteor(params: Params, reference: Reference, texts: Sequence[str]) -> dict[str, Any]:
    """METEOR where it is asked for and Java runs it, else why it is not computed."""
    if not params.evaluate.meteor:
        return {"not_computed": "evaluate.meteor is false"}
    try:
        return meteor_scores(reference, texts)
    except SetupError as error:
        return {"not_computed": why_no_meteor() or error.fact}


def gather_reference(params: Params, cases: Sequence[Case], index: Path) -> Reference:
    """Gather what is true of the scored test scans."""
    test = scored_cases(cases)
    if not test:
        raise DataError(index, "no case in the test split", "add test cases and force index")
    patients = tuple(case.patient_id for case in test)
    draws = generator(params.seed, "evaluate", "bootstrap")
    return Reference(
        case_ids=tuple(case.case_id for case in test),
        patient_ids=patients,
        texts=tuple(case.report.text for case in test),
        names=abnormality_names(params),
        labels=_labels(test),
        resamples=draw_resamples(patients, params.evaluate.bootstrap_samples, draws),
    )


def _training(cases: Sequence[Case]) -> TrainingReports:
    """Take one report per scan of training and validation: reconstructions share theirs."""
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

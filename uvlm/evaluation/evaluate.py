"""Everything that is claimed about a run, beside what would have been reached without a model.

reports/metrics.json

    n, n_patients, n_missing      test cases, patients, cases without a prediction
    protocol.*                    which rules gave the numbers
    seg.*                         Dice on anatomy and lesions
    cls.*                         the classifier, at 0.5 and at thresholds tuned on validation
    report.*                      the generated reports; above_trivial is macro-F1 minus that of
                                  the best baseline that never looks at the image
    oracle.*                      the reference reports through the labeller: the ceiling
    baselines.<name>.*            what costs nothing
    not_learned                   abnormalities that the model does not find

Every number has its 95 % patient-bootstrap interval under `<name>_ci`.

N test cases, A abnormalities.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from uvlm.config import Params
from uvlm.data.cases import Case, read_index, scored_cases
from uvlm.errors import DataError
from uvlm.evaluation.baselines import TRIVIAL, TrainingReports, baseline_reports
from uvlm.evaluation.bleu import HEADLINE
from uvlm.evaluation.bootstrap import Resamples, draw_resamples, with_interval
from uvlm.evaluation.labeller import Labeller, get_labeller
from uvlm.evaluation.masks import mask_scores
from uvlm.evaluation.predictions import AlignedPredictions, read_predictions
from uvlm.evaluation.rows import abnormality_rows, not_learned
from uvlm.evaluation.scores import (
    bleu_of_other_protocols,
    label_scores,
    macro_f1_samples,
    ranking_scores,
    text_scores,
)
from uvlm.seeding import generator
from uvlm.store import write_json_atomic
from uvlm.text.abnormalities import ABDOMEN_LESIONS, ABNORMALITIES

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
DEFAULT_THRESHOLD: Final = 0.5


@dataclass(frozen=True, eq=False)
class Reference:
    """The test split: what is true, and how it may be resampled."""

    cases: tuple[Case, ...]
    names: tuple[str, ...]
    labels: Flags
    resamples: Resamples

    @property
    def texts(self) -> list[str]:
        """Reference report of each case."""
        return [case.report.text for case in self.cases]

    @property
    def case_ids(self) -> list[str]:
        """Id of each case."""
        return [case.case_id for case in self.cases]


class TextLabels:
    """A labeller that reads every different text once."""

    def __init__(self, labeller: Labeller) -> None:
        self._labeller = labeller
        self._known: dict[str, npt.NDArray[np.int64]] = {}

    def __call__(self, texts: Sequence[str]) -> Flags:
        """Abnormalities that texts claim: (N, A)."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._labeller.label(new), strict=True))
        return np.stack([self._known[text] for text in texts]).astype(bool)


def evaluate(
    params: Params,
    *,
    index: Path,
    predictions: Path,
    label_maps: Path,
    generated_masks: Path,
    thresholds: Path | None,
    out: Path,
    per_class: Path,
) -> dict[str, Any]:
    """Score the test split; write `out` (numbers) and `per_class` (one row a class).

    Args:
        params: the run's parameters.
        index: manifest of the stage `index`.
        predictions: predictions JSONL of the stage `generate`.
        label_maps: manifest of the reference label maps on the network grid.
        generated_masks: manifest of the predicted label maps on the same grid.
        thresholds: JSON of the classifier's threshold by abnormality, tuned on validation, as
            `train_cls` leaves it in data/models/cls/thresholds.json; None for 0.5.
        out: the metrics JSON.
        per_class: the per-class JSON.
    """
    cases = read_index(index)
    reference = _reference(params, cases, index)
    predicted = read_predictions(predictions, reference.case_ids)
    label = TextLabels(get_labeller(params.evaluate.labeller))
    probabilities = predicted.probabilities(reference.names)
    tuned = _read_thresholds(thresholds, reference.names)
    claimed = label(predicted.reports)
    seg, structures = mask_scores(
        params.label_maps, reference.case_ids, label_maps, generated_masks, reference.resamples
    )
    baselines = _baseline_claims(params, cases, reference, label, (probabilities, tuned))
    rows = abnormality_rows(reference.names, reference.labels, claimed, probabilities, tuned)
    metrics = {
        "n": len(reference.cases),
        "n_patients": len({case.patient_id for case in reference.cases}),
        "n_missing": predicted.num_missing,
        "protocol": _protocol(params, index),
        "seg": seg,
        "cls": _classifier_scores(reference, probabilities, tuned),
        "report": {
            **_report_scores(reference, predicted, claimed),
            **_above_trivial(reference, claimed, baselines),
        },
        "oracle": label_scores(reference.labels, label(reference.texts), reference.resamples),
        "baselines": {
            name: {
                **label_scores(reference.labels, claims, reference.resamples),
                **text_scores(reference.texts, texts, reference.resamples),
            }
            for name, (texts, claims) in baselines.items()
        },
        "not_learned": not_learned(rows),
    }
    write_json_atomic(out, metrics)
    write_json_atomic(per_class, {"abnormalities": rows, "structures": structures})
    return metrics


def abnormality_names(params: Params) -> tuple[str, ...]:
    """Name the classes of the profile's data set, in the order of its label vectors."""
    return ABNORMALITIES if params.label_maps.dataset == "chest" else ABDOMEN_LESIONS


def _reference(params: Params, cases: Sequence[Case], index: Path) -> Reference:
    test = tuple(scored_cases(cases))
    if not test:
        raise DataError(index, "no case in the test split", "add test cases and force index")
    generator_ = generator(params.seed, "evaluate", "bootstrap")
    resamples = draw_resamples(
        [case.patient_id for case in test], params.evaluate.bootstrap_samples, generator_
    )
    return Reference(test, abnormality_names(params), _labels(test), resamples)


def _labels(cases: Sequence[Case]) -> Flags:
    return np.asarray([case.abnormalities for case in cases]).astype(bool)


def _read_thresholds(path: Path | None, names: Sequence[str]) -> Floats:
    """Per-class thresholds, (A,); 0.5 without a file."""
    if path is None:
        return np.full(len(names), DEFAULT_THRESHOLD)
    try:
        tuned = json.loads(path.read_text(encoding="utf-8"))
        return np.asarray([float(tuned[name]) for name in names])
    except (OSError, ValueError, KeyError, TypeError) as error:
        fact = f"no threshold for every abnormality ({type(error).__name__}: {error})"
        raise DataError(path, fact, "force the stage train_cls") from None


def _classifier_scores(
    reference: Reference, probabilities: Floats | None, thresholds: Floats
) -> dict[str, Any]:
    if probabilities is None:
        return {}
    labels, resamples = reference.labels, reference.resamples
    tuned = label_scores(labels, probabilities >= thresholds, resamples)
    return {
        **label_scores(labels, probabilities >= DEFAULT_THRESHOLD, resamples),
        **{
            name.replace("macro_f1", "macro_f1_tuned"): tuned[name]
            for name in tuned
            if "f1" in name
        },
        **ranking_scores(labels, probabilities, resamples),
    }


def _report_scores(
    reference: Reference, predicted: AlignedPredictions, claimed: Flags
) -> dict[str, Any]:
    return {
        **label_scores(reference.labels, claimed, reference.resamples),
        **text_scores(reference.texts, predicted.reports, reference.resamples),
        "other_protocols": bleu_of_other_protocols(reference.texts, predicted.reports),
    }


def _baseline_claims(
    params: Params,
    cases: Sequence[Case],
    reference: Reference,
    label: TextLabels,
    classifier: tuple[Floats | None, Floats],
) -> dict[str, tuple[list[str], Flags]]:
    """Texts of every baseline and what they claim."""
    scans = {case.scan_id: case for case in cases if case.split == "train"}
    if not scans:
        raise DataError("index", "no case in the training split", "baselines need its reports")
    training = TrainingReports(
        tuple(case.report for case in scans.values()), _labels(list(scans.values()))
    )
    texts = baseline_reports(training, reference.case_ids, label, params.seed, *classifier)
    return {name: (reports, label(reports)) for name, reports in texts.items()}


def _above_trivial(
    reference: Reference, claimed: Flags, baselines: Mapping[str, tuple[list[str], Flags]]
) -> dict[str, Any]:
    """Macro-F1 above the best baseline that never looks at the image, on the same samples."""
    own, *rivals = (
        macro_f1_samples(reference.labels, claims, reference.resamples)
        for claims in (claimed, *(baselines[name][1] for name in TRIVIAL))
    )
    return with_interval("above_trivial", own - max(rivals, key=lambda samples: float(samples[0])))


def _protocol(params: Params, index: Path) -> dict[str, Any]:
    return {
        "bleu": HEADLINE,
        "labeller": params.evaluate.labeller,
        "missing_prediction": "empty report",
        "bootstrap_samples": params.evaluate.bootstrap_samples,
        "seed": params.seed,
        "index_sha256": hashlib.sha256(index.read_bytes()).hexdigest()[:16],
    }

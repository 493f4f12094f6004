"""`uvlm score`: every metric on anybody's reports, by the functions of the stage `evaluate`.

    n, n_patients    references and their patients
    n_missing        references without a prediction; missing, the ids of the first of them
    n_empty          predictions that are there but say nothing
    known_words.*    share of the words that are known from English reports
    protocol.*       how the numbers came about
    report.*         the predictions; other_protocols.*, and meteor.* or why it is not computed
    averages.*       F1 in three averages, beside the best constant of each; see averages.py
    oracle.*         the reference reports through the labeller: the ceiling
    length_limits.*  the references cut after so many words, through the labeller
    clinical.*       metrics of other packages, or why they are not computed
    baselines.*      constant claims; with training reports, every trivial baseline, and those of
                     the classifier where the predictions tell what it says
    collapse.*       with training reports only; see collapse.py
    cls.*, calibration.*    with probabilities only
    classes.*        how many classes the macro values run over
    abnormalities    one row per class
    compare.*        with a second set of predictions: differences on the same resamples

A missing prediction is an empty report; missing.py says what that costs.

N cases, A abnormalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import Any, Final

import numpy as np

from uvlm.errors import DataError
from uvlm.evaluation import score_inputs
from uvlm.evaluation.baselines import Seen, TrainingReports
from uvlm.evaluation.beyond_presence import attribute_samples
from uvlm.evaluation.bleu import HEADLINE
from uvlm.evaluation.bootstrap import Samples, draw_resamples, paired_differences, with_intervals
from uvlm.evaluation.calibration import read_temperature
from uvlm.evaluation.clinical import clinical_scores
from uvlm.evaluation.labeller import get_labeller
from uvlm.evaluation.line_breaks import count_line_breaks
from uvlm.evaluation.missing import RULE, is_missing
from uvlm.evaluation.predictions import AlignedPredictions
from uvlm.evaluation.reference import DEFAULT_THRESHOLD, Reference, TextLabels, read_thresholds
from uvlm.evaluation.report_document import report_document
from uvlm.evaluation.score_inputs import Columns, Labels, Texts
from uvlm.evaluation.scores import label_samples, meteor_scores, report_samples
from uvlm.evaluation.text_metrics import why_no_meteor
from uvlm.seeding import generator
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.known_words import count_known
from uvlm.text.report_table import read_any_table
from uvlm.text.sections import split_sections

_LISTED_MISSING: Final = 20


@dataclass(frozen=True)
class ScoreRequest:
    """What to score, and how.

    Args:
        references: CSV or JSON of the true reports.
        predictions: CSV or JSON of the generated ones.
        columns: of the references.
        prediction_columns: of the predictions and of `compare`.
        patient_column: of the references.
        labels: CSV of 0/1 labels; None lets the labeller read the references.
        names: the abnormalities, unless a table of labels decides.
        labeller: reads abnormalities out of texts.
        thresholds: JSON of tuned thresholds for probabilities, and of their temperature.
        compare: a second set of predictions.
        training: CSV of training reports, for baselines and the collapse audit; its label columns
            are used where it has them, else the labeller reads the reports.
        training_columns: of `training`.
        samples: bootstrap samples.
        seed: of every draw.
        with_meteor: also METEOR, which needs Java and a minute or more.
        with_clinical: also the metrics of clinical.py whose packages are installed.
    """

    references: Path
    predictions: Path
    columns: Columns = field(default_factory=Columns)
    prediction_columns: Columns = field(default_factory=Columns)
    patient_column: str | None = None
    labels: Path | None = None
    names: tuple[str, ...] = ABNORMALITIES
    labeller: str = "rules"
    thresholds: Path | None = None
    compare: Path | None = None
    training: Path | None = None
    training_columns: Columns = field(default_factory=Columns)
    samples: int = 1000
    seed: int = 0
    with_meteor: bool = False
    with_clinical: bool = False


def score(request: ScoreRequest) -> dict[str, Any]:
    """Score predictions against references; the module says what is returned."""
    references = score_inputs.read_texts(request.references, request.columns)
    predicted = score_inputs.read_aligned(
        request.predictions, request.prediction_columns, references
    )
    compared = given = None
    if request.compare:
        compared = score_inputs.read_aligned(
            request.compare, request.prediction_columns, references
        )
    if request.labels:
        given = score_inputs.read_labels(request.labels, request.columns.id, [*references.by_id])
    names = given.names if given else request.names
    label = TextLabels(get_labeller(request.labeller, names))
    reference, patients = _reference(request, references, given, label)
    thresholds = read_thresholds(request.thresholds, names)
    texts = predicted.reports
    temperature = read_temperature(request.thresholds)
    seen = Seen(predicted.probabilities(names), thresholds, predicted.nearest, temperature)
    training = None
    if request.training is not None:
        training = read_training(request.training, request.training_columns, names, label)
        if not {*predicted.nearest} <= {*training.by_case, ""}:
            seen = replace(seen, nearest=())  # they name cases of another training split
    meteor = _meteor(request, reference, texts)
    found = report_document(reference, texts, label, seen, training, meteor, request.seed)
    optional = ("collapse", "cls", "calibration", "classes", "abnormalities")
    pairs = zip(reference.case_ids, predicted.predictions, strict=True)
    missing = [case for case, prediction in pairs if prediction is None]
    return {
        **reference.size(predicted.num_missing),
        "missing": missing[:_LISTED_MISSING],
        "known_words": {
            "references": count_known(reference.texts).share,
            "predictions": count_known(texts).share,
        },
        "n_empty": int(is_missing(texts).sum()) - predicted.num_missing,
        "protocol": _protocol(request, given, patients, references)
        | {"line_breaks": _line_breaks(reference, predicted, compared)},
        "report": found["report"],
        "averages": found["averages"],
        "oracle": found["oracle"],
        "length_limits": found["length_limits"],
        "baselines": {**_constant_claims(reference), **found["baselines"]},
        "clinical": clinical_scores(reference, texts, wanted=request.with_clinical),
        **{key: found[key] for key in optional if found[key]},
        **({"compare": _compared(reference, texts, compared, label)} if compared else {}),
    }


def _reference(
    request: ScoreRequest, references: Texts, given: Labels | None, label: TextLabels
) -> tuple[Reference, str]:
    """Gather the truth, and say where the patients come from."""
    texts = tuple(references.by_id.values())
    by_case, source = score_inputs.patients_of(
        request.references, references.id_column, request.patient_column
    )
    patients = tuple(by_case[case] for case in references.by_id)
    draws = generator(request.seed, "score", "bootstrap")
    resamples = draw_resamples(patients, request.samples, draws)
    labels = given.values if given else score_inputs.labels_of(references, label)
    names = given.names if given else request.names
    return Reference(tuple(references.by_id), patients, texts, names, labels, resamples), source


def read_reference(request: ScoreRequest, label: TextLabels) -> Reference:
    """Read references and let the labeller label them, to score other texts against them."""
    return _reference(
        request, score_inputs.read_texts(request.references, request.columns), None, label
    )[0]


def read_training(
    path: Path, columns: Columns, names: Sequence[str], label: TextLabels
) -> TrainingReports:
    """Read training reports and their labels; every fourth report chooses among constants."""
    texts = score_inputs.read_texts(path, columns)
    if {*names} <= {*read_any_table(path).columns}:
        labels = score_inputs.read_labels(path, texts.id_column, [*texts.by_id]).values
    else:
        labels = score_inputs.labels_of(texts, label)
    reports = [split_sections(text).report for text in texts.by_id.values()]
    is_judge = np.arange(len(reports)) % 4 == 3
    return TrainingReports(
        (*compress(reports, ~is_judge),),
        labels[~is_judge],
        (*compress(reports, is_judge),),
        {case: report.text for case, report in zip(texts.by_id, reports, strict=True)},
    )


def check_complete(request: ScoreRequest, document: Mapping[str, Any]) -> None:
    """Refuse a scored document in which predictions are missing.

    Raises:
        DataError: some are, here or in the second set.
    """
    counts = {request.predictions: document["n_missing"]}
    if request.compare is not None:
        counts[request.compare] = document["compare"]["n_missing"]
    for path, count in counts.items():
        if count:
            fact = f"{count} of {document['n']} references have no prediction"
            raise DataError(path, f"{fact}; each was scored as {RULE}", "pass --allow-missing")


def _protocol(
    request: ScoreRequest, given: Labels | None, patients: str, references: Texts
) -> dict[str, Any]:
    return {
        "bleu": HEADLINE,
        "labeller": request.labeller,
        "labels": str(request.labels or f"read from the references by {request.labeller}"),
        "labels_unused": given.num_unused if given else 0,
        "missing_prediction": RULE,
        "text_columns": list(references.text_columns),
        "patients": patients,
        "thresholds": str(request.thresholds or DEFAULT_THRESHOLD),
        "bootstrap_samples": request.samples,
        "seed": request.seed,
    }


def _line_breaks(
    reference: Reference, predicted: AlignedPredictions, compared: AlignedPredictions | None
) -> dict[str, dict[str, int]]:
    sets = {"references": reference.texts, "predictions": predicted.reports}
    return count_line_breaks(sets | ({"others": compared.reports} if compared else {}))


def _meteor(request: ScoreRequest, reference: Reference, texts: Sequence[str]) -> dict[str, Any]:
    """METEOR where it is asked for, else why it is missing."""
    if request.with_meteor:
        return meteor_scores(reference, texts)
    return {"not_computed": why_no_meteor() or "not asked for (--meteor)"}


def _constant_claims(reference: Reference) -> dict[str, Any]:
    """Score a report that claims nothing and one that claims everything, whatever the words."""
    return {
        name: with_intervals(label_samples(reference, np.full_like(reference.labels, claimed)))
        for name, claimed in (("claims_nothing", False), ("claims_everything", True))
    }


def _compared(
    reference: Reference, texts: Sequence[str], other: AlignedPredictions, label: TextLabels
) -> dict[str, Any]:
    """Subtract the metrics of a second set from those of the first, sample by sample."""
    first, second = (_samples(reference, reports, label) for reports in (texts, other.reports))
    both = [name for name in first if name in second]  # no side is defined without a true positive
    pairs = ({name: samples[name] for name in both} for samples in (first, second))
    return {"n_missing": other.num_missing, "metrics": paired_differences(*pairs)}


def _samples(reference: Reference, texts: Sequence[str], label: TextLabels) -> Samples:
    claimed = reference.claims(texts, label)
    beyond = attribute_samples(reference, texts, claimed, label)
    return {**report_samples(reference, texts, claimed), **beyond}

"""What our records say of an arm: each metric over seeds, with its 95 % interval.

Flags, probabilities and counts of n-grams are in the records case by case, so F1 and BLEU are
scored again here, by the functions of the stage `evaluate`, on resampled patients. Seeds are
resampled with them: draw seeds with replacement, and patients within each. Two arms are drawn
alike, so their difference is paired. Seeds with the same test cases share the draw of patients,
others have one each.

Other numbers, and BLEU of records without counts, are taken as the run wrote them. Their mean has
the interval of the single seeds, widened by their spread; the difference of two arms takes them for
independent, which is wider than paired.

R resamples, S seeds, N cases, A abnormalities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import sqrt
from typing import Any, Final

import numpy as np

from uvlm.arm_record import ArmRecord
from uvlm.arrays import Flags, Floats
from uvlm.evaluation.bleu import bleu_scores
from uvlm.evaluation.bootstrap import INTERVAL_PERCENT, draw_resamples
from uvlm.evaluation.missing import wrong_claims, wrong_ngrams, wrong_probabilities
from uvlm.evaluation.reference import DEFAULT_THRESHOLD, Reference
from uvlm.evaluation.scores import label_samples
from uvlm.files import key_of
from uvlm.seeding import generator

NUM_RESAMPLES: Final = 1000
_Z: Final = 1.959964  # half a 95 % interval of a normal distribution, in standard deviations
_TEXT_METRICS: Final = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "bleu_mean", "rouge_l")
_BEYOND: Final = {  # what reports say beyond presence: where it is in the metrics, and its name
    "side_right": ("side", "right"),
    "lobe_right": ("lobe", "right"),
    "size_right": ("size", "right"),
    "beyond_findings": ("consistency", "absent_share"),
}
_READY: Final = (*_TEXT_METRICS, *_BEYOND)
_TRIVIAL: Final = "above_trivial"
_RANKING: Final = "macro_auroc"
_DETECTION: Final = ("precision", "recall", "f1")
ORGANS: Final = {
    "pancreas": "Pancreatic lesion",
    "kidney": "Kidney lesion",
    "liver": "Liver lesion",
}
Scores = Callable[[ArmRecord], Mapping[str, Any]]
_Intervals = Sequence[tuple[float, float] | None]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, and its 95 % interval where there is one."""

    mean: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Result:
    """The records of one arm, in the order of their seeds."""

    records: tuple[ArmRecord, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that were run."""
        return tuple(record.seed for record in self.records)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of test scans of each seed."""
        return tuple(len(record.cases) for record in self.records)

    def estimates(self) -> dict[str, Estimate]:
        """Every metric of a table, by its name there: f1, precision, recall, bleu_mean, ..."""
        samples = [case_samples(record) for record in self.records]
        names = [name for name in samples[0] if all(name in one for one in samples)]
        found = {name: estimate([one[name] for one in samples]) for name in names}
        ready = self._measured((*_READY, _TRIVIAL), _said)
        ready |= self._measured((_RANKING,), partial(_section, "cls"))
        return ready | found

    def detections(self) -> dict[str, Estimate]:
        """Lesions found in the masks of stage 1: liver_f1, kidney_precision, ..."""
        found: dict[str, Estimate] = {}
        for organ in ORGANS:
            scores = self._measured(_DETECTION, partial(_lesion, organ))
            found |= {f"{organ}_{name}": value for name, value in scores.items()}
        return found

    def _measured(self, names: Sequence[str], of: Scores) -> dict[str, Estimate]:
        """Average numbers that the records hold ready, where all of them do."""
        scores = [of(record) for record in self.records]
        shared = _same_patients(self.records)
        return {
            name: _average([score[name] for score in scores], _widths(scores, name), shared)
            for name in names
            if all(score.get(name) is not None for score in scores)
        }


def difference(first: Result, second: Result, name: str) -> Estimate | None:
    """Subtract second from first over the seeds that both have on the same cases, if any."""
    by_seed = {record.seed: record for record in second.records}
    pairs = [
        (one, other)
        for one in first.records
        if (other := by_seed.get(one.seed)) and _test_key(one) == _test_key(other)
    ]
    samples = [tuple(map(case_samples, pair)) for pair in pairs]
    if name in _READY and not all(name in one for pair in samples for one in pair):
        return _ready_difference(pairs, name) if pairs else None
    differences = [
        one[name] - other[name] for one, other in samples if name in one and name in other
    ]
    return estimate(differences) if differences else None


def text_loss(result: Result) -> Estimate | None:
    """Macro F1 of the classifier minus that of the same runs' reports, both at 0.5; paired."""
    pairs = [
        (case_samples(record.model_copy(update={"scored": "classification"})), case_samples(record))
        for record in result.records
        if record.scored == "report"
    ]
    lost = [classifier["f1"] - text["f1"] for classifier, text in pairs if classifier]
    return estimate(lost) if lost else None


def estimate(samples: Sequence[Floats]) -> Estimate:
    """Average (1 + R,) samples of S seeds; each resample draws seeds with replacement too."""
    table = np.stack(samples)  # (S, 1 + R)
    num_seeds, columns = len(table), np.arange(1, table.shape[1])
    drawn = generator(0, "table", "seeds").integers(num_seeds, size=(num_seeds, len(columns)))
    means = table[drawn, columns].mean(axis=0)  # (R,)
    low, high = np.percentile(means, INTERVAL_PERCENT)
    return Estimate(float(table[:, 0].mean()), (float(low), float(high)))


def case_samples(record: ArmRecord) -> dict[str, Floats]:
    """Score a record's flags on resampled patients: each metric is (1 + R,), the first as it is."""
    reference = _reference(record)
    if record.scored == "classification":
        if not any(case.probabilities for case in record.cases):
            return {}  # the classifier never learned
        probabilities = _probabilities(record, reference.labels)
        claimed = probabilities >= DEFAULT_THRESHOLD
        found = _named(label_samples(reference, claimed))
        if record.thresholds is not None:
            tuned = label_samples(reference, probabilities >= np.asarray(record.thresholds))
            found["f1_tuned"] = tuned["macro_f1"]
        return found
    claimed = claims(record, reference.labels)
    found = _named(label_samples(reference, claimed)) | _bleu(record, reference)
    by_lesion = ORGANS.items() if set(ORGANS.values()) <= set(reference.names) else ()
    for organ, lesion in by_lesion:
        column = reference.names.index(lesion)
        for metric, values in _one_class(reference, claimed, column).items():
            found[f"{organ}_{metric}"] = values
    return found


def claims(record: ArmRecord, labels: Flags) -> Flags:
    """Read what reports claim, (N, A); a missing one is wrong in every class."""
    missing = np.array([case.claimed is None for case in record.cases])
    width = len(record.abnormalities)
    rows = [_bits(case.claimed or "0" * width) for case in record.cases]
    return wrong_claims(labels, np.array(rows, dtype=bool).reshape(-1, width), missing)


def _bleu(record: ArmRecord, reference: Reference) -> dict[str, Floats]:
    """BLEU from the counts of every case; nothing for records that have none."""
    rows = [case.ngrams for case in record.cases if case.ngrams is not None]
    if len(rows) < len(record.cases):
        return {}
    missing = np.array([case.claimed is None for case in record.cases])
    counts = wrong_ngrams(np.array(rows, dtype=np.float64), missing)
    return bleu_scores(reference.resamples.sums(counts))


def _section(name: str, record: ArmRecord) -> Mapping[str, Any]:
    found: Mapping[str, Any] = record.metrics.get(name, {})
    return found


def _said(record: ArmRecord) -> dict[str, Any]:
    """Gather what the scores of reports hold ready, by the names of the tables."""
    found = dict(_section("report", record))
    for name, (kind, key) in _BEYOND.items():
        scores = found.get(kind, {})
        found |= {f"{name}{end}": scores.get(f"{key}{end}") for end in ("", "_ci")}
    return found


def _average(values: Sequence[float], intervals: _Intervals, shared: bool) -> Estimate:
    """Average S numbers; a single one keeps its own interval."""
    mean = float(np.mean(values))
    if len(values) == 1:
        return Estimate(mean, intervals[0])
    spread = _Z * sqrt(_variance(values, intervals, shared))
    return Estimate(mean, (mean - spread, mean + spread))


def _variance(values: Sequence[float], intervals: _Intervals, shared: bool) -> float:
    """Sum what patients and what seeds contribute to the variance of a mean of S numbers."""
    widths = [high - low for low, high in (found or (0.0, 0.0) for found in intervals)]
    of_patients = float(np.mean(np.square(widths))) / (2 * _Z) ** 2
    if not shared:
        of_patients /= len(values)  # other patients for each seed, so their errors average out
    return of_patients + (float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else 0.0)


def _widths(scores: Sequence[Mapping[str, Any]], name: str) -> _Intervals:
    found = [score.get(f"{name}_ci") for score in scores]
    return [(ends[0], ends[1]) if ends else None for ends in found]


def _lesion(organ: str, record: ArmRecord) -> Mapping[str, Any]:
    """Look up the scores of the lesions of one organ, however its class is spelled."""
    lesions = record.metrics.get("seg", {}).get("detection", {}).get("lesions", {})
    found = (scores for name, scores in lesions.items() if name.lower().startswith(organ[:6]))
    return next(found, {})


def _same_patients(records: Sequence[ArmRecord]) -> bool:
    return len({_test_key(record) for record in records}) == 1


def _ready_difference(pairs: Sequence[tuple[ArmRecord, ArmRecord]], name: str) -> Estimate | None:
    """Average the differences of two arms, whose errors are taken for independent."""
    sides = [[_said(record) for record in side] for side in zip(*pairs, strict=True)]
    if any(score.get(name) is None for side in sides for score in side):
        return None
    values = [[float(score[name]) for score in side] for side in sides]
    shared = _same_patients([one for one, _ in pairs])
    variances = [_variance(v, _widths(s, name), shared) for v, s in zip(values, sides, strict=True)]
    mean, spread = float(np.mean(values[0]) - np.mean(values[1])), _Z * sqrt(sum(variances))
    return Estimate(mean, (mean - spread, mean + spread))


def _one_class(reference: Reference, claimed: Flags, column: int) -> dict[str, Floats]:
    """Precision, recall and F1 of one class, each (1 + R,)."""
    names = (reference.names[column],)
    labels = reference.labels[:, [column]]
    alone = Reference(
        reference.case_ids, reference.patient_ids, (), names, labels, reference.resamples
    )
    samples = _named(label_samples(alone, claimed[:, [column]]))
    return {metric: samples[metric] for metric in ("precision", "recall", "f1")}


def _named(samples: Mapping[str, Floats]) -> dict[str, Floats]:
    """Call macro values as the tables do; the other averages keep their names."""
    return {name.removeprefix("macro_"): values for name, values in samples.items()}


def _reference(record: ArmRecord) -> Reference:
    width = len(record.abnormalities)
    labels = np.array([_bits(case.labels) for case in record.cases], dtype=bool).reshape(-1, width)
    patients = tuple(case.patient_id for case in record.cases)
    draws = generator(0, "table", _test_key(record))
    resamples = draw_resamples(patients, NUM_RESAMPLES, draws)
    case_ids = tuple(case.case_id for case in record.cases)
    return Reference(case_ids, patients, (), record.abnormalities, labels, resamples)


def _test_key(record: ArmRecord) -> str:
    """Name the test cases of a record, so that arms and seeds with the same ones draw alike."""
    return key_of([[case.case_id, case.patient_id, case.labels] for case in record.cases])


def _probabilities(record: ArmRecord, labels: Flags) -> Floats:
    """(N, A) probabilities; a case without them is as wrong as can be."""
    unknown = (np.nan,) * len(record.abnormalities)
    rows = [case.probabilities or unknown for case in record.cases]
    return wrong_probabilities(labels, np.array(rows, dtype=np.float64))


def _bits(digits: str) -> list[int]:
    return [int(digit) for digit in digits]

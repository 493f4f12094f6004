"""Reports that cost nothing, made from the training split alone: what a model must beat.

    constant_normal       one report that claims nothing; which one, validation decides
    constant_abnormal     one report that claims every abnormality
    most_frequent         the training report written most often
    random                another training report for each case
    nearest               the report of the training case nearest by the classifier's embedding
    classifier_sentences  the classifier's decisions, in the most frequent sentences

The first four (`uvlm.config.TRIVIAL`) never look at the image.

N test cases, M training reports, A abnormalities.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Final

import numpy as np

from uvlm.arrays import Flags, Floats
from uvlm.errors import DataError
from uvlm.evaluation.bleu import bleu_scores, constant_bleu_counts
from uvlm.evaluation.sentence_bank import Label, SentenceBank, learn_sentences, split_sentences
from uvlm.seeding import generator
from uvlm.text.report import Report

BLEU_SAMPLE: Final = 1000  # validation reports that choose among constants
MAX_SENTENCES: Final = 60  # of a constant report


@dataclass(frozen=True, eq=False)
class TrainingReports:
    """Reports of the training split, one per scan, with their (M, A) labels.

    `validation` chooses among constants; without any, the training reports do. `by_case` has the
    text of every training case.
    """

    reports: tuple[Report, ...]
    labels: Flags
    validation: tuple[Report, ...] = ()
    by_case: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Seen:
    """What the classifier says about N test cases, for the baselines that look at the image.

    Args:
        probabilities: (N, A); a row of NaN is classified as normal.
        thresholds: (A,) probability from which an abnormality is claimed.
        nearest: the training case whose embedding has the largest cosine similarity; for an empty
            id the most frequent report stands in.
        temperature: of the classifier, fitted on validation; None if unknown.
    """

    probabilities: Floats | None
    thresholds: Floats
    nearest: tuple[str, ...] = ()
    temperature: float | None = None


def baseline_reports(
    training: TrainingReports,
    case_ids: Sequence[str],
    label: Label,
    seed: int,
    seen: Seen | None = None,
) -> dict[str, list[str]]:
    """Texts of every baseline for every test case.

    Args:
        training: what baselines may learn from.
        case_ids: the N test cases.
        label: reads abnormalities out of texts.
        seed: of the random baseline.
        seen: what the classifier says; a baseline for which it lacks something is left out.
    """
    num_cases, num_classes = len(case_ids), training.labels.shape[1]
    bank = learn_sentences(training.reports, training.labels, label)
    texts = {
        "constant_normal": [constant_normal_report(training, bank)] * num_cases,
        "constant_abnormal": [bank.compose(np.ones(num_classes, dtype=bool))] * num_cases,
        "most_frequent": [most_frequent_report(training.reports)] * num_cases,
        "random": random_reports(training.reports, case_ids, seed),
    }
    if seen is not None and any(seen.nearest):
        texts["nearest"] = nearest_reports(training, seen.nearest)
    if seen is not None and seen.probabilities is not None:
        decided = np.nan_to_num(seen.probabilities, nan=0.0) >= seen.thresholds
        texts["classifier_sentences"] = [bank.compose(present) for present in decided]
    return texts


def constant_normal_report(training: TrainingReports, bank: SentenceBank) -> str:
    """Find the report without a claim that has the best BLEU-mean on validation.

    The candidates are the k most frequent sentences, for every k; a report that denies every
    abnormality; and the most frequent report of training scans without any.
    """
    nothing = np.zeros(training.labels.shape[1], dtype=bool)
    normal = [*compress(training.reports, training.labels.sum(axis=1) == 0)]
    candidates = [bank.most_frequent(nothing, k) for k in range(1, MAX_SENTENCES + 1)]
    candidates += [bank.compose(nothing)]
    candidates += [most_frequent_report(normal)] if normal else []
    judges = training.validation or training.reports
    sample = [report.text for report in judges[:BLEU_SAMPLE]]
    distinct = list(dict.fromkeys(candidates))
    scores = bleu_scores(constant_bleu_counts(sample, distinct))["bleu_mean"]
    return distinct[int(scores.argmax())]


def most_frequent_report(reports: Sequence[Report]) -> str:
    """Take the commonest text; among equals, the one with the most frequent sentences."""
    counts = Counter(report.text for report in reports)
    sentence_counts = Counter(s for report in reports for s in set(split_sentences(report.text)))

    def typical(text: str) -> tuple[int, float, str]:
        frequencies = [sentence_counts[sentence] for sentence in split_sentences(text)]
        return counts[text], sum(frequencies) / max(len(frequencies), 1), text

    return max(counts, key=typical)


def random_reports(reports: Sequence[Report], case_ids: Sequence[str], seed: int) -> list[str]:
    """Draw a training report per case, from the seed and the case alone."""
    draws = (generator(seed, "random report", case).integers(len(reports)) for case in case_ids)
    return [reports[int(drawn)].text for drawn in draws]


def nearest_reports(training: TrainingReports, nearest: Sequence[str]) -> list[str]:
    """Look up the report of the training case that each of N cases is nearest to.

    Raises:
        DataError: one of them is not a training case.
    """
    stranger = next((case for case in nearest if case and case not in training.by_case), None)
    if stranger:
        fact = f"the nearest training case {stranger} is not in the training split"
        raise DataError("predictions", fact, "force the stage generate")
    common = most_frequent_report(training.reports)
    return [training.by_case[case] if case else common for case in nearest]

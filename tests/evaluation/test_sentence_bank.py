from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from uvlm.arrays import Flags
from uvlm.data.sets.phantom.reports import PlantedFinding, write_report
from uvlm.errors import DataError
from uvlm.evaluation.baselines import (
    Seen,
    TrainingReports,
    baseline_reports,
    constant_normal_report,
    most_frequent_report,
    nearest_reports,
    random_reports,
)
from uvlm.evaluation.labelling.phantom import PhantomLabeller
from uvlm.evaluation.sentence_bank import SentenceBank, learn_sentences, split_sentences
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.report import Report


def label(texts: Sequence[str]) -> Flags:
    return PhantomLabeller().label(texts).astype(bool)


@pytest.fixture(scope="module")
def training() -> TrainingReports:
    rng = np.random.default_rng(0)
    labels = rng.random((300, len(ABNORMALITIES))) < 0.25
    labels[::50] = False
    reports = []
    for row in labels:
        planted = [
            PlantedFinding(name, side="left", lobe="upper", size="small")
            for name, is_planted in zip(ABNORMALITIES, row, strict=True)
            if is_planted
        ]
        text = write_report(planted, rng)
        reports.append(Report(text.findings, text.impression))
    return TrainingReports(tuple(reports), labels)


@pytest.fixture(scope="module")
def bank(training: TrainingReports) -> SentenceBank:
    return learn_sentences(training.reports, training.labels, label)


def test_a_composed_report_claims_exactly_what_it_was_asked_to(bank: SentenceBank) -> None:
    rng = np.random.default_rng(1)
    wanted = np.vstack([np.zeros(18, bool), np.ones(18, bool), rng.random((20, 18)) < 0.3])
    np.testing.assert_array_equal(label([bank.compose(row) for row in wanted]), wanted)


def test_a_composed_report_says_something_about_every_abnormality(bank: SentenceBank) -> None:
    sentences = split_sentences(bank.compose(np.arange(18) < 5))
    assert len(sentences) >= 18
    assert len(set(sentences)) == len(sentences)


def test_denials_are_learned_from_labels_alone(bank: SentenceBank) -> None:
    denied = dict(zip(bank.findings.texts, map(np.flatnonzero, bank.findings.denies), strict=True))
    assert denied["No emphysema in the lungs."].tolist() == [ABNORMALITIES.index("Emphysema")]
    assert denied["Bones are intact."].tolist() == []


def test_nothing_found_is_not_concluded_beside_a_finding(bank: SentenceBank) -> None:
    normal, abnormal = bank.compose(np.zeros(18, bool)), bank.compose(np.ones(18, bool))
    assert "No active disease." in normal
    assert "No active disease." not in abnormal
    assert "Signs of" not in normal


def test_decimals_do_not_end_a_sentence() -> None:
    assert split_sentences("A 3.5 mm nodule. No mass.") == ["A 3.5 mm nodule.", "No mass."]


@pytest.mark.slow
def test_the_constant_normal_report_claims_nothing(
    training: TrainingReports, bank: SentenceBank
) -> None:
    assert not label([constant_normal_report(training, bank)]).any()


def test_validation_decides_how_many_sentences_the_constant_report_has() -> None:
    written = [Report(" ".join(f"S{n} is normal." for n in range(12 - k)), "") for k in range(8)]
    labels = np.zeros((len(written), 18), dtype=bool)
    labels[0] = True  # so that no report of the training split is a candidate itself
    bank = learn_sentences(written, labels, label)
    for length in (2, 6, 9):
        judge = Report(" ".join(f"S{n} is normal." for n in range(length)), "")
        chosen = constant_normal_report(TrainingReports(tuple(written), labels, (judge,)), bank)
        assert len(split_sentences(chosen)) == length


def test_the_most_frequent_sentences_of_both_sections_share_one_count() -> None:
    reports = [Report("A. B.", "I. J."), Report("A. B.", "I."), Report("A.", "I. K.")]
    bank = learn_sentences(reports, np.zeros((3, 18), dtype=bool), label)
    assert bank.most_frequent(np.zeros(18, dtype=bool), 3) == "Findings: A. B. Impressions: I."
    assert bank.most_frequent(np.zeros(18, dtype=bool), 1) == "Findings: A."


def test_the_most_frequent_report_wins_and_typical_sentences_break_ties() -> None:
    reports = [Report("A. B.", ""), Report("A. C.", ""), Report("A. C.", "")]
    assert most_frequent_report(reports) == reports[1].text
    unique = [Report("A. B.", ""), Report("A. C.", ""), Report("A.", "")]
    assert most_frequent_report([*unique, Report("B. A.", "")]) in {
        Report("A.", "").text,
        Report("B. A.", "").text,
    }


def test_random_reports_depend_on_seed_and_case_only(training: TrainingReports) -> None:
    cases = [f"case_{n}" for n in range(30)]
    drawn = random_reports(training.reports, cases, seed=1)
    assert random_reports(training.reports, cases[::-1], seed=1) == drawn[::-1]
    assert random_reports(training.reports, cases, seed=2) != drawn
    assert len(set(drawn)) > 15


@pytest.mark.slow
def test_the_nearest_report_is_that_of_the_training_case_named(training: TrainingReports) -> None:
    by_case = {f"train_{n}": report.text for n, report in enumerate(training.reports)}
    known = replace(training, by_case=by_case)
    texts = nearest_reports(known, ["train_7", "", "train_2"])
    assert texts == [by_case["train_7"], most_frequent_report(training.reports), by_case["train_2"]]
    seen = Seen(None, np.full(18, 0.5), ("train_7", "", "train_2"))
    assert baseline_reports(known, ["a", "b", "c"], label, 1, seen)["nearest"] == texts
    with pytest.raises(DataError, match=r"valid_1 is not in the training split"):
        nearest_reports(known, ["train_7", "valid_1"])


@pytest.mark.slow
def test_classifier_sentences_say_what_the_classifier_decides(training: TrainingReports) -> None:
    rng = np.random.default_rng(2)
    probabilities, thresholds = rng.random((10, 18)), np.full(18, 0.7)
    probabilities[3] = np.nan  # a case without a prediction is classified as normal
    cases = [str(n) for n in range(10)]
    texts = baseline_reports(training, cases, label, 1, Seen(probabilities, thresholds))
    np.testing.assert_array_equal(label(texts["classifier_sentences"]), probabilities >= thresholds)
    assert "nearest" not in texts
    assert not label(texts["constant_normal"]).any()
    assert label(texts["constant_abnormal"]).all()


@pytest.mark.slow
def test_without_a_classifier_its_baselines_are_left_out(training: TrainingReports) -> None:
    texts = baseline_reports(training, ["a"], label, seed=1)
    assert set(texts) == {"constant_normal", "constant_abnormal", "most_frequent", "random"}

"""Reports of `longtail`: long, mostly boilerplate, silent, and read right by both labellers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uvlm.config import LongtailConfig
from uvlm.data.sets.longtail.disease import Longtail
from uvlm.data.sets.longtail.grammar import STYLES, Style, language
from uvlm.data.sets.longtail.reports import MAX_WORDS, MIN_WORDS, write_report
from uvlm.data.sets.phantom.reports import PlantedFinding, ReportText
from uvlm.evaluation.labeller import get_labeller, get_phrases
from uvlm.evaluation.labelling.longtail import slots_of
from uvlm.evaluation.labelling.rules import RulesLabeller
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.report import Report

RULES = RulesLabeller()
NEVER = dict.fromkeys(ABNORMALITIES, 0.0)
FINDINGS = {
    name: list(wording.findings()) for name, wording in language("home").claims.items()
}  # the foreign wording tells apart the same ones
finding_lists = st.lists(st.sampled_from(ABNORMALITIES), max_size=12, unique=True).flatmap(
    lambda names: st.tuples(*(st.sampled_from(FINDINGS[name]) for name in names))
)


def text_of(report: ReportText) -> str:
    return Report(report.findings, report.impression).text


def flags_of(names: set[str]) -> list[int]:
    return [int(name in names) for name in ABNORMALITIES]


def drawn_reports(
    config: LongtailConfig, style: Style, num: int = 300
) -> Iterator[tuple[list[PlantedFinding], ReportText]]:
    """Reports of findings as frequent as in the profile."""
    disease, generator = Longtail(config), np.random.default_rng(0)
    for _ in range(num):
        findings = [
            FINDINGS[name][int(generator.integers(len(FINDINGS[name])))]
            for name in disease.draw(generator)
        ]
        yield findings, write_report(findings, config.denied, language(style), generator)


def boilerplate_words(report: ReportText, style: Style) -> int:
    said = Counter(re.split(r"(?<=\.) ", report.findings))
    always = {text for texts in language(style).boilerplate.values() for text in texts}
    return sum(len(text.split()) * said[text] for text in always)


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=60, deadline=None)
@given(findings=finding_lists, seed=st.integers(0, 2**32))
def test_what_is_planted_is_what_grammar_and_rules_read(
    style: Style, findings: tuple[PlantedFinding, ...], seed: int
) -> None:
    denied = dict.fromkeys(ABNORMALITIES, 0.5)
    report = write_report(findings, denied, language(style), np.random.default_rng(seed))
    truth = flags_of({finding.abnormality for finding in findings})
    assert get_labeller("longtail").label([text_of(report)]).tolist() == [truth]
    assert RULES.label([text_of(report)]).tolist() == [truth]
    assert slots_of(text_of(report)) == {f.abnormality: (f.side, f.lobe, f.size) for f in findings}


@pytest.mark.parametrize("style", STYLES)
def test_every_sentence_that_can_be_written_is_read_right_by_the_rules(style: Style) -> None:
    words = language(style)
    meant = {sentence: {finding.abnormality} for sentence, finding in words.sentences()}
    always = [text for texts in words.boilerplate.values() for text in texts]
    for wording in words.claims.values():
        meant |= {text: set() for text in wording.absent}
        for template in wording.impression:
            for finding in wording.findings():
                meant[words.fill(template, finding)] = {wording.abnormality}
    meant |= {text: set() for text in (*always, *words.names["nothing"])}
    assert len(meant) > 500
    read = RULES.label(list(meant)).tolist()
    wrong = [
        text for text, flags in zip(meant, read, strict=True) if flags != flags_of(meant[text])
    ]
    assert wrong == []


@pytest.mark.parametrize("style", STYLES)
def test_reports_have_150_to_250_words_of_which_two_in_five_say_nothing(
    style: Style, config: LongtailConfig
) -> None:
    lengths, shares = [], []
    for _, report in drawn_reports(config, style):
        lengths.append(len(f"{report.findings} {report.impression}".split()))
        shares.append(boilerplate_words(report, style) / lengths[-1])
    assert MIN_WORDS == 150 <= min(lengths) <= max(lengths) <= MAX_WORDS == 250
    assert np.mean(shares) >= 0.4
    assert np.quantile(shares, 0.02) > 0.38


def test_absent_findings_are_denied_as_often_as_the_profile_says(config: LongtailConfig) -> None:
    absent, denied = Counter[str](), Counter[str]()
    for findings, report in drawn_reports(config, "home", 600):
        for name in set(ABNORMALITIES) - {finding.abnormality for finding in findings}:
            absent[name] += 1
            said = language("home").claims[name].absent
            denied[name] += any(sentence in report.findings for sentence in said)
    for name in ABNORMALITIES:
        wanted = config.denied[name]
        deviation = np.sqrt(wanted * (1 - wanted) / absent[name])
        assert abs(denied[name] / absent[name] - wanted) <= 4 * deviation + 1e-9, name


def test_most_absent_findings_are_not_mentioned_at_all(config: LongtailConfig) -> None:
    generator = np.random.default_rng(1)
    silent = write_report([], NEVER, language("home"), generator)
    assert "effusion" not in text_of(silent)
    assert np.mean([config.denied[name] for name in ABNORMALITIES]) < 0.25


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_every_finding_has_paraphrases_and_all_are_used(style: Style) -> None:
    words = language(style)
    for wording in words.claims.values():
        finding = next(wording.findings())
        paraphrases = {words.fill(template, finding) for template in wording.present}
        assert len(paraphrases) >= 3
        written = " ".join(
            write_report([finding], NEVER, words, np.random.default_rng(seed)).findings
            for seed in range(60)
        )
        assert all(text in written for text in paraphrases), wording.abnormality


def test_a_report_keeps_to_one_hand() -> None:
    """Of two findings with four paraphrases, the same one is chosen more often than by chance."""
    words, same = language("home"), 0
    pair = [FINDINGS[name][0] for name in ("Emphysema", "Atelectasis")]
    told = [[words.fill(t, f) for t in words.claims[f.abnormality].present] for f in pair]
    for seed in range(300):
        said = write_report(pair, NEVER, words, np.random.default_rng(seed)).findings
        one, other = ([text in said for text in texts].index(True) for texts in told)
        same += one == other
    assert same / 300 > 0.45  # 0.25 by chance


def test_the_two_wordings_share_hardly_a_sentence() -> None:
    home, foreign = ({s for s, _ in language(style).sentences()} for style in STYLES)
    assert len(home & foreign) / len(home) < 0.01
    assert set(language("home").claims) == set(language("foreign").claims)
    for name in ABNORMALITIES:
        told = [list(language(style).claims[name].findings()) for style in STYLES]
        assert told[0] == told[1]


@given(finding_lists, st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_an_impression_names_no_more_than_the_findings(
    findings: tuple[PlantedFinding, ...], seed: int
) -> None:
    report = write_report(findings, NEVER, language("home"), np.random.default_rng(seed))
    named = RULES.label([f"Impressions: {report.impression}"])[0]
    assert (named <= flags_of({finding.abnormality for finding in findings})).all()


def test_what_the_labeller_marks_are_the_sentences_of_the_findings() -> None:
    finding = FINDINGS["Emphysema"][0]
    report = write_report([finding], NEVER, language("home"), np.random.default_rng(0))
    text = text_of(report)
    claimed = get_phrases("longtail").claimed
    assert claimed is not None
    [(start, end, name)] = claimed(text)
    assert name == "Emphysema"
    assert "right upper lobe" in text[start:end]
    assert text[end] == "."

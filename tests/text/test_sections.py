"""A report's own headings are read, never doubled, and no text is lost in silence."""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.speed import cpu_seconds
from uvlm.text.report import Report
from uvlm.text.sections import SectionedReport, has_only_headings, report_of_columns, split_sections

LUNGS, NORMAL = "Lungs: clear. No nodule.", "Normal study."


@pytest.mark.parametrize(
    ("findings", "impression"),
    list(
        product(
            ["Findings:", "FINDINGS:", "findings :", "**Findings:**", "**FINDINGS**:", "Finding:"],
            ["Impression:", "IMPRESSIONS:", "**Conclusion:**", "Opinion:", "Impression/Plan:"],
        )
    ),
)
@pytest.mark.parametrize("end", [" ", "\n", "\r\n", "\n\n", "\r"])
def test_headings_of_any_form_part_a_report_of_one_line_or_many(
    findings: str, impression: str, end: str
) -> None:
    text = end.join([findings, LUNGS, impression, NORMAL])
    assert split_sections(text).report == Report(LUNGS, NORMAL)
    assert split_sections(text).left_out == ()


@pytest.mark.parametrize("findings", ["FINDINGS", "## Findings", "__Findings__", "2. Findings:"])
@pytest.mark.parametrize("impression", ["IMPRESSION", "### Conclusion", "*Impression*", "SUMMARY"])
def test_a_heading_may_stand_alone_on_its_line(findings: str, impression: str) -> None:
    text = "\n".join([findings, LUNGS, "", impression, NORMAL])
    assert split_sections(text).report == Report(LUNGS, NORMAL)


def test_the_text_that_a_model_learns_has_each_heading_once() -> None:
    doubled = split_sections("Findings: Findings: Clear lungs. Impressions: Impression: Normal.")
    assert doubled.report.text == "Findings: Clear lungs. Impressions: Normal."


ASIDES = (
    "EXAM: CT chest.",
    "Clinical history: Cough, known emphysema.",
    "**Indication:** Rule out nodule.",
    "Reason for exam: Effusion?",
    "TECHNIQUE: Axial images. 80 mL of contrast.",
    "Comparison: CT of 2019 with a nodule.",
    "Previous study: None.",
)


@pytest.mark.parametrize("end", [" ", "\n", "\n\n"])
@pytest.mark.parametrize("aside", ASIDES)
def test_what_a_ct_does_not_show_is_left_out_by_name(aside: str, end: str) -> None:
    text = end.join([aside, f"Findings: {LUNGS}", f"Impression: {NORMAL}"])
    sectioned = split_sections(text)
    assert sectioned.report == Report(LUNGS, NORMAL)
    assert sectioned.left_out == (aside.partition(":")[0].strip("*").lower(),)


def test_several_asides_are_left_out_in_their_order() -> None:
    text = " ".join([*ASIDES[:1], *ASIDES[4:6], f"FINDINGS: {LUNGS}", f"IMPRESSION: {NORMAL}"])
    assert split_sections(text).left_out == ("exam", "technique", "comparison")
    assert split_sections(text).report == Report(LUNGS, NORMAL)


def test_findings_without_a_heading_are_not_taken_for_technique() -> None:
    lines = "TECHNIQUE: Low dose CT,\nwithout contrast.\nLUNGS: Clear.\nHEART: Normal."
    expected = Report("LUNGS: Clear. HEART: Normal.", NORMAL)
    assert split_sections(f"{lines}\nIMPRESSION: {NORMAL}").report == expected
    assert split_sections(f"Technique: CT.\nNo nodule.\nImpression: {NORMAL}").report == Report(
        "No nodule.", NORMAL
    )


def test_where_nobody_can_tell_the_end_of_an_aside_it_stays() -> None:
    for text in ("Technique: CT. Lungs are clear.", "Cough. Technique: CT. Lungs are clear."):
        assert split_sections(text) == SectionedReport(Report(text, ""), ())
    kept = split_sections(f"Indication: Cough. Technique: CT. No nodule. Impression: {NORMAL}")
    assert kept.report == Report("Technique: CT. No nodule.", NORMAL)
    assert kept.left_out == ("indication",)


def test_an_aside_among_the_findings_takes_its_line_only() -> None:
    text = f"FINDINGS:\n{LUNGS}\nComparison: CT of 2019.\nHeart: normal.\nIMPRESSION: {NORMAL}"
    assert split_sections(text).report == Report(f"{LUNGS} Heart: normal.", NORMAL)
    inside = f"FINDINGS: {LUNGS} Comparison: stable nodule. Heart: normal. IMPRESSION: {NORMAL}"
    assert "stable nodule" in split_sections(inside).report.findings


@pytest.mark.parametrize(
    "text",
    [
        "No nodule. Lungs: clear. Heart: normal.",
        "The findings: a nodule.",
        "In comparison: a new nodule.",
        "Clear in comparison with the previous study.",
        "Additional findings: a hiatal hernia.",
        "Conclusions are limited by motion.",
        "LUNGS: CLEAR. PLEURA: NO EFFUSION.",
        "CT chest\nNo nodule",
        "Contrast enhancement of the mass. History of surgery.",
    ],
)
def test_words_that_are_no_heading_stay_text(text: str) -> None:
    assert split_sections(text) == SectionedReport(Report(text, ""), ())


def test_what_stands_before_the_first_heading_is_kept() -> None:
    text = f"CT CHEST\nMotion artefacts.\nFINDINGS: {LUNGS}"
    assert split_sections(text).report == Report(f"CT CHEST Motion artefacts. {LUNGS}", "")


def test_columns_may_hold_their_own_headings() -> None:
    expected = Report(LUNGS, NORMAL)
    assert split_sections(f"FINDINGS:\n{LUNGS}", f"IMPRESSION: {NORMAL}").report == expected
    assert split_sections(LUNGS, NORMAL).report == expected
    whole = f"Findings: {LUNGS}\nImpression: {NORMAL}"
    assert split_sections(whole, whole).report == expected
    assert split_sections(whole, NORMAL).report == expected
    assert split_sections(LUNGS, "Impression: Not given.").report == Report(LUNGS, "")
    assert report_of_columns(f"Findings: {LUNGS}", f"Impression: {NORMAL}") == expected


@pytest.mark.parametrize("text", ["Findings:", "FINDINGS:\nIMPRESSION:\n", "Technique: CT.\n\n"])
def test_headings_alone_are_no_report(text: str) -> None:
    assert split_sections(text + "\nImpression:\n").report.is_empty
    assert has_only_headings(text + "\nImpression:\n")


@pytest.mark.parametrize("text", ["Findings: None.", "LUNGS:\nClear.", "Normal", "Nodule: 4 mm"])
def test_a_heading_with_a_word_behind_it_says_something(text: str) -> None:
    assert not has_only_headings(text)


WORDS = st.lists(st.sampled_from(["Nodule.", "clear", "CT", "Heart:", "\n", "A"]), max_size=5)
PIECES = st.one_of(
    WORDS.map(" ".join),
    st.sampled_from(
        ["FINDINGS: ", "\nImpression: ", "\nTechnique: ", "\nHistory", "**Opinion**: "]
    ),
)


@given(st.lists(PIECES, max_size=8).map("".join))
def test_nothing_but_headings_and_named_asides_is_lost(text: str) -> None:
    sectioned = split_sections(text)
    words = f"{sectioned.report.findings} {sectioned.report.impression}".split()
    for word in ("Nodule.", "clear", "CT", "Heart:", "A"):
        lost = text.split().count(word) - words.count(word)
        assert lost == 0 or (lost > 0 and sectioned.left_out)


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", ["\n", " ", "*", " \n", "_ ", "NO NODULE ", "No nodule. ", "a: ", "Technique:\n"]
)
def test_long_nonsense_takes_no_longer_than_its_length(piece: str) -> None:
    """Text that a model never ended, in which a pattern could go back and forth."""
    text = piece * (40_000 // len(piece))
    assert cpu_seconds(lambda: split_sections(text), repeats=1) < 5


def test_the_columns_of_ct_rate_are_read_as_they_are(real_data: Path) -> None:
    with (real_data / "reports" / "ct_rate_validation_reports.csv").open(
        encoding="utf-8-sig", newline=""
    ) as file:
        for row in csv.DictReader(file):
            columns = row["Findings_EN"], row["Impressions_EN"]
            assert report_of_columns(*columns) == Report(*columns)

"""The report line: written, read back, and silent about sections that say nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uvlm.text.report import Report, parse_report

sections = st.text(st.characters(codec="ascii"), max_size=60).filter(
    lambda section: "Findings:" not in section and "Impressions:" not in section
)


def test_text_names_both_sections_as_ct_rate_models_expect() -> None:
    report = Report("Heart  size is\n normal.", " No active disease. ")
    assert report.text == "Findings: Heart size is normal. Impressions: No active disease."


@pytest.mark.parametrize("nothing", ["Not given.", "not given", "", "  ", "nan", "None"])
def test_a_section_that_says_nothing_is_left_out(nothing: str) -> None:
    assert Report("Clear lungs.", nothing).text == "Findings: Clear lungs."
    assert Report(nothing, "Normal.").text == "Impressions: Normal."
    assert Report(nothing, nothing).is_empty


def test_a_section_that_only_mentions_nothing_is_kept() -> None:
    assert Report("Contrast was not given.", "None of concern.").text == (
        "Findings: Contrast was not given. Impressions: None of concern."
    )


@given(sections, sections)
def test_parsing_the_text_gives_the_report_back(findings: str, impression: str) -> None:
    report = Report(findings, impression)
    assert parse_report(report.text) == report


@given(st.text(max_size=200))
def test_any_generated_text_parses_and_settles_after_one_round(text: str) -> None:
    report = parse_report(text)
    assert "".join(report.findings.split()) in "".join(text.split())
    assert parse_report(report.text).impression == report.impression


def test_text_without_headings_is_findings() -> None:
    assert parse_report("Clear  lungs.") == Report("Clear lungs.", "")


def test_the_first_impression_heading_ends_the_findings() -> None:
    report = parse_report("Findings: a. Impressions: b. Impressions: c.")
    assert (report.findings, report.impression) == ("a.", "b. Impressions: c.")


def test_a_heading_inside_a_word_is_no_heading() -> None:
    assert parse_report("Findings: PriorImpressions:x").findings == "PriorImpressions:x"

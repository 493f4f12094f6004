"""Line ends change the headline BLEU, so `uvlm score` says which ones the texts have."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from uvlm.evaluation.score import ScoreRequest, score
from uvlm.evaluation.score_page import score_page

LINES = ("No nodule is seen.", "Heart size is normal.", "No pleural effusion is seen.")


def write(path: Path, *texts: str) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "report"), *enumerate(texts)])
    return path


def scored(folder: Path, reference_end: str, prediction_end: str) -> dict[str, Any]:
    references = write(folder / "r.csv", reference_end.join(LINES), "Clear lungs.")
    predictions = write(folder / "p.csv", prediction_end.join(LINES), "Clear lungs.")
    return score(ScoreRequest(references, predictions, samples=0))


@pytest.mark.parametrize(
    ("references", "predictions", "counted", "equal"),
    [
        ("\n", "\n", {"references": {"LF": 1}, "predictions": {"LF": 1}}, True),
        ("\r\n", "\r\n", {"references": {"CRLF": 1}, "predictions": {"CRLF": 1}}, True),
        ("\n", "\r\n", {"references": {"LF": 1}, "predictions": {"CRLF": 1}}, False),
        (" ", "\n", {"predictions": {"LF": 1}}, False),
        ("\r", " ", {"references": {"CR": 1}}, True),
        (" ", " ", {}, True),
    ],
)
def test_what_the_texts_have_is_counted_and_said(
    tmp_path: Path, references: str, predictions: str, counted: dict[str, Any], equal: bool
) -> None:
    document = scored(tmp_path, references, predictions)
    assert document["protocol"]["line_breaks"] == counted
    assert (document["report"]["bleu_1"] == pytest.approx(1.0)) is equal
    page = score_page(document)
    assert ("LINE BREAKS" in page) is bool(counted)
    assert all(len(line) <= 110 for line in page.splitlines())
    for name, found in counted.items():
        for end in found:
            assert f"{end} in 1 of 2 {name}" in page


def test_a_text_with_both_is_counted_under_both(tmp_path: Path) -> None:
    document = scored(tmp_path, " ", "\r\n\n")
    assert document["protocol"]["line_breaks"] == {"predictions": {"CRLF": 1, "LF": 1}}


def test_columns_joined_under_headings_have_no_line_breaks(tmp_path: Path) -> None:
    rows = [("id", "Findings_EN", "Impressions_EN"), ("a", "\n".join(LINES), "Clear\r\nlungs.")]
    with (tmp_path / "t.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    table = tmp_path / "t.csv"
    assert score(ScoreRequest(table, table, samples=0))["protocol"]["line_breaks"] == {}

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from benchmarks.constant_reports import OUT, cross_fitted, page
from uvlm.evaluation.bootstrap import draw_resamples
from uvlm.evaluation.reference import Reference
from uvlm.seeding import generator
from uvlm.text.abnormalities import ABNORMALITIES

SENTENCES = [
    "The heart is of normal size.",
    "No pleural effusion was seen.",
    "There is a nodule in the right lung.",
    "Emphysema is seen in both lungs.",
]


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """Twelve reports in the tables' own layouts, every second one with a nodule."""
    labelled = [["AccessionNo", "report_text", *ABNORMALITIES]]
    scored = [["VolumeName", "Findings_EN", "Impressions_EN"]]
    for number in range(12):
        text = " ".join(SENTENCES[: 2 + number % 2])
        flags = [int(name == "Lung nodule" and number % 2 == 1) for name in ABNORMALITIES]
        labelled.append([f"train_{number}", text, *map(str, flags)])
        scored.append([f"valid_{number}_a", text, SENTENCES[0]])
    tables = {"ct_rate_reports_labelled": labelled, "ct_rate_validation_reports": scored}
    for name, rows in tables.items():
        with (tmp_path / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
    return tmp_path


def test_the_page_holds_numbers_with_intervals_and_no_sentence(reports: Path) -> None:
    text = page(reports)
    assert "| constant, everything abnormal |" in text
    assert "| 0.333 (0.333-0.333) |" in text  # CRG of a constant
    assert "12 patients" in text
    assert not any(sentence in text for sentence in SENTENCES)


def test_no_half_of_the_patients_chooses_its_own_constant() -> None:
    """Two kinds of patients: each half's favourite is what the other half gets."""
    patients = ("a", "a", "b", "c", "d")  # in halves: a, c and b, d
    texts = ("one two three four", "one two three four", "five six seven eight",
             "one two three four", "five six seven eight")  # fmt: skip
    labels = np.zeros((5, 0), bool)
    resamples = draw_resamples(patients, 2, generator(0, "test"))
    reference = Reference(tuple("12345"), patients, texts, (), labels, resamples)
    chosen = cross_fitted(reference, {1: texts[0], 2: texts[2]})
    assert chosen == [texts[2], texts[2], texts[0], texts[2], texts[0]]


def test_the_committed_page_holds_no_sentence_of_a_real_report(root: Path, real_data: Path) -> None:
    committed = (root / OUT).read_text(encoding="utf-8")
    path = real_data / "reports" / "ct_rate_validation_reports.csv"
    with path.open(encoding="utf-8", newline="") as file:
        reports = [row["Findings_EN"] for row in csv.DictReader(file)]
    sentences = {part.strip() for text in reports for part in text.split(".")}
    assert not [part for part in sentences if len(part) > 20 and part in committed]

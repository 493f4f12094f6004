"""`uvlm score` hands every option on, and 1,564 reports take less than a minute."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from tests.speed import cpu_seconds
from uvlm.evaluation.score import ScoreRequest, score
from uvlm.evaluation.score_inputs import Columns
from uvlm.text.abnormalities import ABNORMALITIES

TEXTS = ("Emphysema in both lungs.", "No pleural effusion.", "Hiatal hernia.", "Pleural effusion.")


def write(path: Path, header: list[str], rows: list[list[Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_every_option_reaches_the_score(tmp_path: Path) -> None:
    """Columns in an order and under names that no default would find."""
    ids = [f"scan_{number}" for number in range(4)]
    truth = [["x", person, scan, "Findings", text] for person, scan, text in
             zip("aabb", ids, TEXTS, strict=True)]  # fmt: skip
    references = write(tmp_path / "r.csv", ["junk", "who", "scan", "a", "b"], truth)
    said = [[text, scan, "junk"] for scan, text in zip(ids, reversed(TEXTS), strict=True)]
    predictions = write(tmp_path / "p.csv", ["written", "scan", "junk"], said)
    other = write(tmp_path / "o.csv", ["written", "scan"], [[TEXTS[0], scan] for scan in ids])
    labels = write(
        tmp_path / "l.csv",
        ["scan", *ABNORMALITIES],
        [[scan, *(int(n == number) for n in range(18))] for number, scan in enumerate(ids)],
    )
    training = write(tmp_path / "t.csv", ["scan", "learned"], [[s, s + " No."] for s in ids])
    out = tmp_path / "scores.json"
    result = CliRunner().invoke(
        app,
        [
            *("score", "--references", str(references), "--predictions", str(predictions)),
            *("--id-column", "scan", "--text-column", "a", "--text-column", "b"),
            *("--prediction-text-column", "written", "--training-text-column", "learned"),
            *("--patient-column", "who", "--labels", str(labels), "--compare", str(other)),
            *(
                "--training",
                str(training),
                "--bootstrap-samples",
                "30",
                "--seed",
                "5",
                "--json",
                str(out),
            ),
        ],
    )
    assert result.exit_code == 0, result.output
    expected = score(
        ScoreRequest(
            references,
            predictions,
            columns=Columns("scan", ("a", "b")),
            prediction_columns=Columns("scan", ("written",)),
            training_columns=Columns("scan", ("learned",)),
            patient_column="who",
            labels=labels,
            compare=other,
            training=training,
            samples=30,
            seed=5,
        )
    )
    document = json.loads(out.read_text(encoding="utf-8"))
    assert document == json.loads(json.dumps(expected))
    assert document["n_patients"] == 2
    assert document["compare"]


@pytest.mark.slow
def test_1564_reports_and_1000_samples_take_less_than_a_minute_of_one_core(
    real_data: Path, tmp_path: Path
) -> None:
    """Every scan gets the report of the next one."""
    path = real_data / "reports" / "ct_rate_validation_reports.csv"
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    at = header.index("VolumeName")
    ids = [row[at] for row in rows]
    texts = [row[:at] + row[at + 1 :] for row in rows]
    moved = [[case, *text] for case, text in zip(ids, texts[1:] + texts[:1], strict=True)]
    names = header[:at] + header[at + 1 :]
    predictions = write(tmp_path / "moved.csv", ["VolumeName", *names], moved)
    documents = []
    request = ScoreRequest(path, predictions, samples=1000)
    seconds = cpu_seconds(lambda: documents.append(score(request)), repeats=1)
    assert documents[0]["n"] == 1564
    assert seconds < 60

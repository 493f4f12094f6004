"""Our metrics inside MLflow's evaluation give what `uvlm score` gives, and ask no network."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from pipeline.runs.registry.scorers import METRICS, claimed_f1, report_metrics, report_scorers
from tests.pipeline.registry.table import REFERENCES, REPORTS
from uvlm.evaluation.score import ScoreRequest, score

pytestmark = pytest.mark.filterwarnings("ignore")  # of MLflow's evaluation, about pandas and itself


@pytest.fixture
def scored(tmp_path: Path) -> dict[str, Any]:
    """What `uvlm score` says of the table."""
    for name, texts in (("references", REFERENCES), ("predictions", REPORTS)):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([["id", "report"], *enumerate(texts)])
    request = ScoreRequest(tmp_path / "references.csv", tmp_path / "predictions.csv", samples=50)
    return dict(score(request)["report"])


@pytest.mark.slow
def test_metrics_of_a_table_are_those_of_uvlm_score(
    workspace: Path, scored: dict[str, Any]
) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{workspace / 'mlflow.db'}")
    table = pd.DataFrame({"reference": REFERENCES, "report": REPORTS})
    with mlflow.start_run():
        found = mlflow.models.evaluate(  # type: ignore[no-untyped-call]
            data=table,
            predictions="report",
            targets="reference",
            extra_metrics=report_metrics(samples=50),
            evaluators="default",
        ).metrics
    for name in METRICS:
        assert found[f"report_{name}/value"] == pytest.approx(scored[name])
        low, high = scored[f"{name}_ci"]
        assert found[f"report_{name}/low"] <= found[f"report_{name}/value"]
        assert 0 <= low <= high


def test_scorers_give_a_value_for_each_row() -> None:
    by_name = {each.name: each for each in report_scorers()}
    rows = [
        {
            name: each(outputs=report, expectations={"report": reference})
            for name, each in by_name.items()
        }
        for reference, report in zip(REFERENCES, REPORTS, strict=True)
    ]
    assert by_name.keys() == {"report_bleu_mean", "report_rouge_l", "report_f1"}
    assert rows[0] == pytest.approx(
        {"report_bleu_mean": 1.0, "report_rouge_l": 1.0, "report_f1": 1.0}, abs=1e-6
    )
    assert [row["report_f1"] for row in rows] == pytest.approx([1.0, 2 / 3, 0.0, 0.0])


def test_two_texts_that_claim_nothing_agree() -> None:
    assert claimed_f1(REFERENCES[2], REPORTS[3], "rules") == 1.0

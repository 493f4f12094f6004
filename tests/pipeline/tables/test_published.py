"""The published numbers hang together as the paper's text says they do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.profiles import read_document
from pipeline.tables.published import (
    ABDOMEN,
    CHEST,
    FILE,
    architectures,
    constants,
    later_systems,
    published_rows,
    settings,
)
from uvlm.evaluation.averages import best_constants
from uvlm.evaluation.labeller import get_labeller
from uvlm.evaluation.reference import TextLabels
from uvlm.evaluation.score import ScoreRequest, read_reference
from uvlm.evaluation.scores import label_samples


def test_every_row_of_the_tables_is_there() -> None:
    assert len(architectures()) == 9
    counts = {(t, d): len(published_rows(t, d)) for t in (2, 3, 4, 5) for d in (CHEST, ABDOMEN)}
    assert counts == {
        (2, CHEST): 7, (2, ABDOMEN): 0, (3, CHEST): 0, (3, ABDOMEN): 6,
        (4, CHEST): 4, (4, ABDOMEN): 4, (5, CHEST): 17, (5, ABDOMEN): 17,
    }  # fmt: skip
    assert list(settings()) == list(range(1, 18))
    assert {s.method for s in later_systems()} == {
        "DCP-PD", "CLarGen", "AdaRAG-CT", "CT-Agent", "RadAgent",
    }  # fmt: skip


def test_every_number_names_its_source_data_split_average_and_labeller() -> None:
    document = read_document(FILE)
    for entry in (*document["blocks"], *document["later"]):
        for key in ("source", "dataset", "split", "average", "labeller"):
            assert entry[key], entry
        assert entry["average"] in ("macro", "weighted", "micro", "none", "unknown")
        assert entry["source"] in document["sources"]
    for table in (2, 3, 4, 5):
        for dataset in (CHEST, ABDOMEN):
            for row in published_rows(table, dataset).values():
                assert all(0 <= value <= 1 for value in row.values.values())


@pytest.mark.parametrize("number", range(1, 8))
def test_the_mean_bleu_of_table_2_is_the_mean_of_its_orders(number: int) -> None:
    values = published_rows(2, CHEST)[number].values
    mean = sum(values[f"bleu_{order}"] for order in (1, 2, 3, 4)) / 4
    assert values["bleu_mean"] == pytest.approx(mean, abs=0.0006)  # both are rounded


@pytest.mark.parametrize(
    ("organ", "number"), [(o, n) for o in ("pancreas", "kidney", "liver") for n in range(1, 7)]
)
def test_an_f1_of_table_3_is_that_of_its_precision_and_recall(organ: str, number: int) -> None:
    v = published_rows(3, ABDOMEN)[number].values
    p, r, f1 = (v[f"{organ}_{metric}"] for metric in ("precision", "recall", "f1"))
    assert f1 == pytest.approx(2 * p * r / (p + r) if p + r else 0, abs=0.0012)


def test_the_rows_that_are_one_model_have_one_score() -> None:
    """Why Table 2's and Table 3's own rows are the same arms as rows 8 and 9 of Table 5."""
    two, chest, abdomen = (
        published_rows(2, CHEST)[7],
        published_rows(5, CHEST),
        published_rows(5, ABDOMEN),
    )
    assert (two.values["f1"], two.values["bleu_mean"]) == tuple(chest[9].values.values())
    for row, same in ((3, 8), (4, 9)):
        lesions = published_rows(3, ABDOMEN)[row].values
        mean = sum(lesions[f"{organ}_f1"] for organ in ("pancreas", "kidney", "liver")) / 3
        assert mean == pytest.approx(abdomen[same].values["f1"], abs=0.0006)


def test_the_numbers_that_the_prose_repeats_are_those_of_the_tables() -> None:
    chest, abdomen = published_rows(5, CHEST), published_rows(5, ABDOMEN)
    assert [chest[n].values["f1"] for n in (7, 2, 4, 17, 14, 15)] == [
        0.415, 0.292, 0.238, 0.362, 0.167, 0.156,
    ]  # fmt: skip
    assert [chest[n].values["bleu_mean"] for n in (7, 9)] == [0.303, 0.349]
    assert [abdomen[n].values["bleu_mean"] for n in (6, 8)] == [0.413, 0.437]
    assert [abdomen[n].values["f1"] for n in (6, 8, 9, 12)] == [0.620, 0.624, 0.553, 0.596]
    four = published_rows(4, CHEST), published_rows(4, ABDOMEN)
    assert round(100 * (four[0][4].values["f1"] / four[0][1].values["f1"] - 1)) == 23
    assert round(100 * (four[1][3].values["f1"] / four[1][1].values["f1"] - 1)) == 73


@pytest.mark.slow
def test_the_constants_of_table_2_are_those_of_ct_rates_reports(real_data: Path) -> None:
    path = real_data / "reports" / "ct_rate_validation_reports.csv"
    reference = read_reference(
        ScoreRequest(path, path, samples=0), TextLabels(get_labeller("rules"))
    )
    seven = best_constants(reference.labels)["micro_f1"]
    claims = (np.ones_like(reference.labels), np.tile(seven, (len(reference.labels), 1)))
    for shown, claimed in zip(constants(), claims, strict=True):
        scores = label_samples(reference, claimed)
        for name, column in (("f1", "macro_f1"), ("weighted_f1",) * 2, ("micro_f1",) * 2):
            assert shown.values[name] == pytest.approx(float(scores[column][0]), abs=0.0006)

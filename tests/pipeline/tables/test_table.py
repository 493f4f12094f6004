"""Tables made from records alone: what was run is scored again, what was not stays empty."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from pipeline.tables.command import make_table
from pipeline.tables.document import table_document
from pipeline.tables.results import NUM_RESAMPLES, Result, case_samples, difference
from tests.pipeline.tables.records import NUM_CASES, ROOT, flags, mistaken, record
from uvlm.arm_record import write_record
from uvlm.errors import ConfigError, DataError
from uvlm.text.abnormalities import ABNORMALITIES


@pytest.fixture
def project(tmp_path: Path, params: dict[str, Any]) -> Path:
    """Rows 7 and 9 of Table 5 with two seeds, row 12 with random weights, row 4 of Table 4."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    records = []
    for seed in (0, 1):
        labels = flags(seed)
        for arm, share, bleu in (("table5_07", 0.2, 0.30), ("table5_09", 0.1, 0.34 + seed / 50)):
            records.append(record(params, arm, seed, mistaken(labels, share, seed), labels, bleu))
    labels = flags(0)
    noted: dict[str, Any] = {"notes": ("random weights, not Qwen3-4B's",)}
    records.append(record(params, "table5_12", 0, mistaken(labels, 0.4, 3), labels, **noted))
    records.append(record(params, "table4_04", 0, mistaken(labels, 0.1, 4), labels))
    for one in records:
        write_record(tmp_path / "reports" / "tables" / "runs", one)
    return tmp_path


def row_of(document: dict[str, Any], number: int) -> dict[str, Any]:
    return dict(next(row for row in document["rows"] if row["row"] == number))


@pytest.mark.slow
def test_ours_are_what_scikit_learn_says_of_the_flags_averaged_over_seeds(project: Path) -> None:
    ours = row_of(table_document(project, 5, "phantom"), 9)
    expected = [
        f1_score(flags(s), mistaken(flags(s), 0.1, s), average="macro", zero_division=0)
        for s in (0, 1)
    ]
    assert ours["ours"]["f1"]["mean"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert ours["ours"]["bleu_mean"]["mean"] == pytest.approx(0.35)
    assert (ours["seeds"], ours["n"], ours["status"]) == ([0, 1], [NUM_CASES], "run")
    low, high = ours["ours"]["f1"]["interval"]
    assert low < ours["ours"]["f1"]["mean"] < high


def test_a_row_of_table_4_is_the_classifier_at_half(project: Path) -> None:
    ours = row_of(table_document(project, 4, "phantom"), 4)["ours"]
    labels, claimed = flags(0), mistaken(flags(0), 0.1, 4)
    for name, score in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
        expected = score(labels, claimed, average="macro", zero_division=0)
        assert ours[name]["mean"] == pytest.approx(expected, abs=1e-6), name


@pytest.mark.slow
def test_what_nobody_ran_is_empty_and_what_is_not_ours_says_published(project: Path) -> None:
    document = table_document(project, 5, "phantom")
    run = {row["row"] for row in document["rows"] if row["status"] == "run"}
    assert run == {7, 9, 12}
    assert all("ours" not in row for row in document["rows"] if row["row"] not in run)
    systems = table_document(project, 2, "phantom")["rows"]
    status = {row["name"]: row["status"] for row in systems}
    assert status.pop("U-VLM") == "run"  # the same training as Table 5's row 9
    constants = [name for name, said in status.items() if said == "constant"]
    assert all(name.startswith("Constant") for name in constants)
    assert len(constants) == 2
    assert set(status.values()) == {"published", "constant"}
    assert row_of({"rows": systems}, 7)["ours"]["bleu_4"]["mean"] == pytest.approx(0.35)


def test_another_average_stands_in_a_column_of_its_own(project: Path) -> None:
    rows = {row["name"]: row["paper"] for row in table_document(project, 2, "phantom")["rows"]}
    assert rows["AdaRAG-CT"] == {"weighted_f1": 0.480, "bleu_4": 0.242, "rouge_l": 0.354}
    assert rows["CT-Agent"] == {"unknown_f1": 0.420}
    assert rows["DCP-PD on Rad-ChestCT"] == {"f1": 0.503}


def test_an_effect_is_paired_by_seed_and_stands_beside_the_papers(project: Path) -> None:
    document = table_document(project, 5, "phantom")
    injection = next(e for e in document["effects"] if e["name"] == "injection")
    pair = injection["pairs"][0]
    assert (pair["rows"], pair["seeds"]) == ([9, 7], [0, 1])
    assert pair["metrics"]["f1"]["paper"] == pytest.approx(0.414 - 0.415)
    assert pair["metrics"]["bleu_mean"]["paper"] == pytest.approx(0.349 - 0.303)
    nine, seven = (row_of(document, number)["ours"]["f1"] for number in (9, 7))
    gap = pair["metrics"]["f1"]["ours"]
    assert gap["mean"] == pytest.approx(nine["mean"] - seven["mean"], abs=2e-6)
    wide = [n["interval"][1] - n["interval"][0] for n in (nine, seven)]
    assert gap["interval"][1] - gap["interval"][0] < sum(wide)
    assert injection["pairs"][1]["metrics"]["f1"]["ours"] is None  # rows 8 and 6 were not run


def test_an_arm_against_itself_has_no_effect_and_no_spread(params: dict[str, Any]) -> None:
    labels = flags(0)
    one = Result((record(params, "table5_07", 0, mistaken(labels, 0.2, 0), labels),))
    gap = difference(one, one, "f1")
    assert gap is not None
    assert gap.mean == 0
    assert gap.interval == (0, 0)


def test_arms_of_other_test_cases_are_never_paired(params: dict[str, Any]) -> None:
    one, other = (
        Result((record(params, "table5_07", 0, labels, labels),)) for labels in map(flags, (0, 1))
    )
    assert difference(one, other, "f1") is None


@pytest.mark.slow
def test_intervals_cover_the_truth_about_as_often_as_they_say(params: dict[str, Any]) -> None:
    """Precision of one abnormality over patients drawn anew 60 times, its truth being 0.8."""
    covered = 0
    for trial in range(60):
        rng = np.random.default_rng(trial)
        labels = np.repeat(rng.random((NUM_CASES, 1)) < 0.8, len(ABNORMALITIES), axis=1)
        everything = np.ones_like(labels)
        made = Result((record(params, "table5_07", 0, everything, labels),))
        interval = made.estimates()["precision"].interval
        assert interval is not None
        covered += interval[0] <= 0.8 <= interval[1]
    assert 50 <= covered <= 60


def test_a_missing_report_is_wrong_in_every_class(params: dict[str, Any]) -> None:
    labels = flags(0)
    whole = record(params, "table5_07", 0, labels, labels)
    lost = whole.cases[0].model_copy(update={"claimed": None})
    less = whole.model_copy(update={"cases": (lost, *whole.cases[1:])})
    said = labels.copy()
    said[0] = ~labels[0]
    expected = f1_score(labels, said, average="macro", zero_division=0)
    assert case_samples(less)["f1"][0] == pytest.approx(expected)
    assert case_samples(less)["f1"].shape == (1 + NUM_RESAMPLES,)


@pytest.mark.slow
def test_the_pages_hold_the_numbers_the_protocol_the_hashes_and_the_marks(project: Path) -> None:
    lines = list(make_table(project, "5", "phantom", [], as_json=False))
    out = project / "reports" / "tables"
    markdown = (out / "table5-phantom.md").read_text()
    page = (out / "table5-phantom.html").read_text()
    f1 = row_of(table_document(project, 5, "phantom"), 9)["ours"]["f1"]["mean"]
    for text in (markdown, page, "\n".join(lines)):
        assert f"{f1:.3f}" in text
        assert "synthetic phantoms" in text
    for text in (markdown, html.unescape(page)):
        for part in ("random weights, not Qwen3-4B's", "fedcba9", "0123456789ab", "SC †",
                     "CT-RATE's text classifier", "labeller: phantom", "not run"):  # fmt: skip
            assert part in text, part
    figures = {path.name for path in (out / "figures").iterdir()}
    names = ("progressive", "injection", "granularity", "freezing", "tokens", "decoder")
    assert figures == {f"table5-phantom-{name}.png" for name in names}
    again = list(make_table(project, "5", "phantom", [], as_json=False))
    assert (again, markdown) == (lines, (out / "table5-phantom.md").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("table", [1, 2, 3, 4, 5])
def test_every_table_can_be_made_before_anything_was_run(table: int, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    document = json.loads(next(make_table(tmp_path, str(table), "phantom", [], as_json=True)))
    assert document["rows"]
    assert all("ours" not in row for row in document["rows"])
    assert document["runs"] == []


def predictions(path: Path, rows: Sequence[tuple[str, str]]) -> Path:
    lines = ["case_id,report", *(f'{case},"{text}"' for case, text in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.slow
def test_a_row_of_ones_own_is_scored_by_the_labels_of_the_records(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    file = predictions(project / "mine.csv", [(f"c{n}", "Nothing.") for n in range(NUM_CASES)])
    (line,) = make_table(project, "2", "phantom", [f"mine | <b>={file}"], as_json=True)
    added = json.loads(line)["rows"][-1]
    assert (added["name"], added["status"], added["n"]) == ("mine | <b>", "added", [NUM_CASES])
    assert added["ours"]["f1"]["mean"] == 0.0  # it claims nothing
    assert "bleu_mean" not in added["ours"]
    page = (project / "reports" / "tables" / "table2-phantom.html").read_text()
    assert "mine | &lt;b&gt;" in page
    assert "<b>" not in (project / "reports" / "tables" / "table2-phantom.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "added", "said"),
    [
        (2, "mine", "is not NAME=FILE"),
        (5, "mine=x.csv", "rows of your own go into Table 2"),
    ],
)
def test_a_row_that_cannot_be_added_is_one_line(
    table: int, added: str, said: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    with pytest.raises(ConfigError, match=said):
        list(make_table(project, str(table), "phantom", [added], as_json=True))
    assert not (project / "reports" / "tables" / f"table{table}-phantom.md").exists()


@pytest.mark.slow
def test_predictions_for_other_cases_are_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    file = predictions(project / "mine.csv", [("elsewhere", "Nothing.")])
    with pytest.raises(DataError, match="elsewhere"):
        list(make_table(project, "2", "phantom", [f"mine={file}"], as_json=True))


def test_a_table_that_the_paper_has_not_is_refused(project: Path) -> None:
    with pytest.raises(ConfigError, match="choose 1 to 5"):
        table_document(project, 6, "phantom")

"""Tables that the paper does not have, and what a table says of runs that are not the profile's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.arms.read import arm_names, read_arms
from pipeline.arms.resolve import compose_arms
from pipeline.tables.command import make_table
from pipeline.tables.departures import departures
from pipeline.tables.document import group_document, table_document
from pipeline.tables.groups import GROUPS
from tests.pipeline.tables.records import ROOT, flags, mistaken, record
from uvlm.arm_record import ArmRecord, write_record
from uvlm.errors import ConfigError, DataError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    return tmp_path


def keep(project: Path, *records: ArmRecord) -> None:
    for one in records:
        write_record(project / "reports" / "tables" / "runs", one)


def composed(arm: str, **instead: Any) -> ArmRecord:
    """A record of an arm as a sweep composes it."""
    (found,), _ = compose_arms(ROOT, arm, "phantom", 0, instead)
    labels = flags(0)
    return record(json.loads(json.dumps(found.document)), arm, 0, labels, labels)


def test_every_arm_has_a_row_in_some_table() -> None:
    shown = {arm for group in GROUPS.values() for arm in group.rows}
    shown |= {arm for group in GROUPS.values() for pair in group.pairs for arm in pair}
    rows = {arm.name for name in arm_names(ROOT) for arm in read_arms(ROOT, name) if arm.row}
    assert shown | rows == set(arm_names(ROOT))


@pytest.mark.slow
def test_controls_stand_beside_what_they_are_controls_of(
    project: Path, params: dict[str, Any]
) -> None:
    labels = flags(0)
    fallen = {"cls": {"macro_auroc": 0.51, "macro_auroc_ci": [0.4, 0.6]}}
    said, whole = mistaken(labels, 0.5, 1), mistaken(labels, 0.1, 2)
    keep(
        project,
        record(params, "controls_labels", 0, said, labels, metrics=fallen),
        record(params, "table4_04", 0, whole, labels),
    )
    document = group_document(project, "controls", "phantom")
    rows = {row["row"]: row for row in document["rows"]}
    assert rows["controls_labels"]["ours"]["macro_auroc"]["mean"] == 0.51
    assert {arm for arm, row in rows.items() if row["status"] == "run"} == {
        "controls_labels", "table4_04",
    }  # fmt: skip
    labels_pair, reports_pair = document["effects"][0]["pairs"]
    assert labels_pair["metrics"]["f1"]["ours"]["interval"][1] < 0
    assert reports_pair["metrics"]["f1"] == {"paper": None, "ours": None}
    lines = list(make_table(project, "controls", "phantom", [], as_json=False))
    assert any("0.510" in line for line in lines)
    page = (project / "reports" / "tables" / "controls-phantom.html").read_text()
    assert "AUROC of 0.5" in page


def test_a_list_of_ones_own_is_a_table_once_it_has_records(
    project: Path, params: dict[str, Any]
) -> None:
    labels = flags(0)
    keep(project, record(params, "plain", 0, labels, labels, table="mine", row="plain"))
    (line,) = make_table(project, "mine", "phantom", [], as_json=True)
    (row,) = json.loads(line)["rows"]
    assert (row["row"], row["ours"]["f1"]["mean"]) == ("plain", 1.0)
    with pytest.raises(ConfigError, match=r"choose 1, .*controls, choices, replication, mine"):
        group_document(project, "others", "phantom")


def test_arms_of_a_list_are_compared_with_plain_also_in_what_is_beyond_presence(
    project: Path, params: dict[str, Any]
) -> None:
    labels = flags(0)
    listed = "base: {train_report.steps: 7}\narms: {plain: {}, told: {train_report.cue_truth: 0.5}}"
    (project / "conf" / "sweep" / "mine.yaml").write_text(listed)
    for seed, right in enumerate((0.8, 0.9)):
        for arm, gain in (("plain", 0.0), ("told", 0.05)):
            side = {"right": right + gain, "right_ci": [right + gain - 0.02, right + gain + 0.02]}
            report = {"side": side, "lobe": {"n": 0}, "consistency": {"absent_share": 0.1 - gain}}
            told = json.loads(json.dumps(params))
            told["train_report"] |= {"steps": 7, "cue_truth": 0.5 if gain else 0.0}
            told["seed"] = seed
            change: dict[str, Any] = {"table": "mine", "row": arm, "metrics": {"report": report}}
            keep(project, record(told, arm, seed, labels, labels, **change))
    document = group_document(project, "mine", "phantom")
    rows = {row["row"]: row["ours"] for row in document["rows"]}
    assert rows["plain"]["side_right"]["mean"] == pytest.approx(0.85)
    assert "lobe_right" not in rows["plain"]
    ((pair,),) = (effect["pairs"] for effect in document["effects"])
    assert (pair["rows"], pair["seeds"]) == (["told", "plain"], [0, 1])
    side, beyond = (pair["metrics"][key]["ours"] for key in ("side_right", "beyond_findings"))
    assert (side["mean"], beyond["mean"]) == (pytest.approx(0.05), pytest.approx(-0.05))
    assert side["interval"][0] < 0.05 < side["interval"][1]
    assert pair["metrics"]["lobe_right"]["ours"] is None
    # What the list varies is what its rows are about; what all arms have in common is not.
    assert [one["key"] for one in document["departures"]] == ["train_report.steps"]


@pytest.mark.slow
def test_a_table_is_found_by_number_and_by_the_name_of_its_arms(project: Path) -> None:
    (first,) = make_table(project, "4", "phantom", [], as_json=True)
    (second,) = make_table(project, "table4", "phantom", [], as_json=True)
    assert first == second


@pytest.mark.slow
def test_fewer_steps_are_said_with_their_factor(project: Path) -> None:
    usual = composed("table5_07").params["train_report"]["steps"]
    less = {"train_report.steps": usual // 4}
    keep(project, composed("table5_07", **less), composed("table5_02", **less))
    (found,) = table_document(project, 5, "phantom")["departures"]
    assert found["key"] == "train_report.steps"
    assert (found["usual"], found["ours"], found["others"]) == (usual, (usual // 4,), ())
    assert found["text"].endswith("4 times fewer")
    list(make_table(project, "5", "phantom", [], as_json=False))
    for name in ("table5-phantom.md", "table5-phantom.html"):
        assert "4 times fewer" in (project / "reports" / "tables" / name).read_text()


@pytest.mark.slow
def test_rows_that_are_not_alike_are_said_to_be() -> None:
    one, other = composed("table5_07", **{"train_report.steps": 7}), composed("table5_02")
    (found,) = departures(ROOT, "phantom", [one, other])
    assert found.text.endswith("only in table5_07: rows are not alike")


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["table4_01", "table5_01", "table5_14", "choices_pooling"])
def test_what_an_arm_is_about_is_no_departure(arm: str) -> None:
    assert departures(ROOT, "phantom", [composed(arm)]) == []


def test_parameters_that_an_arm_does_not_use_are_no_departure() -> None:
    assert departures(ROOT, "phantom", [composed("table4_01", **{"train_report.steps": 7})]) == []


def test_a_parameter_that_came_later_is_no_departure() -> None:
    made = composed("table5_07")
    early = {key: value for key, value in made.params.items() if key != "audit"}
    assert departures(ROOT, "phantom", [made.model_copy(update={"params": early})]) == []


def test_a_record_under_another_name_is_refused(project: Path, params: dict[str, Any]) -> None:
    keep(project, record(params, "table5_07", 0, flags(0), flags(0)))
    folder = project / "reports" / "tables" / "runs" / "phantom"
    shutil.copy(folder / "table5_07-seed0.json", folder / "table5_09-seed0.json")
    with pytest.raises(DataError, match="holds table5_07, seed 0, of phantom") as error:
        table_document(project, 5, "phantom")
    assert "\n" not in str(error.value)


def test_a_record_without_the_parameters_that_a_table_needs_is_one_line(
    project: Path, params: dict[str, Any]
) -> None:
    lacking = {key: value for key, value in params.items() if key != "injection"}
    keep(project, record(lacking, "table5_07", 0, flags(0), flags(0)))
    with pytest.raises(DataError, match=r"no injection\.reference_stage") as error:
        table_document(project, 5, "phantom")
    assert "\n" not in str(error.value)

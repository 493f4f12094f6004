"""The page of the replication: verdicts follow the rule, and what was not run stays empty."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.tables.command import make_table
from pipeline.tables.controls import check_controls
from pipeline.tables.notes import PLACE
from pipeline.tables.ours import RECORDS, read_results
from pipeline.tables.published import ABDOMEN, CHEST, published_rows
from pipeline.tables.reached import reached_lines
from pipeline.tables.replication import replication_document
from pipeline.tables.theses import THESES, Comparison, judge, together
from tests.pipeline.tables.records import ROOT, flags, mistaken, record
from uvlm.arm_record import write_record
from uvlm.errors import ConfigError, DataError

RANDOM = "random weights, not Qwen3-4B's"
MISTAKES = {
    "table4_01": 0.4, "table4_04": 0.1, "table5_01": 0.45, "table5_02": 0.3, "table5_04": 0.3,
    "table5_07": 0.1, "table5_09": 0.1, "table5_14": 0.4,
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, params: dict[str, Any]) -> Path:
    """The core of Table 5 with three seeds; row 14 with random weights; both controls."""
    root = tmp_path_factory.mktemp("replication")
    shutil.copytree(ROOT / "conf", root / "conf")
    records = root / "reports" / "tables" / "runs"
    for seed in (0, 1, 2):
        labels, own = flags(seed), {**params, "seed": seed}
        for number, (arm, share) in enumerate(MISTAKES.items()):
            said = mistaken(labels, share, 10 * number + seed)
            notes: dict[str, Any] = {"notes": (RANDOM,)} if arm == "table5_14" else {}
            write_record(records, record(own, arm, seed, said, labels, **notes))
        fallen = {"cls": {"macro_auroc": 0.49 + seed / 100, "macro_auroc_ci": [0.4, 0.6]}}
        said = mistaken(labels, 0.5, 99)
        write_record(records, record(own, "controls_labels", seed, said, labels, metrics=fallen))
        kept = {"report": {"above_trivial": 0.2, "above_trivial_ci": [0.1, 0.3]}}
        write_record(records, record(own, "controls_reports", seed, said, labels, metrics=kept))
    return root


@pytest.fixture(scope="module")
def document(project: Path) -> dict[str, Any]:
    return replication_document(project, "phantom")


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    return shutil.copytree(project, tmp_path / "copy")


def of(document: dict[str, Any], thesis: str) -> dict[str, Any]:
    found = next(one for one in document["theses"] if one["name"] == thesis)
    return dict(found["by_profile"]["phantom"])


@pytest.mark.parametrize(
    ("interval", "gain", "no_gain"),
    [
        ((0.001, 0.2), "holds", "does not hold"),
        ((-0.001, 0.2), "undecided", "undecided"),
        ((-0.2, 0.009), "does not hold", "holds"),
        ((-0.2, -0.1), "does not hold", "holds"),
        ((-0.2, 0.01), "undecided", "undecided"),
        ((0.0, 0.0), "does not hold", "holds"),
        (None, "undecided", "undecided"),
    ],
)
def test_the_interval_decides(
    interval: tuple[float, float] | None, gain: str, no_gain: str
) -> None:
    assert judge(Comparison("a", "b"), interval) == gain
    assert judge(Comparison("a", "b", expects="no gain"), interval) == no_gain


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "does not hold"], "does not hold"),
        (["undecided", "does not hold", "not run"], "does not hold"),
        (["holds", "not run"], "undecided"),
        (["holds", "undecided"], "undecided"),
        (["not run", "not run"], "not run"),
    ],
)
def test_a_claim_holds_only_if_all_of_it_does(verdicts: Any, whole: str) -> None:
    assert together(verdicts) == whole


@pytest.mark.parametrize("dataset", [CHEST, ABDOMEN])
def test_the_papers_own_numbers_are_on_the_side_that_it_claims(dataset: str) -> None:
    assert len(THESES) == 6
    for thesis in THESES:
        for one in thesis.by_dataset[dataset]:
            values = [
                published_rows(int(arm[5]), dataset)[int(arm[7:])].values[one.metric]
                for arm in (one.first, one.second)
            ]
            gap = values[0] - values[1]
            if one.expects == "gain":
                assert gap > 0, (thesis.name, one)
            if one.expects == "no gain":
                assert gap < 0.01, (thesis.name, one)


@pytest.mark.slow
def test_verdicts_of_invented_runs_are_those_that_were_built_in(document: dict[str, Any]) -> None:
    progressive = of(document, "progressive")
    assert (progressive["verdict"], progressive["fewest_seeds"]) == ("holds", 3)
    first = progressive["comparisons"][0]
    assert (first["first"], first["second"], first["paper"]) == ("table5_07", "table5_02", 0.123)
    assert (first["seeds"], first["n"], first["to_run"]) == ([0, 1, 2], [60], [])
    assert of(document, "injection")["verdict"] == "undecided"  # equal BLEU, not paired
    for name in ("granularity", "freezing", "tokens"):
        assert of(document, name)["verdict"] == "not run", name
    decoder = of(document, "decoder")
    assert decoder["comparisons"][0]["ours"]["interval"][0] > 0
    assert decoder["verdict"] == "undecided"  # random weights decide nothing
    assert document["pipeline"]["phantom"]["verdict"] == "holds"


@pytest.mark.slow
def test_what_was_not_run_has_no_number_and_the_command_that_runs_it(
    document: dict[str, Any],
) -> None:
    for thesis in document["theses"]:
        for one in thesis["by_profile"]["phantom"]["comparisons"]:
            missing = {arm for arm in (one["first"], one["second"]) if arm not in MISTAKES}
            assert (one["ours"] is None) == bool(missing)
            assert (one["verdict"] == "not run") == bool(missing)
            commands = [f"uvlm sweep {arm} --profile phantom --seeds 3" for arm in missing]
            assert sorted(one["to_run"]) == sorted(commands)


def test_controls_fall_or_do_not_by_their_bar(document: dict[str, Any]) -> None:
    checks = document["controls"]["phantom"]["checks"]
    labels, reports, untrained, mirrored = checks
    assert (labels["value"]["mean"], labels["verdict"]) == (0.5, "falls, as it must")
    assert (reports["value"]["mean"], reports["verdict"]) == (0.2, "DOES NOT FALL")
    assert untrained["verdict"] == "shown, no bar"
    assert (mirrored["value"], mirrored["verdict"]) == (None, "not run")
    assert "--mirrored" in mirrored["to_run"][2]


def test_scores_of_mirrored_cts_come_from_their_file(tmp_path: Path) -> None:
    place = tmp_path / "reports" / "tables" / "mirrored" / "phantom.json"
    place.parent.mkdir(parents=True)
    scores = {"n": 41, "swapped": 0.3, "swapped_ci": [0.2, 0.4], "kept": 0.7, "kept_ci": [0.6, 0.8]}
    place.write_text(json.dumps({"mirrored": scores, "elsewhere": {"data": "phantom"}}))
    mirrored = check_controls(tmp_path, "phantom", {})[3]
    assert mirrored["value"] == {"mean": 0.3, "interval": [0.2, 0.4]}
    assert (mirrored["n"], mirrored["to_run"]) == ([41], [])
    refused: tuple[object, ...] = (
        {"elsewhere": {"data": "chest"}, "mirrored": scores},
        {"mirrored": 3},
        [],
    )
    for wrong in refused:
        place.write_text(json.dumps(wrong))
        with pytest.raises(DataError, match=r"phantom\.json") as error:
            check_controls(tmp_path, "phantom", {})
        assert "\n" not in str(error.value)


def test_each_arm_is_shown_with_what_its_records_say(
    project: Path, document: dict[str, Any]
) -> None:
    reached, results = document["reached"]["phantom"], read_results(project / RECORDS, "phantom")
    arms = [one["arm"] for one in reached]
    assert arms == [*sorted(MISTAKES), "controls_labels", "controls_reports"]
    for one in reached:
        found = results[one["arm"]].estimates()
        is_text = not one["arm"].startswith(("table4", "controls_labels"))
        assert ("f1" in one["values"], "f1" in found) == (is_text, True)
        for key, value in one["values"].items():
            assert value["mean"] == pytest.approx(found[key].mean, abs=1e-6)
        assert (one["seeds"], one["n"]) == ([0, 1, 2], [60])
    lines = list(reached_lines({"phantom": reached}))
    assert sum(line.startswith("| phantom |") for line in lines) == len(arms)
    (row_14,) = (line for line in lines if "row 14" in line)
    assert f"Q4B-L, {RANDOM} |" in row_14
    (row_9,) = (line for line in lines if "Table 5, row 9" in line)
    assert "Seg(F+L) -> Cls -> Rep, skip connections |" in row_9


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["table_big", "table5_big", "tables_1", "plain", "table9_01"])
def test_an_arm_of_ones_own_is_shown_by_its_name(
    copy: Path, params: dict[str, Any], arm: str
) -> None:
    labels = flags(0)
    write_record(copy / RECORDS, record(params, arm, 0, labels, labels))
    reached = replication_document(copy, "phantom")["reached"]["phantom"]
    assert [one["name"] for one in reached if one["arm"] == arm] == [arm]


@pytest.mark.slow
def test_the_page_says_it_in_words_and_is_made_again_alike(copy: Path) -> None:
    (copy / PLACE).write_text("progressive: {all: Stage 1 sees, phantom: small nodules.}\n")
    lines = list(make_table(copy, "replication", "phantom", [], as_json=False))
    page = copy / "reports" / "tables" / "replication-phantom.md"
    text = page.read_text()
    assert "| 1. Progressive training | **holds**; macro F1 +0." in text
    assert "| 3. Granularity of segmentation | **not run** |" in text
    assert "| 6. Scale of the decoder | **undecided (random weights)**; macro F1 +0." in text
    assert "| Negative controls | abnormalities of other patients: falls, as it must; " in text
    assert "reports of other patients: DOES NOT FALL |" in text
    assert "Stage 1 sees small nodules." in text
    assert "synthetic phantoms" in text
    assert "`uvlm sweep table5_17 --profile phantom --seeds 3`" in text
    assert "nan" not in text.lower().split()
    picture = copy / "reports" / "tables" / "figures" / "replication-phantom.png"
    assert f"](figures/{picture.name})" in text
    before = picture.read_bytes()
    assert list(make_table(copy, "replication", "phantom", [], as_json=False)) == lines
    assert (page.read_text(), picture.read_bytes()) == (text, before)
    assert any(line.startswith("Progressive training") and "holds" in line for line in lines)


@pytest.mark.slow
def test_both_profiles_make_one_page_before_anything_was_run(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    document = json.loads(next(make_table(tmp_path, "replication", None, [], as_json=True)))
    assert [one["profile"] for one in document["profiles"]] == ["longtail", "phantom_abdomen"]
    for thesis in document["theses"]:
        for found in thesis["by_profile"].values():
            assert found["verdict"] == "not run"
    granularity = document["theses"][2]["by_profile"]
    sides = {p: (f["comparisons"][0]["first"], f["comparisons"][0]["second"])
             for p, f in granularity.items()}  # fmt: skip
    assert sides["longtail"] == sides["phantom_abdomen"][::-1] == ("table5_07", "table5_06")
    assert (tmp_path / "reports" / "replication.md").is_file()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("progress: {all: x}", "progress is no subject"),
        ("progressive: {here: x}", "names here, which is no profile"),
        ("progressive: [x]", "no text for each profile"),
        ("progressive: {all: 3}", "no text for each profile"),
        ("- x", "holds no subjects"),
        ("a: [", "not readable as YAML"),
    ],
)
def test_wrong_notes_are_one_line(tmp_path: Path, text: str, said: str) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / PLACE).parent.mkdir(parents=True)
    (tmp_path / PLACE).write_text(text)
    with pytest.raises(DataError, match=said) as error:
        replication_document(tmp_path, "phantom")
    assert "\n" not in str(error.value)


def test_rows_of_ones_own_do_not_go_into_the_replication(project: Path) -> None:
    with pytest.raises(ConfigError, match="go into Table 2"):
        next(make_table(project, "replication", None, ["mine=x.csv"], as_json=True))


def test_the_loss_of_the_text_stands_beside_the_papers(document: dict[str, Any]) -> None:
    loss = document["pipeline"]["phantom"]["text_loss"]
    assert loss["paper"] == pytest.approx(0.555 - 0.415)
    assert loss["ours"]["mean"] == pytest.approx(0.0)  # probabilities were made from the claims
    assert np.allclose(loss["ours"]["interval"], 0)

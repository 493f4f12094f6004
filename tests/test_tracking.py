from __future__ import annotations

import csv
import math
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from uvlm.tracking import JsonlTracker, NullTracker, Tracker, read_history, write_history_csv


def test_both_trackers_implement_the_protocol(tmp_path: Path) -> None:
    assert isinstance(NullTracker(), Tracker)
    assert isinstance(JsonlTracker(tmp_path / "history.jsonl"), Tracker)


def test_the_null_tracker_leaves_no_trace(tmp_path: Path) -> None:
    tracker = NullTracker()
    tracker.log({"loss": 1.0}, 1)
    tracker.artifact(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


def test_every_record_is_on_disk_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path / "run" / "history.jsonl")
    tracker.log({"loss": 0.5}, 20)
    tracker.params({"num_visual_tokens": 384})
    tracker.tags({"device": "cpu"})
    numbers, params, tags = read_history(tracker.path)
    assert numbers["step"] == 20
    assert numbers["metrics"] == {"loss": 0.5}
    assert params == {"params": {"num_visual_tokens": 384}}
    assert tags == {"tags": {"device": "cpu"}}


def test_a_line_cut_short_by_a_crash_is_skipped(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path / "history.jsonl")
    tracker.log({"loss": 0.5}, 1)
    with tracker.path.open("a") as file:
        file.write('{"step": 2, "metr')
    assert [record["step"] for record in read_history(tracker.path)] == [1]


def test_what_follows_a_line_cut_short_is_kept(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path / "history.jsonl")
    tracker.log({"loss": 0.5}, 1)
    with tracker.path.open("a") as file:
        file.write('{"step": 2, "metr')
    again = JsonlTracker(tracker.path)
    again.log({"loss": 0.25}, 2)
    assert [record["step"] for record in read_history(tracker.path)] == [1, 2]


def test_the_csv_has_one_row_per_step_and_the_last_value_wins(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path / "history.jsonl")
    tracker.log({"loss": 3.0}, 2)
    tracker.log({"loss": 4.0}, 1)
    tracker.log({"loss": 1.0}, 2)
    tracker.log({"val_dice": 0.5}, 2)
    tracker.write_csv(tmp_path / "out" / "history.csv")
    assert (tmp_path / "out" / "history.csv").read_text() == "step,loss,val_dice\n1,4,\n2,1,0.5\n"


def test_a_training_without_steps_has_a_csv_with_a_header_only(tmp_path: Path) -> None:
    write_history_csv(tmp_path / "absent.jsonl", tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text() == "step,loss\n"


def test_a_number_that_is_not_finite_is_an_empty_cell(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path / "history.jsonl")
    tracker.log({"loss": math.nan, "lr": math.inf}, 1)
    tracker.write_csv(tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text() == "step,loss,lr\n1,,\n"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.floats(-1e6, 1e6)), min_size=1))
def test_the_csv_agrees_with_a_dictionary(logged: list[tuple[int, float]]) -> None:

    with tempfile.TemporaryDirectory() as folder:
        tracker = JsonlTracker(Path(folder) / "history.jsonl")
        for step, value in logged:
            tracker.log({"loss": value}, step)
        tracker.write_csv(Path(folder) / "history.csv")
        with (Path(folder) / "history.csv").open() as file:
            rows = list(csv.DictReader(file))
    expected = dict(logged)
    assert [int(row["step"]) for row in rows] == sorted(expected)
    for row in rows:
        assert math.isclose(float(row["loss"]), expected[int(row["step"])], rel_tol=1e-5)

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import stage as stage_module
from pipeline.profiles import read_document, write_params
from pipeline.progress import ProgressBar
from pipeline.runs.records import read_records
from pipeline.shares import run_cases
from pipeline.stage import Stage, execute
from uvlm.data.preprocess import Volumes
from uvlm.errors import DataError, Interrupted, SetupError

pytestmark = pytest.mark.filterwarnings(
    # MLflow and its SQLAlchemy models warn about their own and each other's interfaces.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::ResourceWarning",
)


def no_work(stage: Stage) -> None:
    """A stage that has nothing to do."""


@pytest.mark.slow
def test_a_stage_gets_its_parameters_and_leaves_its_seconds_and_memory(workspace: Path) -> None:
    seeds = []
    assert execute("first", lambda stage: seeds.append(stage.params.seed)) == 0
    assert seeds == [0]
    timing = json.loads((workspace / ".uvlm" / "timings" / "first.json").read_text())
    assert timing["stage"] == "first"
    assert 0 <= timing["seconds"] < 60
    assert timing["peak_rss_mb"] > 10
    assert [record.status for record in read_records()] == ["FINISHED"]


@pytest.mark.slow
def test_a_mistyped_parameter_ends_any_stage_before_it_begins(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = read_document(workspace / "params.yaml")
    document["train_report"]["stepps"] = document["train_report"].pop("steps")
    write_params(workspace, document)
    began = []
    assert execute("first", lambda stage: began.append(stage)) == 2
    assert began == []
    assert read_records() == []
    assert "nearest valid key is train_report.steps" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("error", "code"), [(DataError, 3), (SetupError, 4)])
def test_a_known_error_is_one_line_and_its_exit_code(
    error: type[DataError], code: int, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(stage: Stage) -> None:
        raise error("train_1_a_1.nii.gz", "is cut short", "copy it again")

    assert execute("first", work) == code
    assert capsys.readouterr().err == "first: train_1_a_1.nii.gz: is cut short; copy it again\n"
    assert [record.status for record in read_records()] == ["FAILED"]
    assert not (workspace / ".uvlm" / "timings" / "first.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("size", "code"), [(1, -signal.SIGTERM), (2, Interrupted.exit_code)])
def test_a_signal_that_comes_late_to_one_of_several_processes_is_honoured_already(
    size: int, code: int
) -> None:
    """The process has stopped because another was told, and is told itself while it ends."""
    script = """
import os, signal, sys
from pipeline import stage
from uvlm.errors import Interrupted

def stopped() -> None:
    raise Interrupted("train_seg", "stopped by a signal to another process", "continue")

code = stage._guarded("train_seg", stopped)
os.kill(os.getpid(), signal.SIGTERM)
sys.exit(code)
"""
    ranks = {"WORLD_SIZE": str(size), "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": str(size)}
    found = subprocess.run([sys.executable, "-c", script], env=os.environ | ranks, check=False)
    assert found.returncode == code


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("first.txt/x", "first: first.txt/x: not a directory; check the path\n"),
        ("gone.txt", "first: gone.txt: no such file or directory; check the path\n"),
        (".uvlm", "first: .uvlm: is a directory; name a file\n"),
    ],
)
def test_a_file_that_the_system_refuses_is_one_line_too(
    path: str, line: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute("first", lambda _: Path(path).read_bytes()) == 3
    assert capsys.readouterr().err == line


def test_a_training_writes_its_numbers_and_its_curve(workspace: Path) -> None:
    def work(stage: Stage) -> None:
        stage.tracker.log({"loss": 0.5}, 10)
        stage.write_training(Path("reports/train"), {"val_dice": 0.9})

    assert execute("train", work) == 0
    assert json.loads((workspace / "reports/train/metrics.json").read_text()) == {"val_dice": 0.9}
    assert (workspace / "reports/train/history.csv").read_text() == "step,loss\n10,0.5\n"


def test_away_from_a_terminal_progress_is_a_line_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("pipeline.progress.time.monotonic", lambda: now[0])
    with ProgressBar("train_seg", interactive=False) as bar:
        for step in range(1, 26):
            now[0] = float(step)
            bar.update(step, 25, 1 / step)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "train_seg  10/25  loss 0.1000  0:15 left",
        "train_seg  20/25  loss 0.0500  0:05 left",
    ]


def test_how_long_it_takes_is_said_from_the_second_measured_step_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Steps of 20 s, the first one longer; a new count, here of masks, has no time at first."""
    now = [0.0]
    monkeypatch.setattr("pipeline.progress.time.monotonic", lambda: now[0])
    with ProgressBar("predict", interactive=False) as bar:
        for step, seconds in ((1, 50.0), (2, 70.0), (3, 90.0)):
            now[0] = seconds
            bar.update(step, 3)
        now[0] = 110.0
        bar.cases("masks", 1, 2)
    assert capsys.readouterr().err.splitlines() == [
        "predict  1/3",
        "predict  2/3  0:20 left",
        "predict  3/3  0:00 left",
        "masks  1/2",
    ]


def test_on_a_terminal_progress_is_a_bar_with_the_loss(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("train_cls", interactive=True) as bar:
        bar.update(3, 8, 0.25)
        bar.cases("preprocess", 8, 8)
    shown = capsys.readouterr().err
    assert "preprocess" in shown
    assert "8/8" in shown


def test_on_a_terminal_a_new_count_does_not_take_over_the_time_of_the_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first count ends at 0:00:00 left; of the second, as long, one step is known."""
    with ProgressBar("generate", interactive=True) as bar:
        for step in (1, 2, 3):
            bar.update(step, 3)
            time.sleep(0.01)
        bar.update(1, 3)
    assert capsys.readouterr().err.splitlines()[-1].rstrip().endswith("-:--:--")


@pytest.mark.parametrize(
    ("kept", "variables"),
    [
        ("yes", {"MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"}),
        ("no", {"THP_MEM_ALLOC_ENABLE"}),
    ],
)
def test_memory_tuning_restarts_a_process_once(
    kept: str, variables: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVLM_KEEP_MEMORY", kept)
    for name in variables:  # a library that another test imported may have set one
        monkeypatch.delenv(name, raising=False)
    started: list[dict[str, str]] = []
    monkeypatch.setattr("os.execve", lambda *call: started.append(call[2]))
    stage_module._restart_with_memory_tuned()
    assert len(started) == 1
    assert started[0].keys() - os.environ.keys() == variables
    for key, value in started[0].items():
        monkeypatch.setenv(key, value)
    stage_module._restart_with_memory_tuned()
    assert len(started) == 1


def test_a_wrong_word_about_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UVLM_KEEP_MEMORY", "maybe")
    with pytest.raises(SystemExit) as stopped:
        stage_module.run_stage("train_cls", lambda stage: None, tensors=True)
    assert stopped.value.code == 2
    expected = "train_cls: UVLM_KEEP_MEMORY: is 'maybe'; use yes or no\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [(["--shard", "3/2"], "--shard: is '3/2'"), (["--all"], "['--all'] is not an option")],
)
def test_a_wrong_option_of_preprocess_is_named_and_leaves_no_record(
    arguments: list[str], fact: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(Path(__file__).parents[2] / "dvc.yaml", workspace)
    with pytest.raises(SystemExit) as exit_:
        run_cases("preprocess", Volumes.of, arguments)
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith(f"preprocess: {fact}")
    assert read_records() == []

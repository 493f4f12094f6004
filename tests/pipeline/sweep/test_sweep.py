"""`uvlm sweep` on a small project: real DVC, git, records and MLflow, and kills at any moment.

`UVLM_SWEEP_KILLS=20` kills a sweep of sixteen arms so often; by default one of four arms, once.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.sweep.run import _stopped_by_signals
from tests.pipeline.sweep.small_project import (
    NAMES,
    calls,
    environment_of,
    make_project,
    records,
    run,
    sweep_command,
)
from uvlm.arm_record import ArmRecord
from uvlm.errors import Interrupted

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

FOUR = """
arms:
  a: {}
  b: {train_report.optim.lr: 0.003}
  c: {train_cls.optim.lr: 0.003}
  d: {train_cls.optim.lr: 0.004, train_seg.optim.lr: 0.02}
"""
BAD = "  bad: {train_cls.optim.lr: 0.5}\n"
SIXTEEN = "arms:\n" + "".join(
    f"  arm_{seg}{cls}{report}: {{train_seg.optim.lr: 0.0{seg}, train_cls.optim.lr: 0.00{cls}, "
    f"train_report.optim.lr: 0.00{report}}}\n"
    for seg in (1, 2)
    for cls in (1, 2)
    for report in (1, 2, 3, 4)
)
NUM_KILLS = int(os.environ.get("UVLM_SWEEP_KILLS") or 1)
ASK_MLFLOW = """
import json
from mlflow.tracking import MlflowClient
client = MlflowClient("sqlite:///mlflow.db")
experiment = client.get_experiment_by_name("uvlm-phantom")
view = json.loads(experiment.tags["mlflow.sharedViewState.uvlm-mini"])
found = {}
for arm in client.search_runs([experiment.experiment_id], view["searchFilter"]):
    query = f"tags.`mlflow.parentRunId` = '{arm.info.run_id}'"
    children = client.search_runs([experiment.experiment_id], query)
    found[arm.data.tags["uvlm.arm"]] = {
        "status": arm.info.status,
        "metrics": arm.data.metrics,
        "children": sorted(child.data.tags["dvc.stage"] for child in children),
    }
print(json.dumps(found))
"""


@dataclass
class Swept:
    """A project in which a sweep of five arms ended, one of them not well."""

    project: Path
    ended: subprocess.CompletedProcess[str]
    records: dict[str, ArmRecord]
    begun: Counter[str]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Swept:
    """Run them on two workers, in a folder with a blank in its name."""
    folder = tmp_path_factory.mktemp("sweep") / "a project"
    project = make_project(folder, empty_database, FOUR + BAD)
    ended = run(project, *sweep_command("--workers", "2"), code=3)
    return Swept(project, ended, records(project), calls(project, "begin"))


def stages(counted: Counter[str]) -> dict[str, int]:
    """Count runs by stage, whatever their fingerprint."""
    found = Counter(line.split()[0] for line in counted.elements())
    return {name: found[name] for name in NAMES}


def numbers(record: ArmRecord) -> dict[str, Any]:
    """All of a record but how long its stages took, and the commit."""
    return record.model_dump(exclude={"seconds", "git"})


def test_shared_stages_ran_once_and_every_arm_that_can_end_has_its_record(swept: Swept) -> None:
    assert set(swept.records) == {f"{arm}-seed0" for arm in "abcd"}
    assert len({record.key for record in swept.records.values()}) == 4
    assert len({record.metrics["value"] for record in swept.records.values()}) == 4
    assert set(swept.begun.values()) == {1}
    assert stages(swept.begun) == {"index": 1, "first": 2, "left": 4, "right": 2, "evaluate": 4}
    assert not list((swept.project / ".uvlm" / "sweep" / "slots").iterdir())


def test_an_arm_that_fails_leaves_the_others_and_its_exit_code(swept: Swept) -> None:
    said = swept.ended.stderr
    assert "bad-phantom-seed0: left: case_7: cannot be read; replace it; all of it is in " in said
    assert "1 of 5 arms did not end (bad-phantom-seed0)" in said
    log = next(line for line in said.splitlines() if "case_7" in line).partition("is in ")[2]
    assert "case_7" in Path(log).read_text()


def test_mlflow_shows_every_arm_with_all_its_stages(swept: Swept) -> None:
    found = json.loads(run(swept.project, "python", "-c", ASK_MLFLOW).stdout)
    assert {arm: one["status"] for arm, one in found.items()} == {
        **dict.fromkeys("abcd", "FINISHED"),
        "bad": "FAILED",
    }
    for arm in "abcd":
        assert found[arm]["children"] == sorted(["code", *NAMES])
        # A parent shows the headline numbers only; all of them are in its record.
        value = swept.records[f"{arm}-seed0"].metrics["value"]
        assert found[arm]["metrics"] == {"report.macro_f1": value}


def test_switching_back_to_an_arm_runs_no_stage(swept: Swept) -> None:
    shown = run(swept.project, "dvc", "exp", "list").stdout
    assert all(f"{arm}-phantom-seed0" in shown for arm in "abcd")
    for arm in "cad":
        run(swept.project, "dvc", "exp", "apply", f"{arm}-phantom-seed0")
        said = run(swept.project, "dvc", "repro", "evaluate").stdout
        assert "Running stage" not in said
        metrics = json.loads((swept.project / "reports" / "metrics.json").read_text())
        assert metrics == swept.records[f"{arm}-seed0"].metrics
    assert calls(swept.project, "begin") == swept.begun
    run(swept.project, "git", "checkout", "--quiet", "--force", ".")


def test_what_is_left_of_a_sweep_is_in_nobodys_way(swept: Swept) -> None:
    assert "0 files are not named" in run(swept.project, *uvlm("store", "gc")).stdout
    assert not processes_in(swept.project)


def test_the_same_command_does_only_what_is_missing(swept: Swept) -> None:
    project = swept.project
    planned = json.loads(run(project, *sweep_command("--plan", "--json")).stdout)
    assert planned["open"] == ["bad-phantom-seed0"]
    to_run = {row["stage"]: row["runs"] for row in planned["stages"]}
    assert to_run == {"index": 0, "first": 0, "left": 1, "right": 0, "evaluate": 1}

    # Now it can be read; and a record that is lost is made from what DVC has.
    (project / "conf" / "sweep" / "mini.yaml").write_text(FOUR + BAD.replace("0.5", "0.006"))
    (project / "reports" / "tables" / "runs" / "phantom" / "a-seed0.json").unlink()
    ended = run(project, *sweep_command("--workers", "2"))
    assert "mini on phantom: every arm is done" in ended.stdout
    new = calls(project, "begin") - swept.begun
    assert stages(new) == {"index": 0, "first": 0, "left": 1, "right": 0, "evaluate": 1}
    found = records(project)
    assert set(found) == {*swept.records, "bad-seed0"}
    assert {name: numbers(found[name]) for name in swept.records} == {
        name: numbers(record) for name, record in swept.records.items()
    }


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C reaches what a test starts, also where the shell began the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_second_sweep_is_refused_and_a_signal_stops_the_first(
    tmp_path: Path, empty_database: Path
) -> None:
    arms = "arms:\n  a: {}\n  b: {train_report.optim.lr: 0.003}\n"
    project = make_project(tmp_path / "p", empty_database, arms, seconds=2.0)
    first = start(project)
    wait_for_a_stage(project)
    second = run(project, *sweep_command(), code=4)
    assert "another sweep of this project is running" in second.stderr
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=300)
    assert first.returncode == 5
    assert "run the same command" in said
    assert not processes_in(project)
    run(project, *sweep_command("--workers", "2"))
    assert len(records(project)) == 2
    assert max(calls(project, "done").values()) == 1


def test_kills_lose_no_arm_and_repeat_no_stage(
    tmp_path: Path, empty_database: Path, swept: Swept
) -> None:
    arms, seconds = (FOUR, 10) if NUM_KILLS < 3 else (SIXTEEN, 25)
    project = make_project(tmp_path / "p", empty_database, arms)
    chance = random.Random(0)
    for _ in range(NUM_KILLS):
        sweep = start(project)
        wait_for_a_stage(project)
        time.sleep(chance.uniform(0, seconds))
        kill_somewhere(project, sweep, chance)
        sweep.communicate(timeout=600)
    for _ in range(3):  # what a kill of a stage alone has left
        last = start(project)
        last.communicate(timeout=1200)
        if last.returncode == 0:
            break
    found = records(project)
    assert set(found) == {f"{name}-seed0" for name in re.findall(r"^  (\w+):", arms, re.MULTILINE)}
    assert set(calls(project, "done").values()) == {1}
    assert not processes_in(project)
    for name in found.keys() & swept.records.keys():
        assert numbers(found[name]) == numbers(swept.records[name])


def uvlm(*arguments: str) -> list[str]:
    return [*sweep_command()[:3], *arguments]


def start(project: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        sweep_command("--workers", "2"),
        cwd=project,
        env=environment_of(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes_in(project: Path) -> list[psutil.Process]:
    """Processes whose folder is a slot of the project."""
    slots, found = str(project / ".uvlm" / "sweep" / "slots"), []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(slots) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def wait_for_a_stage(project: Path) -> None:
    """Wait until a worker runs, or nothing is left to run."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not processes_in(project):
        time.sleep(0.05)


def kill_somewhere(project: Path, sweep: subprocess.Popen[str], chance: random.Random) -> None:
    """Kill the sweep, a worker or a stage, without asking."""
    victims = [psutil.Process(sweep.pid)] if sweep.poll() is None else []
    victims += processes_in(project)
    if victims:
        try:
            chance.choice(victims).kill()
        except psutil.Error:
            return


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_whose_exception_python_drops_ends_the_sweep_at_its_next_look(
    number: signal.Signals, interruptible: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: dropped.append(found.exc_type))

    class Deleted:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)
            sum(range(1000))

    with _stopped_by_signals() as check:
        check()
        Deleted()
        with pytest.raises(Interrupted, match=number.name):
            check()
    assert dropped == [Interrupted]

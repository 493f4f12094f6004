"""`uvlm sweep` on a small project: real DVC, git, records and MLflow, and kills at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.pipeline.sweep.small_project import (
    calls,
    environment_of,
    make_project,
    records,
    run,
    sweep_command,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

FOUR = """
arms:
  a: {}
  b: {train_report.optim.lr: 0.003}
  c: {train_cls.optim.lr: 0.003}
  d: {train_cls.optim.lr: 0.004, train_seg.optim.lr: 0.02}
"""
SIXTEEN = "arms:\n" + "".join(
    f"  arm_{seg}{cls}{report}: {{train_seg.optim.lr: 0.0{seg}, train_cls.optim.lr: 0.00{cls}, "
    f"train_report.optim.lr: 0.00{report}}}\n"
    for seg in (1, 2)
    for cls in (1, 2)
    for report in (1, 2, 3, 4)
)


def test_four_arms_leave_records_experiments_and_nothing_to_run(
    tmp_path: Path, empty_database: Path
) -> None:
    project = make_project(tmp_path / "p", empty_database, FOUR)
    before = (project / "params.yaml").read_bytes()
    done = run(project, *sweep_command("--workers", "2"))
    assert "mini on phantom: every arm is done" in done.stdout
    found = records(project)
    assert set(found) == {f"{arm}-seed0" for arm in "abcd"}
    assert len({record.key for record in found.values()}) == 4
    assert max(calls(project, "done").values()) == 1
    stages = [line.split()[0] for line in calls(project, "done")]
    numbers = [stages.count(name) for name in ("index", "first", "left", "right", "evaluate")]
    assert numbers == [1, 2, 3, 2, 4]

    assert (project / "params.yaml").read_bytes() == before
    shown = run(project, "dvc", "exp", "list").stdout
    assert all(f"{arm}-phantom-seed0" in shown for arm in "abcd")
    assert not list((project / ".uvlm" / "sweep" / "slots").iterdir())

    began = sum(calls(project, "begin").values())
    run(project, "dvc", "exp", "apply", "c-phantom-seed0")
    switched = run(project, "dvc", "repro", "evaluate").stdout
    assert sum(calls(project, "begin").values()) == began
    assert "Running stage 'left'" not in switched
    metrics = json.loads((project / "reports" / "metrics.json").read_text())
    assert metrics == found["c-seed0"].metrics

    again = run(project, *sweep_command("--workers", "2", "--plan", "--json"))
    assert json.loads(again.stdout)["open"] == []


def test_an_arm_that_fails_leaves_the_others_and_its_exit_code(
    tmp_path: Path, empty_database: Path
) -> None:
    arms = "arms:\n  good: {}\n  bad: {train_cls.optim.lr: 0.5}\n"
    project = make_project(tmp_path / "p", empty_database, arms)
    failed = run(project, *sweep_command("--workers", "2"), code=3)
    assert "bad-phantom-seed0: left: case_7: cannot be read; replace it" in failed.stderr
    assert "1 of 2 arms did not end (bad-phantom-seed0)" in failed.stderr
    assert set(records(project)) == {"good-seed0"}
    code = (
        "import json; from mlflow.tracking import MlflowClient; "
        f"c = MlflowClient('sqlite:///{project / 'mlflow.db'}'); "
        "runs = c.search_runs([e.experiment_id for e in c.search_experiments()], "
        "\"tags.`uvlm.kind` = 'pipeline' and tags.`uvlm.table` = 'mini'\"); "
        "print(json.dumps({r.data.tags['uvlm.arm']: r.info.status for r in runs}))"
    )
    statuses = json.loads(run(project, "python", "-c", code).stdout)
    assert statuses == {"good": "FINISHED", "bad": "FAILED"}


def test_a_second_sweep_is_refused_and_a_signal_stops_the_first(
    tmp_path: Path, empty_database: Path
) -> None:
    project = make_project(tmp_path / "p", empty_database, FOUR, seconds=3.0)
    first = start(project, 2)
    wait_for_a_stage(project)
    second = run(project, *sweep_command(), code=4)
    assert "another sweep of this project is running" in second.stderr
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=300)
    assert first.returncode == 5
    assert "run the same command" in said
    assert not processes_in(project)
    run(project, *sweep_command("--workers", "2"))
    assert len(records(project)) == 4
    assert max(calls(project, "done").values()) == 1


@pytest.mark.parametrize(("arms", "num_kills"), [(FOUR, 3), (SIXTEEN, 20)])
def test_kills_lose_no_arm_and_repeat_no_stage(
    tmp_path: Path, empty_database: Path, arms: str, num_kills: int
) -> None:
    if num_kills > 3 and not os.environ.get("UVLM_LONG_CAMPAIGNS"):
        pytest.skip("UVLM_LONG_CAMPAIGNS=1 runs all 20 kills")
    project = make_project(tmp_path / "p", empty_database, arms)
    chance, last = random.Random(0), None
    for _ in range(num_kills):
        last = start(project, 2)
        wait_for_a_stage(project)
        time.sleep(chance.uniform(0, 20))
        kill_somewhere(project, last, chance)
        last.communicate(timeout=600)
    for _ in range(3):  # what a kill of a stage alone has left
        if start(project, 2).wait(1200) == 0:
            break
    names = {line.split(":")[0].strip() for line in arms.splitlines()[1:] if line.strip()}
    assert set(records(project)) == {f"{name}-seed0" for name in names}
    assert max(calls(project, "done").values()) == 1
    assert not processes_in(project)


def start(project: Path, workers: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        sweep_command("--workers", str(workers)),
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

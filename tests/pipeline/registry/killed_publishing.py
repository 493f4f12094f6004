"""A project whose stages are killed while they record and publish; run in a process of its own.

    python -m tests.pipeline.registry.killed_publishing PROJECT KILLS

MLflow is imported once; every stage and every command after it is a fork. What lies in the database
and in the folders is then read without our code. It prints a line for each problem.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # noqa: F401 - imported once
from mlflow.tracking import MlflowClient  # noqa: F401

from pipeline.dvc_yaml import read_causes, read_declarations
from pipeline.runs.mlflow_tracker import MlflowTracker, publish_pending, reap

STEPS = 24
FILES = 8


def stage(project: Path, name: str) -> None:
    """Log, publish and make a model of several files, as a training does."""
    os.environ["DVC_EXP_NAME"] = name
    causes = read_causes(project, read_declarations(project)["train_cls"])
    with MlflowTracker(causes, project, live=True) as tracking:
        begin = random.randint(1, STEPS // 2)  # continued from some steps back
        for step in range(begin, STEPS):
            tracking.log({"loss": 1 / step, "val": step / STEPS}, step)
            if step % 4 == 0:
                tracking._publish()
        make_model(project / "data/models/cls", name)


def make_model(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    weights = {}
    for number in range(FILES):
        content = f"{name} {number} ".encode() * 2000
        (folder / f"{number}.safetensors").write_bytes(content)
        weights[str(number)] = hashlib.sha256(content).hexdigest()
    (folder / "config.json").write_text(json.dumps({"kind": "cls", "weights": weights}))
    (folder / "contract.json").write_text("{}")


def forked(work: Callable[[], object]) -> int:
    """Run `work` in a child process; return its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    with suppress(BaseException):
        work()
        code = 0
    os._exit(code)


def full_disk(work: Callable[[], object]) -> Callable[[], object]:
    """Let no file grow beyond a few kB, as on a disk that is full."""

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, resource.RLIM_INFINITY))
        work()

    return limited


def problems(project: Path) -> Iterator[str]:
    """Look for what must not be, in the database and among the files."""
    with closing(sqlite3.connect(project / "mlflow.db")) as connection:
        for name, status in connection.execute(
            "SELECT name, status FROM runs WHERE status NOT IN ('FINISHED', 'FAILED', 'KILLED')"
        ):
            yield f"{name} is {status}"
        doubled = "SELECT key, step, count(*) FROM metrics GROUP BY run_uuid, key, step"
        for key, step, count in connection.execute(doubled):
            if count > 1:
                yield f"{key} at {step}: {count} points"
        for version, source in connection.execute("SELECT version, source FROM model_versions"):
            yield from missing(project, version, str(source).removeprefix("models:/"))
        shas = "SELECT tag_value FROM logged_model_tags WHERE tag_key = 'uvlm.sha256'"
        found = [row[0] for row in connection.execute(shas)]
        if len(found) > len(set(found)):
            yield "a model is there twice"


def missing(project: Path, version: int, model: str) -> Iterator[str]:
    configs = list((project / "mlruns").glob(f"models/{model}/**/config.json"))
    if len(configs) != 1:
        yield f"version {version}: {len(configs)} folders"
        return
    for name, digest in json.loads(configs[0].read_text())["weights"].items():
        path = configs[0].with_name(f"{name}.safetensors")
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            yield f"version {version}: {path.name} is not whole"


def main(project: Path, kills: int) -> None:
    random.seed(0)
    os.chdir(project)
    start = time.monotonic()
    os.waitpid(forked(lambda: stage(project, "whole")), 0)
    longest = time.monotonic() - start
    for number in range(kills):
        work = lambda: stage(project, f"run{number // 3}")  # noqa: B023, E731 - used at once
        child = forked(full_disk(work) if number % 5 == 4 else work)
        time.sleep(random.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.waitpid(forked(lambda: (reap(), publish_pending())), 0)
        for problem in problems(project):
            print(f"after kill {number}: {problem}")  # noqa: T201
    with closing(sqlite3.connect(project / "mlflow.db")) as connection:
        (runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
        (versions,) = connection.execute("SELECT count(*) FROM model_versions").fetchone()
    print(f"{kills} kills, {runs} runs, {versions} versions")  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

"""A project whose stages take a moment: DVC, git, records and MLflow are real, trainings are not.

    code -> index -> first -> left, right -> evaluate

Every stage writes what its inputs and parameters decide, and notes in `calls` that it began and
that it was done. What is committed has the numbers of another model, as the project's reports/ has.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.profiles import compose, write_params
from pipeline.reach import PACKAGES

ROOT = Path(__file__).parents[3]
NAMES = ("index", "first", "left", "right", "evaluate")
DVC_YAML = f"""
stages:
  code:
    cmd: python -m pipeline.code
    deps: [uvlm, pipeline, params.yaml]
    outs: [{", ".join(f"data/code/{name}.json" for name in NAMES)}]
  index:
    cmd: python -m pipeline.index
    deps: [data/code/index.json]
    params: [seed, tokenizer.vocabulary_size]
    outs: [data/manifests/index.jsonl]
  first:
    cmd: python -m pipeline.first
    deps: [data/code/first.json, data/manifests/index.jsonl]
    params: [seed, train_seg.optim]
    outs: [data/first, reports/first.html: {{cache: false}}]
  left:
    cmd: python -m pipeline.left
    deps: [data/code/left.json, data/first]
    params: [train_cls.optim]
    outs: [data/left]
  right:
    cmd: python -m pipeline.right
    deps: [data/code/right.json, data/first]
    params: [train_cls.batch_size]
    outs: [data/right]
  evaluate:
    cmd: python -m pipeline.evaluate
    deps: [
      data/code/evaluate.json, data/left, data/right, data/manifests/index.jsonl,
    ]
    params: [seed, train_report.optim, evaluate]
    outs: [data/claims.json, data/generated]
    metrics: [reports/metrics.json: {{cache: false}}]
"""
STAGE = """
import sys, time
from pathlib import Path

from pipeline.stage import execute
from uvlm import environment
from uvlm.data.cases import Case, write_index
from uvlm.errors import DataError
from uvlm.files import key_of, write_json_atomic
from uvlm.text.abnormalities import abnormality_names
from uvlm.text.claims import CaseClaims, write_claims
from uvlm.text.predictions import CasePrediction, write_predictions


def note(word, name, fingerprint):
    with (environment.project_root() / "calls").open("a") as file:
        file.write(f"{word} {name} {fingerprint}\\n")


def work(name, stage):
    causes = stage.causes
    note("begin", name, causes.fingerprint)
    time.sleep(float(SECONDS))
    key = key_of(name, causes.params, causes.inputs)
    if name == "left" and causes.params["train_cls"]["optim"]["lr"] == 0.5:
        raise DataError("case_7", "cannot be read", "replace it")
    names = abnormality_names(stage.params)
    for out in causes.declaration.outs:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
    if name == "index":
        cases = [Case(f"{split}_1", f"{split}_1", split, split, "v", None, {},
                      tuple([1] + [0] * (len(names) - 1)), "", "") for split in ("train", "test")]
        write_index(Path("data/manifests/index.jsonl"), cases)
    elif name == "evaluate":
        value = int(key, 16) / 16**16
        metrics = {"n": 1, "value": value, "report.macro_f1": value}
        write_json_atomic(Path("reports/metrics.json"), metrics)
        said = CasePrediction("test_1", "test", "", dict.fromkeys(names, value))
        Path("data/generated").mkdir(exist_ok=True)
        write_predictions(Path("data/generated/predictions.jsonl"), [said])
        claim = CaseClaims("test_1", (names[0],), (names[0],), ())
        write_claims(Path("data/claims.json"), "phantom", [claim])
    else:
        Path(f"data/{name}").mkdir(exist_ok=True)
        Path(f"data/{name}/a.txt").write_text(key)
        Path(f"data/{name}/b.txt").write_text(key * 1000)
        if name == "first":
            Path("reports/first.html").write_text(key)
    global FINGERPRINT
    FINGERPRINT = causes.fingerprint


def main(name):
    code = execute(name, lambda stage: work(name, stage))
    if code == 0:
        note("done", name, FINGERPRINT)
    sys.exit(code)
"""
SCRIPT = """from pipeline.moment import main

if __name__ == "__main__":
    main("NAME")
"""


def make_project(folder: Path, database: Path, arms: str, seconds: float = 0.2) -> Path:
    """Write and commit the project with a list `mini` of arms."""
    for package in (*PACKAGES, "conf"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignore)
    for name in (".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    with (folder / ".gitignore").open("a") as file:
        file.write("/calls\n/data/\n")
    for name in NAMES:
        (folder / "pipeline" / f"{name}.py").write_text(SCRIPT.replace("NAME", name))
    (folder / "pipeline" / "moment.py").write_text(STAGE.replace("SECONDS", str(seconds)))
    script = folder / "pipeline" / "code.py"
    checks = "    check_params(stage.params, environment.project_root())\n"
    script.write_text(script.read_text().replace(checks, ""))
    (folder / "dvc.yaml").write_text(DVC_YAML)
    (folder / "conf" / "sweep" / "mini.yaml").write_text(arms)
    write_params(folder, compose(folder, "phantom"))
    (folder / "reports").mkdir()
    (folder / "reports" / "metrics.json").write_text('{"n": 99, "value": 2.0}\n')
    run(folder, "git", "init", "--quiet")
    commit_all(folder)
    shutil.copy(database, folder / "mlflow.db")
    return folder


def commit_all(folder: Path) -> None:
    """Commit the working tree."""
    run(folder, "git", "add", "--all")
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    run(folder, "git", *identity, "commit", "--quiet", "--message", "tree")


def environment_of(folder: Path) -> dict[str, str]:
    """Set the variables of a person in this project, who has activated its Python."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "UVLM_DATA"))}
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
    return own | {"PATH": binaries, "PYTHONPATH": str(folder), "DVC_NO_ANALYTICS": "1"}


def run(folder: Path, *command: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command in the project and check its exit code."""
    done = subprocess.run(
        command, cwd=folder, env=environment_of(folder), capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout[-4000:] + done.stderr[-6000:]
    return done


def sweep_command(*options: str) -> list[str]:
    """Return `uvlm sweep mini`."""
    return [sys.executable, "-m", "pipeline.cli", "sweep", "mini", *options]


def calls(folder: Path, word: str) -> Counter[str]:
    """Count how often each stage and fingerprint began or was done."""
    path = folder / "calls"
    lines: Sequence[str] = path.read_text().splitlines() if path.exists() else ()
    return Counter(line.removeprefix(f"{word} ") for line in lines if line.startswith(word))


def records(folder: Path) -> dict[str, Any]:
    """Read the record of every arm by the name of its file."""
    from uvlm.arm_record import load_record

    paths = (folder / "reports" / "tables" / "runs").glob("*/*.json")
    return {path.stem: load_record(path) for path in paths}

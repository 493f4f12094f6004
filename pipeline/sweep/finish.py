"""The end of a trial: its record in the project, and an experiment that DVC knows.

The record comes last, because a trial with a record counts as done.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pipeline.dvc_yaml import code_digest, digest, read_causes, read_declarations
from pipeline.info import versions
from pipeline.paths import REPORTS, code
from pipeline.runs.case_results import BY_STAGE, cases_of, thresholds_of
from pipeline.runs.provenance import git_tags
from pipeline.runs.records import find_record
from pipeline.sweep.graph import CODE_STAGE
from pipeline.sweep.slots import CODE, Slot, Task, git
from uvlm.arm_record import ArmRecord, write_record
from uvlm.config import load_params
from uvlm.errors import UvlmError
from uvlm.text.abnormalities import abnormality_names

RECORDS: Final = REPORTS / "tables" / "runs"


def finish(slot: Slot, task: Task) -> None:
    """Save the experiment and write the record of a trial whose last stage is done."""
    save_experiment(slot, task.of(slot.folder).name, task.way)
    declarations = read_declarations(slot.folder)
    task.fingerprints = {
        name: read_causes(slot.folder, declarations[name]).fingerprint for name in task.way
    }
    slot.save(task)
    write_record(slot.project / RECORDS, make_record(slot.folder, task))


def save_experiment(slot: Slot, name: str, stages: Sequence[str]) -> None:
    """Make the slot's state an experiment of the project, on the commit that was checked out."""
    from dvc.cli import main as dvc

    baseline = git(slot.folder, "rev-parse", "HEAD")
    if dvc(["exp", "save", "--quiet", "--force", "--name", name, *stages]):
        raise UvlmError(f"experiment {name}", "DVC could not save it")
    ref = f"refs/exps/{baseline[:2]}/{baseline[2:]}/{name}"
    folder = slot.project / git(slot.project, "rev-parse", "--git-common-dir")
    (folder / f"{ref}.lock").unlink(missing_ok=True)  # of a git that was killed: the name is ours
    options = ("--quiet", "--no-write-fetch-head")
    git(slot.project, "fetch", *options, str(slot.folder), f"+{ref}:{ref}")


def make_record(root: Path, task: Task) -> ArmRecord:
    """Collect what a trial left in a workspace."""
    trial = task.of(root)
    names = abnormality_names(load_params(root / "params.yaml"))
    document: dict[str, Any] = json.loads(json.dumps(trial.document))
    scored = BY_STAGE[trial.last_stage]
    return ArmRecord(
        table=trial.table,
        row=trial.row,
        arm=trial.arm,
        profile=trial.profile,
        seed=trial.seed,
        scored=trial.scored,
        key=task.key,
        params=document,
        code=_code(root, task.way),
        inputs=_inputs(root, task.way),
        git=git_tags(root, *CODE),
        notes=trial.notes,
        abnormalities=tuple(names),
        thresholds=thresholds_of(root, names),
        metrics=json.loads((root / scored.metrics).read_text(encoding="utf-8")),
        seconds=_seconds(task),
        versions=versions(),
        cases=tuple(cases_of(root, scored, names)),
    )


def _code(root: Path, stages: Sequence[str]) -> dict[str, str]:
    scripts = {name.partition("@")[0] for name in stages} - {CODE_STAGE}
    return {script: code_digest(root / code(script)) for script in sorted(scripts)}


def _inputs(root: Path, stages: Sequence[str]) -> dict[str, str]:
    """Digest the manifests that the stages of a trial made."""
    declarations = read_declarations(root)
    made = [out for name in stages for out in declarations[name].outs]
    return {out: digest(root / out) for out in sorted(made) if out.endswith(".jsonl")}


def _seconds(task: Task) -> dict[str, float]:
    """Read how long each stage took, where it ran on this computer and was not interrupted."""
    records = {name: find_record(name, found) for name, found in task.fingerprints.items()}
    return {
        name: round(record.ended - record.started, 1)
        for name, record in records.items()
        if record and record.ended and not record.resumed
    }

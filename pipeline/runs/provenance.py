"""Which code, data and parameters a run belongs to."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pipeline.dvc_yaml import Causes, digest
from pipeline.paths import PARAMS
from pipeline.profiles import flatten, read_document
from pipeline.runs.records import RunRecord
from uvlm import environment
from uvlm.files import key_of

_CODE = ("dvc.yaml", "pipeline", "uvlm")
# What a result can depend on; outputs that git keeps, such as reports/, change with every run.
JUDGED: Final = ("uvlm", "pipeline", "conf", "params.yaml", "dvc.yaml", ".dvcignore", ".dvc/config")
_NAMED: Final = 10


def new_record(root: Path, causes: Causes) -> RunRecord:
    """Make the record of a stage as it would run now."""
    document = read_document(root / PARAMS)
    return RunRecord(
        stage=causes.declaration.name,
        fingerprint=causes.fingerprint,
        pipeline=pipeline_id(root, document),
        profile=str(document.get("profile", "unknown")),
        params=_as_text(causes.params),
        parent_params=_as_text(document),
        tags=git_tags(root, *JUDGED) | _dvc_tags(root) | _cause_tags(causes),
    )


def pipeline_id(root: Path, document: Any, experiment: str | None = None) -> str:
    """Name a pipeline run: experiment or commit, and a digest of the code and parameters."""
    experiment = experiment or environment.EXPERIMENT.read()
    experiment = experiment or (_git(root, "rev-parse", "HEAD") or "none")[:12]
    state = key_of(document, {name: digest(root / name) for name in _CODE})
    return f"{experiment}-{state[:12]}"


def git_tags(root: Path, *paths: str) -> dict[str, str]:
    """Name the commit, and which of these files and folders differ from it, new files included."""
    commit = _git(root, "rev-parse", "HEAD")
    if not commit:
        return {"git.commit": "none"}
    changes = _git(root, "status", "--porcelain", "--", *paths).splitlines()
    tags = {"git.commit": commit, "git.dirty": str(bool(changes)).lower()}
    names = [line.strip().partition(" ")[2].strip() for line in changes]
    return tags | ({"git.dirty_paths": ", ".join(names[:_NAMED])} if names else {})


def _dvc_tags(root: Path) -> dict[str, str]:
    """Name the lock file before this stage, and the experiment if there is one."""
    tags = {
        "dvc.lock_sha256": digest(root / "dvc.lock"),
        "dvc.exp_name": environment.EXPERIMENT.read(),
        "dvc.exp_baseline_rev": environment.EXPERIMENT_START.read(),
    }
    return {tag: value for tag, value in tags.items() if value}


def _cause_tags(causes: Causes) -> dict[str, str]:
    """Give the digests of the code and of every manifest and model folder that the stage reads."""
    data = {f"data.{path}": value for path, value in causes.inputs.items() if path[:5] == "data/"}
    return {"uvlm.code": causes.code, **data}


def _as_text(params: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in flatten(dict(params)).items()}


def _git(root: Path, *arguments: str) -> str:
    """Run a git command; its output, or nothing outside a repository and without git."""
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return "" if done.returncode else done.stdout.strip()

"""Where the stages leave what they make; dvc.yaml says the same, and a test compares the two."""

from __future__ import annotations

import os
from pathlib import Path

PARAMS = Path("params.yaml")
MANIFESTS = Path("data/manifests")
QUARANTINE = MANIFESTS / "quarantine"
MODELS = Path("data/models")
GENERATED = Path("data/generated")
REPORTS = Path("reports")


def manifest(name: str) -> Path:
    """Name the manifest that a stage writes."""
    return MANIFESTS / f"{name}.jsonl"


def quarantine(name: str) -> Path:
    """Name the list of cases that a stage refused."""
    return QUARANTINE / f"{name}.jsonl"


def project_root() -> Path:
    """Find the repository, also when DVC runs an experiment in a temporary copy of it."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd())


def state_root() -> Path:
    """Name the home of what outlives a stage without being an output: records, timings, states."""
    return project_root() / ".uvlm"

"""Where the stages put what they make; dvc.yaml says the same, and a test compares the two."""

from __future__ import annotations

from pathlib import Path

from uvlm import environment

PARAMS = Path("params.yaml")
CODE = Path("data/code")
MANIFESTS = Path("data/manifests")
QUARANTINE = MANIFESTS / "quarantine"
MODELS = Path("data/models")
CLASSIFIED = Path("data/classified")
GENERATED = Path("data/generated")
CLAIMS = Path("data/claims.json")
REPORTS = Path("reports")


def code(script: str) -> Path:
    """Name the file that says which code a stage's script reaches."""
    return CODE / f"{script}.json"


def manifest(name: str) -> Path:
    """Name the manifest that a stage writes."""
    return MANIFESTS / f"{name}.jsonl"


def quarantine(name: str) -> Path:
    """Name the list of cases that a stage refused."""
    return QUARANTINE / f"{name}.jsonl"


def state_root() -> Path:
    """Name the folder of what outlives a stage but is not an output: records, timings, states."""
    return environment.project_root() / ".uvlm"


def tracking_uri() -> str:
    """Name the store of MLflow's runs."""
    here = environment.project_root().resolve() / "mlflow.db"
    return environment.TRACKING_URI.read() or f"sqlite:///{here}"

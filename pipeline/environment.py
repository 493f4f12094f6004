"""What `uvlm info` shows."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.paths import PARAMS, project_root
from pipeline.profiles import read_document
from uvlm.store import store_root

_PACKAGES = ("uvlm", "torch", "monai", "dvc", "mlflow")


def describe() -> dict[str, str]:
    """Collect versions, device, profile and folders."""
    from uvlm.inference.device import choose_device, choose_precision

    device = choose_device()
    return versions() | {
        "device": str(device),
        "precision": choose_precision(device),
        "store": str(store_root()),
        "tracking": f"sqlite:///{project_root().resolve() / 'mlflow.db'}",
        "profile": _profile(PARAMS),
    }


def versions() -> dict[str, str]:
    """Collect the versions that decide a result."""
    packages = {name: _version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _profile(path: Path) -> str:
    return str(read_document(path).get("profile")) if path.exists() else "no params.yaml here"

"""What `uvlm info` shows."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from pipeline.paths import PARAMS, project_root
from pipeline.profiles import compose
from uvlm.config import Params, load_params, parse_params
from uvlm.files import store_root

_PACKAGES = ("uvlm", "torch", "monai", "dvc", "mlflow")


def describe(profile: str | None = None) -> dict[str, str]:
    """Collect versions, device, folders, and what params.yaml, or a profile of conf/, builds."""
    from uvlm.device import choose_device, choose_precision

    device = choose_device()
    facts = versions() | {
        "device": str(device),
        "precision": choose_precision(device),
        "store": str(store_root()),
        "tracking": f"sqlite:///{project_root().resolve() / 'mlflow.db'}",
    }
    if profile is not None:
        params = parse_params(compose(project_root(), profile), f"conf/profile/{profile}.yaml")
    elif PARAMS.exists():
        params = load_params(PARAMS)
    else:
        return facts | {"profile": "no params.yaml here"}
    return facts | {"profile": params.profile} | model_facts(params)


def model_facts(params: Params) -> dict[str, str]:
    """Count visual tokens and parameters and spell out the injection plan."""
    from uvlm.data.label_scheme import scheme
    from uvlm.model.describe import describe as describe_model

    classes = scheme(params.label_maps.dataset, params.label_maps.scheme)
    return {name: str(value) for name, value in describe_model(params, len(classes.names))}


def versions() -> dict[str, str]:
    """Collect the versions that decide a result."""
    packages = {name: _version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

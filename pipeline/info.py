"""What `uvlm info` shows."""

from __future__ import annotations

import platform
import sys
import textwrap
from importlib.metadata import PackageNotFoundError, version

from pipeline.paths import PARAMS, tracking_uri
from pipeline.profiles import compose
from uvlm import environment
from uvlm.config import Params, load_params, parse_params
from uvlm.files import store_root

_PACKAGES = ("uvlm", "torch", "monai", "dvc", "mlflow")
_PAGE = """# Environment variables

Places, devices and secrets are environment variables, never parameters, so that changing one
invalidates no result. `uvlm info --environment` lists them with their present values but shows no
secret. If a command needs a variable whose value is not accepted, it ends with one line and exit
code 2; if the device exists but not on this computer, with exit code 4. An empty variable counts as
not set.

`python -m pipeline.info > docs/environment.md` writes this page from the table in
`uvlm/environment.py`.

| variable | meaning | accepts | default |
|---|---|---|---|
"""


def describe(profile: str | None = None) -> dict[str, str]:
    """Collect versions, device, folders, and what params.yaml, or a profile of conf/, builds."""
    from uvlm.device import choose_device, choose_precision

    device = choose_device()
    facts = versions() | {
        "device": str(device),
        "precision": choose_precision(device),
        "store": str(store_root()),
        "tracking": environment.without_login(tracking_uri()),
    }
    if profile is not None:
        document = compose(environment.project_root(), profile)
        return facts | _model_facts(parse_params(document, f"conf/profile/{profile}.yaml"))
    if PARAMS.exists():
        return facts | _model_facts(load_params(PARAMS))
    return facts | {"profile": "no params.yaml here"}


def _model_facts(params: Params) -> dict[str, str]:
    """Name the profile, count visual tokens and parameters, spell out the injection plan."""
    from uvlm.data.label_scheme import scheme
    from uvlm.model.describe import describe as describe_model

    classes = scheme(params.label_maps.dataset, params.label_maps.scheme)
    model = describe_model(params, len(classes.names))
    return {"profile": params.profile} | {name: str(value) for name, value in model}


def describe_environment() -> list[dict[str, str]]:
    """List every environment variable: its meaning, its value now and where that comes from."""
    rows = []
    for variable in environment.TABLE:
        value, origin = variable.shown()
        row = {"name": variable.name, "value": value, "from": origin}
        rows.append(row | {"accepts": variable.kind.accepts, "meaning": variable.meaning})
    return rows


def environment_text() -> str:
    """Write the list of `describe_environment` as text."""
    lines = []
    for row in describe_environment():
        wrong = f"; use {row['accepts']}" if row["from"] == "wrong" else ""
        lines.append(f"{row['name']} = {row['value']} ({row['from']}{wrong})")
        lines.append(textwrap.indent(textwrap.fill(row["meaning"], 90), "    "))
    return "\n".join(lines)


def environment_page() -> str:
    """Write docs/environment.md, which is the same on every computer."""
    return _PAGE + "".join(
        f"| `{v.name}` | {v.meaning} | {v.kind.accepts} | {v.default_text} |\n"
        for v in environment.TABLE
    )


def versions() -> dict[str, str]:
    """Collect the versions that decide a result."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.stdout.write(environment_page())

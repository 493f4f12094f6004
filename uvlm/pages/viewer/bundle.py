"""The viewer that pages carry: read from the package, and refused if it is not what was vendored.

niivue.umd.js   the build as its authors published it on npm
licences.txt    licence of NiiVue and of every package that its build contains
viewer.json     name, version, licence, npm's integrity, sha256 and size of the build
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from uvlm.errors import SetupError

SCRIPT: Final = "niivue.umd.js"
LICENCES: Final = "licences.txt"
RECORD: Final = "viewer.json"
_REMEDY: Final = "install the package again, or run `python -m uvlm.pages.viewer.vendor`"


@dataclass(frozen=True)
class Viewer:
    """The script as text, and where it comes from."""

    script: str
    name: str
    version: str
    licence: str
    sha256: str


@cache
def load_viewer() -> Viewer:
    """Read the viewer.

    Raises:
        SetupError: a file is missing, or the script is not the one of viewer.json.
    """
    folder = files(__package__)
    try:
        record: dict[str, Any] = json.loads(folder.joinpath(RECORD).read_text(encoding="utf-8"))
        payload = folder.joinpath(SCRIPT).read_bytes()
    except (OSError, ValueError) as error:
        raise SetupError(f"{folder}", f"has no viewer ({error})", _REMEDY) from None
    found = hashlib.sha256(payload).hexdigest()
    if found != record["sha256"]:
        raise SetupError(f"{folder.joinpath(SCRIPT)}", "is not the file of viewer.json", _REMEDY)
    names = ("name", "version", "licence", "sha256")
    return Viewer(payload.decode("utf-8"), *(str(record[name]) for name in names))

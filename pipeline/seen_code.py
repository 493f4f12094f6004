"""What the stage `code` found, kept with the bytes that it read: no second look while they stay.

    <project>/.uvlm/code.json    digest of all sources, and for each script what it reaches

Taking the sources apart takes a second, and every stage wants to know whether they are still those
that `code` has seen. A file that differs by a comment is looked at again, with the same result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pipeline.paths import state_root
from pipeline.reach import PACKAGES
from uvlm.files import files_sha256, write_json_atomic

_FILE: Final = "code.json"
_MADE_HERE: Final = "__pycache__"


def remember(root: Path, found: Mapping[str, Any]) -> None:
    """Keep what `Checkout.describe` says of every script."""
    document = {"code": code_sha256(root), "scripts": dict(found)}
    write_json_atomic(state_root() / _FILE, document)


def recall(root: Path) -> dict[str, Any]:
    """Return what is kept, by script; empty if a byte has changed since, or nothing is kept."""
    try:
        document = json.loads((state_root() / _FILE).read_text(encoding="utf-8"))
        if document["code"] == code_sha256(root):
            return dict(document["scripts"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # it is made again by the next run of `code`
    return {}


def code_sha256(root: Path) -> str:
    """Hash code and data files of our packages, and dvc.yaml, which says what scripts declare."""
    files = [file for name in PACKAGES for file in (root / name).rglob("*") if file.is_file()]
    names = sorted(file.relative_to(root) for file in files if _MADE_HERE not in file.parts)
    return files_sha256(root, [Path("dvc.yaml"), *names])

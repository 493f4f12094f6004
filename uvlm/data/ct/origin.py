"""What was read of a file or folder, and what was left out, told without naming the patient.

UIDs, names of files and descriptions may identify a patient, so they are shown only if asked for;
otherwise a series goes by a salted id, its number and how many slices it has.
"""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from uvlm.environment import SALT


@dataclass(frozen=True)
class LeftOut:
    """Files below a folder that are no part of the CT that was read.

    `what` ("series 2", ".jpg") and `reason` name nobody; only a series has an id.
    """

    paths: tuple[Path, ...]
    what: str
    reason: str
    salted_id: str = ""
    slices: int = 0
    real_name: str = ""  # the SeriesInstanceUID and description of a series

    def to_json(self, *, names: bool = False) -> dict[str, Any]:
        """Return what was left out and why; with `names`, also which files."""
        told: dict[str, Any] = {"what": self.what, "id": self.salted_id or None}
        told |= {"files": len(self.paths), "slices": self.slices or None, "reason": self.reason}
        if names:
            told |= {"name": self.real_name, "paths": [str(path) for path in self.paths]}
        return told

    def to_text(self, *, names: bool = False) -> str:
        """Say it in a few words."""
        if not self.salted_id:
            return f"{len(self.paths)} {self.what} ({self.reason})"
        name = f", {self.real_name}" if names else ""
        why = f": {self.reason}" if self.reason else ""
        return f"{self.what} (id {self.salted_id}{name}, {self.slices} slices{why})"


@dataclass(frozen=True)
class CtOrigin:
    """The file or series that a volume was read from.

    `contrast` states phase and agent in words that name nobody, as far as they are tagged, and
    `elsewhere` that it is tagged as another part of the body than the chest;
    `slices` and `spacing_mm` (z, y, x) are those of the voxels as they were read.
    """

    kind: Literal["file", "series"]
    paths: tuple[Path, ...]  # in the order of their names
    salted_id: str
    series_number: str = ""
    slices: int = 0
    spacing_mm: tuple[float, ...] = ()
    contrast: tuple[str, ...] = ()
    elsewhere: str = ""
    left_out: tuple[LeftOut, ...] = ()
    real_name: str = ""  # the name of the file, or the series' SeriesInstanceUID and description

    def to_json(self, *, names: bool = False) -> dict[str, Any]:
        """Return it all; names of files and series only with `names`."""
        told: dict[str, Any] = {
            "kind": self.kind,
            "id": self.salted_id,
            "series_number": self.series_number or None,
            "files": len(self.paths),
            "slices": self.slices,
            "spacing_mm": [round(v, 6) for v in self.spacing_mm],
            "contrast": list(self.contrast),
            "left_out": [part.to_json(names=names) for part in self.left_out],
        }
        if names:
            told |= {"name": self.real_name, "paths": [str(path) for path in self.paths]}
        return told

    def to_text(self, *, names: bool = False) -> str:
        """Say it in one line."""
        number = f" {self.series_number}" if self.series_number else ""
        what = f"series{number}" if self.kind == "series" else "file"
        name = f", {self.real_name}" if names and self.real_name else ""
        size = " x ".join(f"{v:.4g}" for v in self.spacing_mm)
        line = f"{what} (id {self.salted_id}{name}), {self.slices} slices, {size} mm (z, y, x)"
        line += "".join(f", {fact}" for fact in self.contrast)
        left = "; ".join(part.to_text(names=names) for part in self.left_out)
        return f"{line}; not read: {left}" if left else line


def salted_id(*parts: str, digits: int = 8) -> str:
    """Give something a pseudonym, the same one whenever this user reads it."""
    salt = SALT.read() or _of_this_user()
    digest = hashlib.sha256("\0".join(["uvlm", salt, *parts]).encode())
    return digest.hexdigest()[:digits]


def salt_file() -> Path:
    """Return where the salt of this user is kept."""
    return Path.home() / ".config" / "uvlm" / "salt"


def _of_this_user() -> str:
    """Read the user's own salt, which is drawn when it is first needed."""
    try:
        path = salt_file()
        if not path.is_file():
            _draw(path)
        if salt := path.read_text(encoding="ascii").strip():
            return salt
    except (OSError, ValueError, RuntimeError):  # no home, or one that cannot be written
        pass
    return _of_this_machine()


def _draw(path: Path) -> None:
    """Write a random salt that only its user can read; whoever comes second keeps the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="ascii") as file:  # mode 0600
        file.write(secrets.token_hex(32) + "\n")
        file.flush()
        with suppress(FileExistsError):
            os.link(file.name, path)


def _of_this_machine() -> str:
    """Read what systemd keeps for such keys; it must not be shown, so it is only hashed."""
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        machine = ""
    return f"{machine} {platform.node()}"


def in_words(names: Sequence[str]) -> str:
    """Join names: a, b and c."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))

"""Where the DICOM objects of a draft are; needs nothing but the standard library."""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from uvlm.errors import SetupError, install

FOLDER: Final = "draft_dicom"  # in that of a draft; "dicom" is what users call their own
_NAMES: Final = ("masks.dcm", "report.dcm", "pdf.dcm")
_PLANES: Final = "plane_[0-9][0-9].dcm"


def check_installed(*packages: str) -> None:
    """Refuse, before any work is done, what packages are missing for."""
    for name in packages or ("highdicom",):
        if find_spec(name) is None:
            raise SetupError(name, "is not installed, and DICOM needs it", install("dicom"))


def remove_objects(folder: Path, all_but: Collection[str] = ()) -> None:
    """Remove the objects of an older draft, which would pass for those of another one."""
    for file in [folder / name for name in _NAMES] + list(folder.glob(_PLANES)):
        if file.name not in all_but:
            file.unlink(missing_ok=True)
    if not all_but and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()

"""Which CT a row of the table means: by its path, or by a name anywhere below the folder.

A name is that of an image file, with or without suffix, or that of a folder which holds one CT
(`uvlm/data/ct/find.py`), so `p01` is `p01.nii.gz`, `p01/ct.nii.gz` or `p01/DICOM/SE0001/`.
"""

from __future__ import annotations

import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from uvlm.data.ct.find import (
    IMAGE_SUFFIXES,
    NO_CT,
    SEVERAL_CTS,
    files_below,
    find_ct,
    is_dicom,
    mode_of,
    without_suffix,
)
from uvlm.data.ct.origin import CtOrigin, in_words
from uvlm.data.ct.volume import ReadError
from uvlm.data.sets.own.table import OwnRow
from uvlm.tables import BadRow


@dataclass(frozen=True)
class OwnCt:
    """The CT of a row, as the reader finds it."""

    case_id: str
    origin: CtOrigin


@dataclass(frozen=True)
class Candidates:
    """The files and folders that a row may mean, before anything in them is read."""

    row: OwnRow
    paths: tuple[Path, ...]
    folder: Path


@dataclass
class OwnFolder:
    """What lies below a user's folder."""

    root: Path
    files: list[Path]
    by_name: dict[str, list[Path]] = field(default_factory=dict)

    @classmethod
    def of(cls, root: Path) -> OwnFolder:
        """List the folder once; names and paths lead to image files and folders with files.

        A DICOM file at the top is a CT of its own, with all slices as frames.
        """
        files = list(files_below(root))
        named = {path for path in files if path.name.lower().endswith(IMAGE_SUFFIXES)}
        alone = {path: path.stem for path in files if path.parent == root and is_dicom(path)}
        named |= {above for path in files for above in path.parents if root in above.parents}
        folder = cls(root, files)
        for path in sorted(named | set(alone)):
            for name in {alone.get(path, path.name), path.relative_to(root).as_posix()}:
                folder.by_name.setdefault(without_suffix(name), []).append(path)
        return folder

    def candidates(self, rows: Sequence[OwnRow], *, by_path: bool) -> list[Candidates]:
        """Find what each row may mean.

        Args:
            rows: of the table.
            by_path: the table has a column of paths; a name is then tried after the path.
        """
        exact = [self._exact(row.file, by_path=by_path) for row in rows]
        # Names that differ in case or in how accents are written, unless two rows could mean them.
        claimed = {path for paths in exact for path in paths}
        loose: dict[str, list[Path]] = {}
        for name, paths in self.by_name.items():
            loose.setdefault(_alike(name), []).extend(p for p in paths if p not in claimed)
        wanted = Counter(_alike(_name(r.file)) for r, e in zip(rows, exact, strict=True) if not e)
        found = []
        for row, paths in zip(rows, exact, strict=True):
            key = _alike(_name(row.file))
            if not paths and wanted[key] == 1:
                paths = loose.get(key, [])
            found.append(Candidates(row, tuple(_outermost(paths)), self.root))
        return found

    def unnamed(self, candidates: Sequence[Candidates]) -> int:
        """Count image files and folders of DICOM files that no row means."""
        meant = {path for found in candidates for path in found.paths}
        rest = [p for p in self.files if not meant & {p, *p.parents}]
        images = {p for p in rest if p.name.lower().endswith(IMAGE_SUFFIXES)}
        return len(images) + len({p.parent for p in rest if p not in images and is_dicom(p)})

    def _exact(self, file: str, *, by_path: bool) -> list[Path]:
        direct, mode = self.root / file, mode_of(self.root / file)
        if file and (stat.S_ISREG(mode) or (by_path and mode)):
            return [direct]
        return self.by_name.get(_name(file), [])


def find_own(found: Candidates) -> OwnCt | BadRow:
    """Ask the reader for the one CT among the candidates of a row."""
    cts: list[tuple[Path, CtOrigin]] = []
    errors: list[ReadError] = []
    for path in found.paths:
        try:
            cts.append((path, find_ct(path).origin))
        except ReadError as error:
            errors.append(error)
    row = found.row
    refused = [error for error in errors if error.reason != NO_CT]
    if len(cts) == 1 and not refused:
        return OwnCt(row.case_id, cts[0][1])
    if len(found.paths) > 1 and len(cts) + len(refused) > 1:
        names = [path.relative_to(found.folder).as_posix() for path in found.paths[:3]]
        fact = f"{row.place}: {len(found.paths)} files match: {in_words(names)}"
        return BadRow(row.case_id, "ambiguous_file", fact)
    if errors:
        return _refused(row, (refused or errors)[0])
    fact = f"{row.place}: there is no {row.file} with one of {', '.join(IMAGE_SUFFIXES)}"
    return BadRow(row.case_id, "missing_file", f"{fact}, nor a folder of that name")


def _refused(row: OwnRow, error: ReadError) -> BadRow:
    """Keep names of files, which may name the patient, out of what is recorded."""
    fact = error.fact.partition(":")[0] if error.reason == SEVERAL_CTS else error.fact
    fact = f"{row.place}: its folder {fact} (`uvlm check-ct` names the files)"
    return BadRow(row.case_id, error.reason, fact)


def _outermost(paths: Sequence[Path]) -> Iterator[Path]:
    """Drop what lies below another one, and second links to one place."""
    seen = set()
    for path in paths:
        real = path.resolve()
        if real not in seen and not any(other in path.parents for other in paths):
            yield path
        seen.add(real)


def _name(file: str) -> str:
    return without_suffix(file.replace("\\", "/"))


def _alike(name: str) -> str:
    """Fold case and accents' two ways of being written; macOS decomposes the names of files."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())

"""What an error may say of a CT: that it is the third, not that it is Mrs Doe's.

Names of files and folders, entries of zips and texts of DICOM headers are taken out of every line,
and so is whatever a line quotes. The number of the CT and its salted id tell the user which it is.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from uvlm.data.ct.archive import is_zip, names_in
from uvlm.data.ct.find import files_below, is_dicom, without_suffix
from uvlm.errors import ReadError, UvlmError, as_known

HIDDEN: Final = "..."
_MOST_FILES: Final = 100_000
_MOST_HEADERS: Final = 20
_SHORTEST: Final = 3  # letters; "CT" and "1" name nobody
_QUOTED: Final = re.compile(r"(?<!\w)b?('[^']*'|\"[^\"]*\")(?!\w)")  # not the s of "the CT's"
_IDENTIFYING: Final = frozenset(  # representations of values in DICOM: names, texts, ids, times
    ["PN", "LO", "SH", "LT", "ST", "UT", "UC", "UI", "UR", "AE", "AS", "DA", "DT", "TM", "CS"]
)
_TERMS: Final = frozenset(  # of the standard, which name nobody
    ["MONOCHROME1", "MONOCHROME2", "RGB", "PALETTE", "COLOR", "ORIGINAL", "DERIVED", "PRIMARY"]
)
# Words of our own lines, which are no names even where a file is called by them.
_OURS: Final = frozenset(
    {
        *("and", "are", "but", "for", "from", "has", "have", "its", "nor", "not", "that", "the"),
        *("this", "was", "with", "cts", "dicom", "file", "files", "folder", "header", "image"),
        *("images", "patient", "patients", "scan", "series", "slice", "slices", "voxel", "voxels"),
        "zip",
    }
)
_SYSTEM: Final = frozenset(Path(__file__).absolute().parts) | {"/", "tmp", "home", "mnt", "data"}


def line_of(error: BaseException, who: str, path: Path, *, names: bool) -> str:
    """Say in one line what went wrong with a CT.

    Args:
        error: what was raised.
        who: how the CT is called.
        path: where it is.
        names: whether real names may be shown.
    """
    known = as_known(error)
    if known is None:
        return f"{who}: a bug ({type(error).__name__} at {_place_of(error)}); please report it"
    fact, remedy = known.fact, known.remedy
    if names:
        fact = known.named if isinstance(known, ReadError) else fact
        line = f"{known.subject}: {fact}"
    else:
        hide = _Hider(path)
        line, remedy = f"{who}: {hide(fact)}", hide(remedy)
    return f"{line}; {remedy}" if remedy else line


def reason_of(error: BaseException) -> str:
    """Return a slug to count by."""
    known = as_known(error)
    if isinstance(known, ReadError):
        return known.reason
    return "bug" if known is None else type(known).__name__


class _Hider:
    """Takes what may identify a patient out of a line about a CT."""

    def __init__(self, path: Path) -> None:
        found = {word for word in _words_of(path) if len(word) >= _SHORTEST}
        words = {word for word in found if word.lower() not in _OURS}
        longest_first = sorted(words, key=len, reverse=True)
        any_of = "|".join(map(re.escape, longest_first))
        self._words = re.compile(rf"(?<![^\W_])(?:{any_of})(?![^\W_])", re.IGNORECASE)
        self._any = bool(words)

    def __call__(self, line: str) -> str:
        line = _QUOTED.sub(HIDDEN, line)
        return self._words.sub(HIDDEN, line) if self._any else line


def _words_of(path: Path) -> Iterator[str]:
    """Yield every text of a path, of what lies below it, and of its DICOM headers."""
    absolute = Path(path).absolute()
    names = [str(absolute), str(path), *(p for p in absolute.parts if p not in _SYSTEM)]
    if is_zip(path):
        names += [part for name in names_in(path) for part in (name, *Path(name).parts)]
    files: Iterable[Path] = [path]
    if path.is_dir():
        files = list(islice(_listed(path), _MOST_FILES))
        for file in files:
            names += [str(file), *file.relative_to(path).parts]
    for name in names:
        yield from (name, without_suffix(name), Path(name).stem)
        yield from re.split(r"[\s^_=,.+-]+", Path(name).stem)
    for file in islice((f for f in files if is_dicom(f)), _MOST_HEADERS):
        yield from _texts_of(file)


def _listed(folder: Path) -> Iterator[Path]:
    try:
        yield from files_below(folder)
    except UvlmError:
        return


def _texts_of(file: Path) -> Iterator[str]:
    """Yield the texts of a DICOM header and their parts, as far as they can be read."""
    import pydicom

    try:
        dataset: Any = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        for element in dataset.iterall():
            if element.VR in _IDENTIFYING:
                text = str(element.value)
                words = (text, *re.split(r"[\s^=,\[\]']+", text))
                yield from (word for word in words if word not in _TERMS)
    except Exception:
        return


def _place_of(error: BaseException) -> str:
    """Say where in this program an error was raised; its text may hold anything."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "uvlm" in Path(frame.filename).parts] or frames
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "an unknown place"

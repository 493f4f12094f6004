"""The one way to find a CT: a file is itself, a folder is the one CT anywhere below it.

    files below, hidden ones aside -> image files | DICOM slices by series | anything else
    one image file, or one series by `dicom_choice`, is the CT; several CTs are refused by name

`check-ct`, `predict` and the download of a user's own data all ask `find_ct`, so what one of them
reads the others read too.
"""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uvlm.data.ct.formats.verified import DICOM_START, starts_dicom
from uvlm.data.ct.origin import CtOrigin, LeftOut, in_words, salted_id
from uvlm.data.ct.volume import AmbiguousCt, ReadError

if TYPE_CHECKING:
    from uvlm.data.ct.formats.dicom_header import CtFile

NO_CT: Final = "no_ct_series"
SEVERAL_CTS: Final = "several_cts"
IMAGE_SUFFIXES: Final = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
# What a DICOM file may be called, besides names that end in a number; all else must say so itself.
_SLICE_SUFFIXES: Final = ("", ".dcm", ".dicom", ".dic", ".ima")
_NO_SLICES: Final = ("DICOMDIR", "README", "LICENSE", "VERSION", "LOCKFILE", "INDEX")
# Other files are only called by a suffix that names nobody.
_KNOWN: Final = (
    *(".txt", ".md", ".json", ".xml", ".csv", ".html", ".pdf", ".png", ".jpg", ".jpeg", ".gif"),
    *(".doc", ".docx", ".xlsx", ".zip", ".raw", ".zraw", ".hdr", ".img", ".exe", ".inf", ".db"),
)
_START_OF_TEXT: Final = 512


def image_suffix(name: str) -> str:
    """Return the suffix of an image file in lower case; empty if it has none."""
    return next((s for s in IMAGE_SUFFIXES if name.lower().endswith(s)), "")


def without_suffix(name: str) -> str:
    """Strip the suffix of an image file."""
    return name[: len(name) - len(image_suffix(name))]


@dataclass(frozen=True, eq=False)
class FoundCt:
    """What will be read: one image file, or the slices of one series with their headers."""

    origin: CtOrigin
    series: Sequence[CtFile] = ()


@dataclass
class _Below:
    """What lies below a folder."""

    images: list[Path] = field(default_factory=list)
    series: dict[str, list[CtFile]] = field(default_factory=lambda: defaultdict(list))
    others: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    errors: list[ReadError] = field(default_factory=list)
    notes: list[ReadError] = field(default_factory=list)  # the same, of what is rather a note


def find_ct(path: Path) -> FoundCt:
    """Find the CT that a file or folder is.

    Raises:
        ReadError: a folder holds no CT or a damaged slice.
        AmbiguousCt: it holds more than one, and nothing says which is meant.
    """
    if not stat.S_ISDIR(mode_of(path)):
        return FoundCt(_file_origin(path))
    below = _sort(path)
    others = _others(below)
    if len(below.images) + bool(below.series) > 1:
        _refuse_several(path, below)
    if below.images:
        return FoundCt(_file_origin(below.images[0], others))
    if not below.series:
        kinds = ", ".join(f"{len(part.paths)} {part.what}" for part in others)
        fact = f"holds no CT slices ({kinds or 'no files'})"
        is_packed = ".zip" in below.others
        remedy = "unpack it" if is_packed else "pass the folder of an axial CT series"
        raise ReadError(path, fact, remedy, reason=NO_CT)
    return _series(path, below, others)


def files_below(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """List the files below a folder in order; links are followed, hidden names are not.

    Raises:
        ReadError: a folder below it cannot be listed.
    """
    real = os.path.realpath(folder)
    if real in above:  # a link that leads back up
        return
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        fact = f"cannot be listed ({error.strerror})"
        raise ReadError(folder, fact, "check its permissions", reason="unreadable") from None
    for path in paths:
        if stat.S_ISDIR(mode_of(path)):
            yield from files_below(path, (*above, real))
        else:
            yield path


def mode_of(path: Path) -> int:
    """Return what kind of file this is, as `stat` does; 0 if that cannot be known."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):  # a link to nothing, no permission, a name that cannot exist
        return 0


def _sort(folder: Path) -> _Below:
    """Tell image files, CT slices and everything else apart; every header is read."""
    below = _Below()
    # Two links to one file are one file.
    for path in {os.path.realpath(path): path for path in files_below(folder)}.values():
        if path.name.lower().endswith(IMAGE_SUFFIXES):
            below.images.append(path)
        elif _may_be_slice(path):
            _add_slice(below, path)
        else:
            suffix = path.suffix.lower()
            below.others[suffix if suffix in _KNOWN else "other"].append(path)
    return below


def _add_slice(below: _Below, path: Path) -> None:
    from uvlm.data.ct.formats.dicom_header import read_header  # pydicom takes long to import

    try:
        file = read_header(path)
    except ReadError as error:
        (below.notes if _is_note(path) else below.errors).append(error)
        return
    if isinstance(file, str):
        below.others[file].append(path)
    else:
        below.series[file.series].append(file)


def is_dicom(path: Path) -> bool:
    """Whether the first bytes of a file are those of DICOM."""
    if not stat.S_ISREG(mode_of(path)):  # to open a pipe would wait for its other end
        return False
    try:
        with path.open("rb") as file:
            return starts_dicom(file.read(DICOM_START))
    except OSError:
        return False


def _is_note(path: Path) -> bool:
    """Whether a file without suffix is text under a name without number, as no slice is."""
    if path.suffix or any(letter.isdigit() for letter in path.name):
        return False
    try:
        with path.open("rb") as file:
            start = file.read(_START_OF_TEXT)
    except OSError:
        return False
    # Control characters but tabs and ends of lines; whatever the encoding of its letters.
    return not any(byte < 9 or 13 < byte < 32 for byte in start)


def _may_be_slice(path: Path) -> bool:
    """Whether a file claims to be DICOM, by its name or its first bytes."""
    suffix, mode = path.suffix.lower(), mode_of(path)
    # What cannot be looked at may be a slice that is missing here; the reader then says so.
    if path.name.upper() in _NO_SLICES or (mode and not stat.S_ISREG(mode)):
        return False
    return suffix in _SLICE_SUFFIXES or suffix[1:].isdigit() or is_dicom(path)


def _series(folder: Path, below: _Below, others: Sequence[LeftOut]) -> FoundCt:
    from uvlm.data.ct.formats.dicom_choice import Series, choose
    from uvlm.data.ct.formats.dicom_tags import contrast_of

    chosen, left = choose([Series(files) for files in below.series.values()], folder)
    first = chosen.files[0]
    origin = CtOrigin(
        kind="series",
        paths=tuple(file.path for file in chosen.files),
        salted_id=salted_id(first.series),
        series_number=first.number,
        slices=chosen.num_slices,
        contrast=contrast_of(first),
        elsewhere=chosen.elsewhere(),
        left_out=(*left, *others),
        real_name=chosen.real_name,
    )
    return FoundCt(origin, chosen.files)


def _file_origin(path: Path, left: Sequence[LeftOut] = ()) -> CtOrigin:
    # Not of the name alone: `ct.nii.gz` is what many files in many folders are called.
    salted = salted_id(os.path.realpath(path))
    return CtOrigin("file", (path,), salted, left_out=tuple(left), real_name=path.name)


def _others(below: _Below) -> list[LeftOut]:
    """List what is no image; raise if it may be a damaged slice."""
    errors = below.errors + below.notes
    # Among slices it may be a damaged one, and alone it is all there is; beside an image file it
    # need not be a slice.
    if (below.errors and below.series) or (errors and not below.series and not below.images):
        raise errors[0]
    others = [LeftOut(tuple(p), kind, "no CT image") for kind, p in sorted(below.others.items())]
    wrong = tuple(Path(error.subject) for error in errors)
    return [*others, LeftOut(wrong, "other", "not DICOM")] if wrong else others


def _refuse_several(folder: Path, below: _Below) -> None:
    names = [path.relative_to(folder).as_posix() for path in below.images]
    if below.series:
        count = sum(file.num_slices for files in below.series.values() for file in files)
        names.append(f"{count} DICOM slices")
    fact = f"holds {len(names)} images that may be the CT: {in_words(names[:5])}"
    remedy = "pass the one that is meant, or move the others elsewhere"
    raise AmbiguousCt(folder, fact, remedy, reason=SEVERAL_CTS)

"""The plan of the campaign: which files are damaged, how, and how often.

A base is a good file; a cell is one kind of damage to it, a number of times. The first table holds
damage that leaves a trace in the file, the second damage that leaves none.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks import damage, dicom_damage
from benchmarks.good_files import LARGE, SMALL, WRITERS, Shape, draw_ct
from uvlm.data.ct.volume import Volume
from uvlm.environment import REAL_DATA

Apply = Callable[[Path, Path, np.random.Generator], None]
GZIP: Final = ("nii.gz, ours", "nii.gz, nibabel int16", "nii.gz, SimpleITK")
TEXT: Final = ("mha, zlib", "nrrd, gzip")
RAW_TEXT: Final = ("mha, raw", "nrrd, raw")
REAL_FILES: Final = ("ct/chest_abdomen_3mm.nii.gz", "ct/thorax_ct-64.nrrd")


@dataclass(frozen=True)
class Cell:
    """One kind of damage to one base."""

    kind: str  # the row of the table
    apply: Apply
    count: int
    detectable: bool = True


@dataclass(frozen=True)
class Base:
    """A good file, made in a folder, and what is done to it."""

    name: str
    make: Callable[[Path], Path]
    cells: tuple[Cell, ...]


def plan() -> Iterator[Base]:
    """Name every base with its cells, small files first."""
    for name in GZIP:
        yield _phantom(name, SMALL, _nifti("nii.gz", 1.0, both_forms=name != "nii.gz, ours"))
    yield _phantom("nii, SimpleITK", SMALL, _raw_nifti("nii", 1.0))
    for name in TEXT:
        yield _phantom(name, SMALL, _text("compressed .mha, .nrrd", 1.0))
    for name in ("DICOM, explicit", "DICOM, jpeg_lossless"):
        yield _phantom(name, SMALL, _dicom(name))
    yield _phantom("Enhanced CT, explicit", SMALL, _enhanced())
    yield from _real()
    large = "8.8 MB "
    yield _phantom("nii.gz, SimpleITK", LARGE, _nifti(f"{large}nii.gz", 1.0, both_forms=True))
    yield _phantom("nii, SimpleITK", LARGE, _raw_nifti(f"{large}nii", 1.0))
    for name in TEXT:
        yield _phantom(name, LARGE, _text(f"{large}compressed .mha, .nrrd", 1.0))
    for name in RAW_TEXT:
        yield _phantom(name, LARGE, _raw_text(f"{large}raw .mha, .nrrd", 1.0))


def _phantom(name: str, shape: Shape, cells: list[Cell]) -> Base:
    def make(folder: Path) -> Path:
        return WRITERS[name](folder, _drawn(shape))

    return Base(f"{name}, {'x'.join(map(str, shape))}", make, tuple(cells))


@cache
def _drawn(shape: Shape) -> Volume:
    return draw_ct(1, shape)


def _real() -> Iterator[Base]:
    """Real CTs, if UVLM_REAL_DATA names the folder that has them."""
    root = REAL_DATA.read()
    for name in REAL_FILES if root else ():
        source = Path(root or "") / name
        cells = (
            _nifti("real nii.gz", 0.5, both_forms=False)
            if name.endswith(".nii.gz")
            else _gzip_flips()
        )
        yield Base(f"real {source.name}", partial(_copied, source), tuple(cells))


def _copied(source: Path, folder: Path) -> Path:
    return Path(shutil.copyfile(source, folder / source.name))


def _nifti(label: str, share: float, *, both_forms: bool) -> list[Cell]:
    """Damage to a compressed NIfTI file, which has sform and qform or the sform only."""
    streams = {
        "cut": (damage.cut, 200),
        "bit flipped": (damage.flip, 500),
        "512 bytes blanked": (damage.blank_block, 100),
        "bytes appended": (damage.tail, 60),
        "checksum or length flipped": (damage.flip_trailer, 40),
        "header bit flipped": (damage.flip_header, 300),
    }
    cells = [_cell(f"{label}: {kind}", act, n, share) for kind, (act, n) in streams.items()]
    once = _cell(f"{label}: bit of slope or intercept", damage.flip_single_field, 100, share)
    mirror = Cell(
        f"{label}: left and right swapped in the {'sform' if both_forms else 'only sform'}",
        _to_file(damage.edit_header(damage.mirror_sform)),
        1,
        detectable=both_forms,
    )
    return [*cells, *_edits(label), mirror, _undetectable(once)]


def _raw_nifti(label: str, share: float) -> list[Cell]:
    cells = [
        _cell(f"{label}: cut", damage.cut, 150, share),
        _cell(f"{label}: bytes appended", damage.tail, 40, share),
        _cell(f"{label}: header bit flipped", damage.flip_header, 200, share),
    ]
    voxel = _cell(f"{label}: bit of a voxel flipped", damage.flip_behind_header, 100, share)
    return [*cells, *_edits(label), _undetectable(voxel)]


def _text(label: str, share: float) -> list[Cell]:
    digit = _cell(f"{label}: digit of spacing or place", damage.change_digit, 100, share)
    return [
        _cell(f"{label}: cut", damage.cut, 60, share),
        _cell(f"{label}: bit flipped", damage.flip_behind_header, 120, share),
        _cell(f"{label}: bytes appended", damage.tail, 20, share),
        _undetectable(digit),
    ]


def _raw_text(label: str, share: float) -> list[Cell]:
    voxel = _cell(f"{label}: bit of a voxel flipped", damage.flip_behind_header, 100, share)
    return [
        _cell(f"{label}: cut", damage.cut, 60, share),
        _cell(f"{label}: bytes appended", damage.tail, 20, share),
        _undetectable(voxel),
    ]


def _gzip_flips() -> list[Cell]:
    return [
        _cell("real compressed .nrrd: cut", damage.cut, 60, 1.0),
        _cell("real compressed .nrrd: bit flipped", damage.flip_behind_header, 120, 1.0),
    ]


def _dicom(name: str) -> list[Cell]:
    cells = [
        Cell(f"DICOM: {kind}", _to_folder(act), 20) for kind, act in dicom_damage.DETECTABLE.items()
    ]
    flips = dicom_damage.in_one_slice(dicom_damage.flip_pixels)
    return [*cells, Cell(f"{name}: bit of the pixels", _to_folder(flips), 40, detectable=False)]


def _enhanced() -> list[Cell]:
    kinds = dicom_damage.ENHANCED.items()
    return [Cell(f"Enhanced CT: {kind}", _to_folder(act), 20) for kind, act in kinds]


def _edits(label: str) -> list[Cell]:
    """Apply every header that other readers repair, once."""
    return [
        Cell(f"{label}: header edited", _to_file(damage.edit_header(edit)), 1)
        for edit in damage.HEADER_EDITS.values()
    ]


def _cell(kind: str, act: damage.Damage, count: int, share: float) -> Cell:
    return Cell(kind, _to_file(act), max(1, round(count * share)))


def _undetectable(cell: Cell) -> Cell:
    return Cell(cell.kind, cell.apply, cell.count, detectable=False)


def _to_file(act: damage.Damage) -> Apply:
    def apply(original: Path, target: Path, generator: np.random.Generator) -> None:
        target.write_bytes(act(_bytes_of(original), generator))

    return apply


@lru_cache(maxsize=1)
def _bytes_of(path: Path) -> bytes:
    return path.read_bytes()


def _to_folder(act: dicom_damage.FolderDamage) -> Apply:
    def apply(original: Path, target: Path, generator: np.random.Generator) -> None:
        shutil.copytree(original, target)
        act(target, generator)

    return apply

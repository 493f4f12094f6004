"""Damage to a DICOM series in a folder, in place; see `damage` for files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from pydicom import dcmread
from pydicom.dataset import FileDataset

from benchmarks import damage

FolderDamage = Callable[[Path, np.random.Generator], None]


def remove_inner(folder: Path, generator: np.random.Generator) -> None:
    """Lose a slice that is neither the first nor the last."""
    files = _in_order(folder)
    files[int(generator.integers(1, len(files) - 1))].unlink()


def copy_slice(folder: Path, generator: np.random.Generator) -> None:
    """Add a copy of a slice under another name."""
    path = _any(folder, generator)
    shutil.copyfile(path, path.with_name(f"{path.name}_copy"))


def move_slice(folder: Path, generator: np.random.Generator) -> None:
    """Move a slice by 30 to 70 % of the distance to the next, as a wrong table position does."""
    files = _in_order(folder)
    one, two = (np.array(_read(path).ImagePositionPatient, float) for path in files[:2])
    share = generator.uniform(0.3, 0.7) * generator.choice([-1, 1])

    def moved(dataset: FileDataset) -> None:
        place = np.array(dataset.ImagePositionPatient, float) + share * (two - one)
        dataset.ImagePositionPatient = [f"{value:.4f}" for value in place]

    _change(files[int(generator.integers(1, len(files) - 1))], moved)


def another_patient(folder: Path, generator: np.random.Generator) -> None:
    """Make one slice belong to another patient."""

    def renamed(dataset: FileDataset) -> None:
        dataset.PatientID = "someone else"

    _change(_any(folder, generator), renamed)


def another_shape(folder: Path, generator: np.random.Generator) -> None:
    """Declare more rows than one slice has."""

    def taller(dataset: FileDataset) -> None:
        dataset.Rows += int(generator.integers(1, 50))

    _change(_any(folder, generator), taller)


def in_one_slice(change: damage.Damage) -> FolderDamage:
    """Apply the damage of a file to one slice."""

    def apply(folder: Path, generator: np.random.Generator) -> None:
        path = _any(folder, generator)
        path.write_bytes(change(path.read_bytes(), generator))

    return apply


def flip_pixels(payload: bytes, generator: np.random.Generator) -> bytes:
    """Flip one bit of the last three quarters of a slice, where its pixels are."""
    start = len(payload) // 4
    return payload[:start] + damage.flip(payload[start:], generator)


DETECTABLE: Final[dict[str, FolderDamage]] = {
    "one slice missing": remove_inner,
    "one slice twice": copy_slice,
    "one slice out of place": move_slice,
    "one slice of another patient": another_patient,
    "one slice with more rows than pixels": another_shape,
    "one slice cut": in_one_slice(damage.cut),
}


def lose_frame(folder: Path, generator: np.random.Generator) -> None:
    """Lose a frame of a multi-frame file that is neither the first nor the last, pixels and all."""

    def shorter(dataset: FileDataset) -> None:
        index = int(generator.integers(1, dataset.NumberOfFrames - 1))
        size = 2 * dataset.Rows * dataset.Columns
        pixels = dataset.PixelData
        dataset.PixelData = pixels[: index * size] + pixels[(index + 1) * size :]
        del dataset.PerFrameFunctionalGroupsSequence[index]
        dataset.NumberOfFrames -= 1

    _change(_any(folder, generator), shorter)


def lose_description(folder: Path, generator: np.random.Generator) -> None:
    """Lose what is said of one frame, but not its pixels."""

    def shorter(dataset: FileDataset) -> None:
        del dataset.PerFrameFunctionalGroupsSequence[
            int(generator.integers(dataset.NumberOfFrames))
        ]

    _change(_any(folder, generator), shorter)


def move_frame(folder: Path, generator: np.random.Generator) -> None:
    """Put a frame where its neighbour is."""

    def moved(dataset: FileDataset) -> None:
        index = int(generator.integers(1, dataset.NumberOfFrames))
        groups = dataset.PerFrameFunctionalGroupsSequence
        taken = groups[index - 1].PlanePositionSequence[0].ImagePositionPatient
        groups[index].PlanePositionSequence[0].ImagePositionPatient = taken

    _change(_any(folder, generator), moved)


def another_stack(folder: Path, generator: np.random.Generator) -> None:
    """Make one frame part of another stack."""

    def restacked(dataset: FileDataset) -> None:
        index = int(generator.integers(dataset.NumberOfFrames))
        groups = dataset.PerFrameFunctionalGroupsSequence[index]
        groups.FrameContentSequence[0].StackID = "2"

    _change(_any(folder, generator), restacked)


ENHANCED: Final[dict[str, FolderDamage]] = {
    "one frame missing": lose_frame,
    "one frame without description": lose_description,
    "one frame at the place of another": move_frame,
    "one frame of another stack": another_stack,
    "more rows than pixels": another_shape,
    "cut": in_one_slice(damage.cut),
}


def _read(path: Path) -> FileDataset:
    return dcmread(path)


def _in_order(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: int(_read(path).InstanceNumber))


def _any(folder: Path, generator: np.random.Generator) -> Path:
    files = sorted(folder.iterdir())
    return files[int(generator.integers(len(files)))]


def _change(path: Path, edit: Callable[[FileDataset], None]) -> None:
    dataset = _read(path)
    edit(dataset)
    dataset.save_as(path)

"""Three readers of CTs, each in a process of its own, so that even a crash is only a result.

Outcomes: `refused` (an error was raised), `unchanged` (read as the original), `silent` (read, but
voxels or grid are not the original's), `crash` (the process died, hung, or, for ours, raised
anything but its own error).
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import resource
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from uvlm.data.ct.grid_rules import same_place
from uvlm.data.ct.io import read_volume
from uvlm.data.ct.volume import Affine, ReadError

Outcome = Literal["refused", "unchanged", "silent", "crash"]
Image = tuple[npt.NDArray[Any], Affine]  # (z, y, x) and LPS

READERS: Final = ("uvlm", "SimpleITK", "nibabel")
_MEMORY_BYTES: Final = 6 * 2**30
_SECONDS: Final = 120.0
_LPS_FROM_RAS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_with(reader: str, path: Path) -> Image:
    """Read a file or folder as the named package does by default."""
    if reader == "uvlm":
        volume = read_volume(path)
        return volume.array, volume.affine
    if reader == "SimpleITK":
        return _by_simpleitk(path)
    image = import_module("nibabel").load(path)
    affine = (_LPS_FROM_RAS @ image.affine)[:, [2, 1, 0, 3]]
    return np.asarray(image.dataobj).T, affine


def can_read(reader: str, path: Path) -> bool:
    """Whether the package supports the format at all."""
    return reader != "nibabel" or path.name.endswith((".nii", ".nii.gz"))


class Reader:
    """One package in a child process, compared with one original at a time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._original: Path | None = None
        self._start()

    def ask(self, path: Path) -> None:
        """Start reading a damaged file."""
        self._pipe.send(("read", path))

    def answer(self) -> Outcome:
        """Wait for the outcome; a dead or hanging process is replaced."""
        outcome: Outcome | None = None
        with contextlib.suppress(EOFError):
            if self._pipe.poll(_SECONDS):
                outcome = self._pipe.recv()
        if outcome is None:
            self.close()
            self._start()
        return outcome or "crash"

    def compare_with(self, original: Path) -> None:
        """Take an .npz of `array` and `affine` as the truth from now on."""
        self._original = original
        self._pipe.send(("original", original))

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(self.name, theirs), daemon=True)
        self._process.start()
        theirs.close()
        if self._original is not None:
            self.compare_with(self._original)


def judge(reader: str, path: Path, original: Image) -> Outcome:
    """Read a damaged file and name the outcome."""
    try:
        array, affine = read_with(reader, path)
    except ReadError:
        return "refused"
    except Exception:
        return "crash" if reader == "uvlm" else "refused"
    same = np.array_equal(array, original[0]) and same_place(original[1], affine, array.shape)
    return "unchanged" if same else "silent"


def _serve(reader: str, pipe: Connection) -> None:
    """Answer until the parent ends this process."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    logging.disable(logging.CRITICAL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # ITK's libraries write there from C
    original: Image | None = None
    while True:
        what, path = pipe.recv()
        if what == "original":
            with np.load(path) as stored:
                original = stored["array"], stored["affine"]
        elif original is not None:
            pipe.send(judge(reader, path, original))


def _by_simpleitk(path: Path) -> Image:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    if path.is_dir():
        series = sitk.ImageSeriesReader()
        names = series.GetGDCMSeriesFileNames(str(path))
        series.SetFileNames(names)
        # As a series of one file, frames would become a fourth axis.
        image = sitk.ReadImage(names[0]) if len(names) == 1 else series.Execute()
    else:
        image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    direction = np.reshape(image.GetDirection(), (image.GetDimension(),) * 2)
    if image.GetDimension() == 3:
        affine[:3, :3] = (direction * image.GetSpacing())[:, ::-1]
        affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image), affine

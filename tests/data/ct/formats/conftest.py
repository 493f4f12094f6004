"""One CT, the folder for its files, and edits of their headers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import FileDataset

from benchmarks.dicom_series import Edit
from uvlm.data.ct.io import read_volume
from uvlm.data.ct.volume import ReadError, Volume

Draw = Callable[..., npt.NDArray[np.int16]]
AFFINE = np.array([[0.0, 0, 0.7, -40], [0, 0.8, 0, -50], [2.5, 0, 0, 60], [0, 0, 0, 1]])


@pytest.fixture
def ct(chest: Draw) -> Volume:
    """Twelve axial slices."""
    return Volume(np.maximum(chest(12, 24, 20), -1024), AFFINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "study"


def refusal(path: Path) -> ReadError:
    with pytest.raises(ReadError) as caught:
        read_volume(path)
    assert caught.value.remedy
    return caught.value


def tagged(**tags: object) -> Edit:
    """Set tags in the header of every file."""

    def edit(dataset: FileDataset, number: int) -> bool:
        for name, value in tags.items():
            setattr(dataset, name, value)
        return True

    return edit

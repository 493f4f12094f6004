"""The three planes are those of the prepared CT, the right way up, and the picture is whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from uvlm.config import PreprocessConfig
from uvlm.data.ct.io import write_volume
from uvlm.data.ct.volume import Volume
from uvlm.errors import ConfigError
from uvlm.pages.ct_planes import MOST_CTS, Planes, check_cts

CONFIG = PreprocessConfig(
    orientation="LPS",
    clip_hu=(-1024, 3071),
    grid=(12, 16, 20),
    resize="stretch",
    spacing_mm=None,
    normalise="window",
    window_hu=(-1000, 1000),
)


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    """A block of tissue in air that reaches to the top, the back and the left."""
    array = np.full((12, 16, 20), -1000, np.int16)
    array[3:, 4:, 5:] = 40
    array[8:, 10:, 13:] = -100
    affine = np.eye(4)[:, [2, 1, 0, 3]] * [3.0, 2.0, 1.0, 1.0]
    write_volume(tmp_path / "block.nii.gz", Volume(array, affine))
    return tmp_path / "block.nii.gz"


def test_anterior_and_superior_are_on_top_and_right_is_left(ct: Path) -> None:
    (check,) = check_cts([ct], CONFIG)
    assert check.voxels is not None
    axial, coronal, sagittal = Planes.of("a", check.voxels, check.spacing_seen).images
    assert (axial.shape, coronal.shape, sagittal.shape) == ((16, 20), (12, 20), (12, 16))
    assert axial[0].max() == axial[:, 0].max() == -1.0  # air in front, air on the right
    assert axial[-1, -1] > -1.0
    assert coronal[-1].max() == -1.0  # air below
    assert coronal[0, -1] > -1.0
    assert sagittal[-1].max() == sagittal[:, 0].max() == -1.0
    assert sagittal[0, -1] > -1.0


@pytest.mark.slow
def test_every_accepted_ct_has_a_row_and_refused_ones_have_none(ct: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.nii.gz").write_bytes(b"")
    picture = tmp_path / "planes.png"
    checks = list(check_cts([ct, tmp_path / "bad.nii.gz"], CONFIG, picture))
    assert [check.accepted for check in checks] == [True, False]
    one = imread(picture).shape
    list(check_cts([ct, ct], CONFIG, picture))
    two = imread(picture).shape
    assert (two[0], two[1]) == (2 * one[0], one[1])
    assert imread(picture)[:, :, :3].std() > 0.1
    assert list(tmp_path.glob(".*")) == []


def test_when_all_are_refused_nothing_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "bad.nii.gz").write_bytes(b"")
    list(check_cts([tmp_path / "bad.nii.gz"], CONFIG, tmp_path / "planes.png"))
    assert not (tmp_path / "planes.png").exists()


@pytest.mark.parametrize(
    ("name", "count", "config", "fact"),
    [
        ("planes.jpg", 1, CONFIG, "not a .png"),
        ("none/planes.png", 1, CONFIG, "folder that does not exist"),
        ("planes.png", MOST_CTS + 1, CONFIG, "more than 20"),
        ("planes.png", 1, None, "without knowing how"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused_before_any_ct_is_read(
    tmp_path: Path, name: str, count: int, config: PreprocessConfig | None, fact: str
) -> None:
    with pytest.raises(ConfigError, match=fact):
        next(check_cts([tmp_path / "absent.nii"] * count, config, tmp_path / name))

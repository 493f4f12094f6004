"""One body saved along all 48 orders of its axes is one array for the network, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk

from benchmarks.dicom_series import write_series
from uvlm.config import PreprocessConfig
from uvlm.data.ct.grid import preprocess_volume
from uvlm.data.ct.io import read_volume, write_volume
from uvlm.data.ct.volume import AxisOrder, Volume, orientation_of, to_canonical

ORDERS: Final = [
    AxisOrder((file_axes[0], file_axes[1], file_axes[2]), (flips[0], flips[1], flips[2]))
    for file_axes in permutations(range(3))
    for flips in product((False, True), repeat=3)
]
STRETCH: Final = PreprocessConfig(
    orientation="LPS",
    clip_hu=(-1024, 3071),
    grid=(12, 16, 20),
    resize="stretch",
    spacing_mm=None,
    normalise="window",
    window_hu=(-1000, 1000),
)
PAD: Final = STRETCH.model_copy(update={"resize": "resample_pad", "spacing_mm": (3.0, 2.0, 2.0)})
Write = Callable[[Path, Volume], Path]


def by_simpleitk(name: str) -> Write:
    """Save with another program, which keeps its own idea of axes."""

    def write(folder: Path, volume: Volume) -> Path:
        columns = volume.affine[:3, [2, 1, 0]]
        image = sitk.GetImageFromArray(volume.array)
        image.SetSpacing(volume.spacing[::-1])
        image.SetDirection((columns / volume.spacing[::-1]).ravel().tolist())
        image.SetOrigin(volume.affine[:3, 3].tolist())
        sitk.WriteImage(image, str(folder / name), useCompression=True)
        return folder / name

    return write


def by_us(folder: Path, volume: Volume) -> Path:
    write_volume(folder / "ours.nii.gz", volume)
    return folder / "ours.nii.gz"


def as_dicom(folder: Path, volume: Volume) -> Path:
    write_series(folder / "series", volume)
    return folder / "series"


WRITERS: Final[dict[str, Write]] = {
    "ours": by_us,
    "dicom": as_dicom,
    **{name: by_simpleitk(f"a.{name}") for name in ("nii", "nii.gz", "mha", "nrrd")},
}


def stored(canonical: Volume, order: AxisOrder) -> Volume:
    affine = order.stored_affine(canonical.affine, canonical.array.shape)
    return Volume(order.backward(canonical.array), affine)


@pytest.fixture(scope="module")
def body(chest: Callable[..., npt.NDArray[np.int16]]) -> Volume:
    """A body with no symmetry, in canonical order."""
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = [2.5, 0.75, 0.625]
    affine[:, 3] = [-100.5, -120.25, 300.0, 1.0]
    return Volume(np.maximum(chest(19, 23, 27), -1024), affine)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_all_48_orders_of_a_file_give_one_cache_array(
    name: str, body: Volume, tmp_path: Path
) -> None:
    expected = {config.resize: preprocess_volume(body, config)[0] for config in (STRETCH, PAD)}
    seen = set()
    for number, order in enumerate(ORDERS):
        folder = tmp_path / str(number)
        folder.mkdir()
        read = read_volume(WRITERS[name](folder, stored(body, order)))
        seen.add(read.orientation())
        for config in (STRETCH, PAD):
            array, geometry = preprocess_volume(read, config)
            np.testing.assert_array_equal(array, expected[config.resize])
            straight = preprocess_volume(body, config)[1]
            np.testing.assert_allclose(geometry.grid_affine, straight.grid_affine, atol=1e-3)
    # A series is ordered along the normal of its slices, so it is right-handed whatever was stored.
    assert len(seen) == (24 if name == "dicom" else 48)


@pytest.mark.slow
def test_all_48_orders_of_real_cts_give_one_cache_array(real_data: Path, tmp_path: Path) -> None:
    for path in ("ct/chest_abdomen_3mm.nii.gz", "ct/thorax_ct-64.nrrd"):
        canonical = to_canonical(read_volume(real_data / path))
        expected, _ = preprocess_volume(canonical, STRETCH)
        names: set[Any] = set()
        for order in ORDERS:
            volume = stored(canonical, order)
            names.add(orientation_of(volume.affine))
            array, _ = preprocess_volume(read_volume(by_us(tmp_path, volume)), STRETCH)
            np.testing.assert_array_equal(array, expected)
        assert len(names) == 48

"""Good CTs in every format, drawn from a seed: phantoms with any axes, type and padding."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from itertools import permutations, product
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from benchmarks.dicom_enhanced import write_enhanced
from benchmarks.dicom_series import SYNTAXES, write_series
from uvlm.data.ct.io import write_volume
from uvlm.data.ct.volume import AxisOrder, Volume
from uvlm.data.sets.phantom.anatomy import Body
from uvlm.data.sets.phantom.scan import draw_scan, reconstruct
from uvlm.text.abnormalities import ABNORMALITIES

nibabel: Any = import_module("nibabel")
Shape = tuple[int, int, int]
Write = Callable[[Path, Volume], Path]

SMALL: Final[Shape] = (36, 54, 54)
LARGE: Final[Shape] = (150, 170, 172)  # 8.8 MB of voxels: smaller files hide what readers miss
PADDING: Final = (None, None, -1024, -2000, -8192)
ORDERS: Final = [
    AxisOrder((source[0], source[1], source[2]), (flips[0], flips[1], flips[2]))
    for source in permutations(range(3))
    for flips in product((False, True), repeat=3)
]
_LPS_FROM_RAS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])


def draw_ct(seed: int, shape: Shape = SMALL) -> Volume:
    """Draw a phantom chest with some abnormalities, in one of the 48 axis orders."""
    generator = np.random.default_rng(seed)
    names = [name for name in ABNORMALITIES if generator.random() < 0.25]
    scan = draw_scan(Body.draw(generator), names, SMALL, generator)
    hu = scan.hu if shape == SMALL else _enlarged(scan.hu, shape)
    array = reconstruct(hu, 25.0, generator)
    affine = np.zeros((4, 4))
    z, y, x = np.round(generator.uniform([0.8, 0.5, 0.5], [5.0, 1.0, 1.0]), 4)
    affine[[2, 1, 0], [0, 1, 2]] = z, y, x
    affine[:3, 3], affine[3, 3] = np.round(generator.uniform(-300, 300, 3), 3), 1.0
    padding = PADDING[seed % len(PADDING)]
    if padding is not None:
        array[:, _outside_circle(array.shape[1:])] = padding
    order = ORDERS[seed % len(ORDERS)]
    return Volume(order.backward(array), order.stored_affine(affine, array.shape))


def by_us(folder: Path, volume: Volume) -> Path:
    """Write with this project's writer: sform only, int16."""
    write_volume(folder / "ct.nii.gz", volume)
    return folder / "ct.nii.gz"


def by_nibabel(name: str, dtype: str = "i2", slope: float = 1.0) -> Write:
    """Write with nibabel: sform and qform."""

    def write(folder: Path, volume: Volume) -> Path:
        affine = _LPS_FROM_RAS @ volume.affine[:, [2, 1, 0, 3]]
        image = nibabel.Nifti1Image((volume.array.T / slope).astype(dtype), affine)
        image.set_qform(affine, 1)
        image.header.set_slope_inter(slope, 0)
        nibabel.save(image, folder / name)
        return folder / name

    return write


def by_simpleitk(name: str, *, compressed: bool) -> Write:
    """Write with SimpleITK in the format of the name's ending."""

    def write(folder: Path, volume: Volume) -> Path:
        image = sitk.GetImageFromArray(volume.array)
        image.SetSpacing(volume.spacing[::-1])
        columns = volume.affine[:3, [2, 1, 0]] / volume.spacing[::-1]
        image.SetDirection(columns.ravel().tolist())
        image.SetOrigin(volume.affine[:3, 3].tolist())
        sitk.WriteImage(image, str(folder / name), useCompression=compressed)
        return folder / name

    return write


def as_dicom(syntax: str) -> Write:
    """Write a series; DICOM here has no value below -1024."""

    def write(folder: Path, volume: Volume) -> Path:
        whole = Volume(np.maximum(volume.array, -1024).astype(np.int16), volume.affine)
        write_series(folder / "series", whole, syntax=syntax)
        return folder / "series"

    return write


def as_enhanced(syntax: str, *, in_order: bool) -> Write:
    """Write one multi-frame file; SimpleITK keeps the order of the frames, whatever it is."""

    def write(folder: Path, volume: Volume) -> Path:
        whole = Volume(np.maximum(volume.array, -1024).astype(np.int16), volume.affine)
        numbers = np.arange(len(volume.array))
        # Upwards along the normal of the slices, as a series is read.
        rise, down, along = volume.affine[:3, :3].T
        order = numbers if np.cross(along, down) @ rise > 0 else numbers[::-1]
        order = order if in_order else np.random.default_rng(0).permutation(order)
        path = folder / "enhanced" / "ct"
        write_enhanced(path, whole, syntax=syntax, order=order.tolist())
        return folder / "enhanced"

    return write


WRITERS: Final[dict[str, Write]] = {
    "nii.gz, ours": by_us,
    "nii.gz, nibabel int16": by_nibabel("ct.nii.gz"),
    "nii.gz, nibabel float32": by_nibabel("ct.nii.gz", "f4"),
    "nii.gz, nibabel int32": by_nibabel("ct.nii.gz", "i4"),
    "nii.gz, nibabel big-endian": by_nibabel("ct.nii.gz", ">i2"),
    "nii.gz, SimpleITK": by_simpleitk("ct.nii.gz", compressed=True),
    "nii, SimpleITK": by_simpleitk("ct.nii", compressed=False),
    "mha, zlib": by_simpleitk("ct.mha", compressed=True),
    "mha, raw": by_simpleitk("ct.mha", compressed=False),
    "nrrd, gzip": by_simpleitk("ct.nrrd", compressed=True),
    "nrrd, raw": by_simpleitk("ct.nrrd", compressed=False),
    **{f"DICOM, {syntax}": as_dicom(syntax) for syntax in SYNTAXES},
    "Enhanced CT, explicit": as_enhanced("explicit", in_order=True),
    "Enhanced CT, jpeg_lossless": as_enhanced("jpeg_lossless", in_order=False),
}


def _enlarged(hu: npt.NDArray[np.float64], shape: Shape) -> npt.NDArray[np.float64]:
    """Repeat voxels up to a shape; noise comes later and is that of the large grid."""
    for axis, length in enumerate(shape):
        hu = hu.take(np.arange(length) * hu.shape[axis] // length, axis=axis)
    return hu


def _outside_circle(shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    y, x = (np.linspace(-1, 1, length) for length in shape)
    outside: npt.NDArray[np.bool_] = y[:, None] ** 2 + x**2 > 1
    return outside

"""Preprocessing and reading of one 512 x 512 x 300 CT against the chain of the authors' release.

Their chain, written anew here: nibabel's float64 array, scipy.ndimage.zoom (order 3, no
anti-aliasing), cast to int16, (x, y, z) order, one blosc2 chunk with zstd 8; a patch is cut from
the whole array read back. Ours is what the stage `preprocess` runs: strict reader, clip,
anti-aliased resize, statistics, likeness, digest, blosc2 blocks with zstd 1.

    python -m benchmarks.preprocess    prints the ratios, keeps them in reports/benchmarks.md
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.measure import cpu_seconds, hardware, peak_growth_mb, table, write_section
from uvlm.config import PreprocessConfig
from uvlm.data.ct.grid import preprocess_volume
from uvlm.data.ct.io import write_volume
from uvlm.data.ct.volume import Volume
from uvlm.data.preprocess import make_cached
from uvlm.store import load_region, save_array

GRID: Final = (192, 256, 256)
PATCH: Final = (96, 128, 128)
CONFIG: Final = PreprocessConfig(
    orientation="LPS",
    clip_hu=(-1024, 3071),
    grid=GRID,
    resize="stretch",
    normalise="window",
    window_hu=(-1000, 1000),
)
_REPEATS: Final = 3
_PATCHES: Final = 30
HU = npt.NDArray[np.int16]


def synthetic_ct(shape: tuple[int, int, int] = (300, 512, 512)) -> Volume:
    """Draw a body with lungs and spine, and the noise of a soft kernel (12 HU)."""
    rng = np.random.default_rng(0)
    z, y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    y, x = y[:, None], x[None, :]
    array = np.empty(shape, np.int16)
    for number, height in enumerate(z):
        plane = np.full(shape[1:], -1000, np.float32)
        plane[(x / 0.85) ** 2 + (y / 0.6) ** 2 < 1] = 40
        for side in (-0.4, 0.4):
            lung = ((x - side) / 0.3) ** 2 + (y / 0.42) ** 2 < 1 - height**2
            plane[lung] = -850 + 120 * np.sin(40 * x + 25 * height)[0, np.nonzero(lung)[1]]
        plane[x**2 + ((y - 0.35) / 0.9) ** 2 < 0.012] = 350
        noise = rng.normal(0, 24, shape[1:])
        for axis in (0, 1):
            noise = (noise + np.roll(noise, 1, axis)) / 2
        array[number] = np.rint(plane + noise)
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = [1.0, 0.7, 0.7]
    affine[3, 3] = 1.0
    return Volume(array, affine)


def released_resize(array: npt.NDArray[Any]) -> HU:
    """Zoom to the grid as the release does; (x, y, z) order in and out."""
    from scipy.ndimage import zoom

    factors = [size / n for size, n in zip(GRID[::-1], array.shape, strict=True)]
    zoomed: HU = zoom(array, factors, order=3, mode="constant").astype(np.int16)
    return zoomed


def released_write(path: Path, array: HU) -> None:
    """Store one chunk of an (x, y, z) array."""
    import blosc2

    path.unlink(missing_ok=True)
    blosc2.asarray(
        np.ascontiguousarray(array),
        urlpath=str(path),
        chunks=array.shape,
        blocks=tuple(min(64, n) for n in array.shape),
        cparams=blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=8, nthreads=1),
    )


def released_chain(source: Path, target: Path) -> None:
    """From a file to a file."""
    import nibabel

    image = nibabel.Nifti1Image.from_filename(source)
    released_write(target, released_resize(image.get_fdata()))


def our_chain(source: Path, target: Path) -> None:
    """From a file to a file, with everything the stage keeps."""
    save_array(target, *make_cached(source, CONFIG))


def our_resize(volume: Volume) -> HU:
    """Resize a volume in memory."""
    return preprocess_volume(volume, CONFIG)[0]


def released_patch(path: Path, corner: tuple[int, int, int]) -> HU:
    """Read everything, turn it to (z, y, x), cut."""
    import blosc2

    whole = blosc2.open(str(path), mode="r", dparams=blosc2.DParams(nthreads=1))[:]
    return np.ascontiguousarray(whole.transpose(2, 1, 0)[_region(corner)])


def our_patch(path: Path, corner: tuple[int, int, int]) -> HU:
    """Read the blocks that the patch touches."""
    return load_region(path, _region(corner))


def _region(corner: tuple[int, int, int]) -> tuple[slice, ...]:
    return tuple(slice(start, start + size) for start, size in zip(corner, PATCH, strict=True))


def seconds_to_make(folder: Path) -> dict[str, tuple[float, float]]:
    """CPU seconds by part, the released chain's and ours."""
    source = folder / "ct.nii.gz"
    volume = synthetic_ct()
    write_volume(source, volume)
    theirs, ours = folder / "theirs.b2nd", folder / "ours.b2nd"
    turned = volume.array.transpose(2, 1, 0).astype(np.float64)
    resized = released_resize(turned), our_resize(volume)
    note = make_cached(source, CONFIG)[1]
    parts = {
        "resize": (lambda: released_resize(turned), lambda: our_resize(volume)),
        "write": (
            lambda: released_write(theirs, resized[0]),
            lambda: save_array(ours, resized[1], note),
        ),
        "from file to file": (
            lambda: released_chain(source, theirs),
            lambda: our_chain(source, ours),
        ),
    }
    times = {
        name: (cpu_seconds(their_work, _REPEATS), cpu_seconds(our_work, _REPEATS))
        for name, (their_work, our_work) in parts.items()
    }
    both = [times["resize"][side] + times["write"][side] for side in (0, 1)]
    return {"resize and write": (both[0], both[1]), **times}


def seconds_to_read(folder: Path) -> tuple[float, float]:
    """Median CPU seconds of a random patch, the released form's and ours."""
    rng = np.random.default_rng(0)
    room = np.subtract(GRID, PATCH) + 1
    corners = [(int(z), int(y), int(x)) for z, y, x in rng.integers(room, size=(_PATCHES, 3))]
    theirs, ours = iter(corners), iter(corners)
    return (
        cpu_seconds(lambda: released_patch(folder / "theirs.b2nd", next(theirs)), _PATCHES),
        cpu_seconds(lambda: our_patch(folder / "ours.b2nd", next(ours)), _PATCHES),
    )


def main() -> None:
    """Measure, print, and keep the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            [part, f"{theirs:.2f} s", f"{ours:.2f} s", f"{theirs / ours:.1f} x"]
            for part, (theirs, ours) in seconds_to_make(folder).items()
        ]
        theirs, ours = seconds_to_read(folder)
        rows.append(
            ["random 96 x 128 x 128 patch", f"{theirs * 1e3:.1f} ms", f"{ours * 1e3:.1f} ms",
             f"{theirs / ours:.1f} x"]
        )  # fmt: skip
        sizes = [(folder / f"{side}.b2nd").stat().st_size / 2**20 for side in ("theirs", "ours")]
        rows.append(["file", *(f"{size:.1f} MB" for size in sizes), ""])
        peaks = [
            peak_growth_mb(chain, folder / "ct.nii.gz", folder / "memory.b2nd")
            for chain in (released_chain, our_chain)
        ]
        rows.append(["peak memory, from file to file", *(f"{peak:.0f} MB" for peak in peaks), ""])
    body = table(["512 x 512 x 300 to 192 x 256 x 256", "release", "ours", "ratio"], rows)
    told = (
        f"Medians of CPU time, {_REPEATS} runs ({_PATCHES} patches), one thread, page cache warm; "
        "memory is the growth of the peak resident set of a process of its own. "
        f"`python -m benchmarks.preprocess`, {hardware()}."
    )
    write_section("Preprocessing one CT", f"{told}\n\n{body}")


if __name__ == "__main__":
    main()

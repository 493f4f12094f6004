"""Preprocessing: any CT to int16 Hounsfield units in LPS on the network's grid, and back.

    file axes --flip--> canonical (z, y, x) --clip--> --anti-aliased linear--> grid --round--> int16

The contract says how; its hash travels with every cached array and every checkpoint.
`resize: stretch` brings the whole volume onto the grid, `resample_pad` keeps proportions at
`spacing_mm` and cuts or pads around the middle.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from uvlm.config import Grid, Params, PreprocessConfig
from uvlm.data.cases import Case, read_index
from uvlm.data.fingerprint import fingerprint
from uvlm.data.io import read_volume
from uvlm.data.resample import Axis, resample_image, resample_labels
from uvlm.data.volume import (
    Affine,
    AxisOrder,
    LabelMap,
    ReadError,
    Volume,
    axis_order,
    spacing_of,
)
from uvlm.store import (
    CaseProgress,
    Refusal,
    Row,
    Shard,
    array_path,
    check_quarantine_share,
    find_or_make,
    key_of,
    map_cases,
    store_root,
    write_manifest,
    write_quarantine,
)

VERSION: Final = 1
_CACHE_VERSION: Final = 2  # of what is kept beside the arrays, which do not depend on it


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where a network grid lies in a CT: `shape` and `affine` are the CT's own, in file axes."""

    shape: Grid
    affine: Affine
    grid: Grid
    scale: tuple[float, float, float]  # canonical CT voxels per grid voxel, along z, y, x

    @classmethod
    def of(cls, volume: Volume, config: PreprocessConfig) -> Self:
        """Place the grid that `config` asks for in a volume."""
        order = axis_order(volume.affine)
        native = order.canonical_shape(volume.array.shape)
        if config.resize == "stretch" or config.spacing_mm is None:
            ratios = [n / size for n, size in zip(native, config.grid, strict=True)]
        else:
            spacing = spacing_of(order.canonical_affine(volume.affine, volume.array.shape))
            ratios = [w / have for w, have in zip(config.spacing_mm, spacing, strict=True)]
        z, y, x = volume.array.shape
        return cls((z, y, x), volume.affine, config.grid, (ratios[0], ratios[1], ratios[2]))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Undo `to_json`."""
        shape, grid, scale = (tuple(values[name]) for name in ("shape", "grid", "scale"))
        return cls(shape, np.array(values["affine"], float), grid, scale)

    def to_json(self) -> dict[str, Any]:
        """Give the geometry as JSON values."""
        return {
            "shape": list(self.shape),
            "affine": self.affine.tolist(),
            "grid": list(self.grid),
            "scale": list(self.scale),
        }

    @cached_property
    def order(self) -> AxisOrder:
        """How the file's axes become canonical."""
        return axis_order(self.affine)

    @cached_property
    def axes(self) -> tuple[Axis, Axis, Axis]:
        """How the grid samples the canonical CT along z, y and x."""
        native = self.order.canonical_shape(self.shape)
        z, y, x = map(Axis, native, self.grid, self.scale)
        return z, y, x

    @property
    def grid_affine(self) -> Affine:
        """Grid index (z, y, x, 1) to LPS millimetres."""
        affine = self.order.canonical_affine(self.affine, self.shape)
        for number, axis in enumerate(self.axes):
            affine[:, 3] += affine[:, number] * (0.5 * axis.scale + axis.offset - 0.5)
            affine[:, number] *= axis.scale
        return affine

    def labels_to_grid(self, canonical: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Bring canonical class ids onto the grid, at the centres that the image has there."""
        return resample_labels(canonical, self.axes)

    def labels_to_native(self, array: npt.NDArray[np.uint8]) -> LabelMap:
        """Bring class ids from the grid back to the CT's own voxels and axes."""
        canonical = resample_labels(array, [axis.inverse() for axis in self.axes])
        return LabelMap(self.order.backward(canonical), self.affine)


def preprocess_volume(
    volume: Volume, config: PreprocessConfig
) -> tuple[npt.NDArray[np.int16], Geometry]:
    """Bring a CT onto the network's grid."""
    geometry = Geometry.of(volume, config)
    array = geometry.order.view(volume.array)
    return resample_image(array, geometry.axes, config.clip_hu), geometry


def normalise(
    array: npt.NDArray[Any],
    config: PreprocessConfig,
    statistics: tuple[float, float] | None = None,
) -> npt.NDArray[np.float32]:
    """Scale Hounsfield units for the network: the window to [-1, 1], or zero mean and unit spread.

    Args:
        array: a whole preprocessed volume or a patch of one.
        config: says which.
        statistics: mean and standard deviation of the whole volume, when `array` is a patch.
    """
    values = array.astype(np.float32)
    if config.normalise == "window":
        low, high = config.window_hu
        centre, half = (low + high) / 2, (high - low) / 2
        return (np.clip(values, low, high) - np.float32(centre)) / np.float32(half)
    mean, std = statistics or volume_statistics(array)
    return (values - np.float32(mean)) / np.float32(max(std, 1.0))


def volume_statistics(array: npt.NDArray[Any]) -> tuple[float, float]:
    """Mean and standard deviation of whole numbers, summed exactly."""
    total = squares = 0
    for plane in array:  # a plane at a time: whole volumes of int64 are large
        whole = plane.astype(np.int64)
        total, squares = total + int(whole.sum()), squares + int(np.square(whole).sum())
    count = array.size
    variance = (squares * count - total * total) / (count * count)
    return round(total / count, 6), round(float(np.sqrt(variance)), 6)


def contract(config: PreprocessConfig) -> dict[str, Any]:
    """Say in JSON values how an array was prepared."""
    return {"version": VERSION, **config.model_dump(mode="json")}


def contract_sha256(config: PreprocessConfig) -> str:
    """Hash the contract."""
    text = json.dumps(contract(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def run(
    params: Params,
    index_manifest: Path,
    out: Path,
    quarantine: Path,
    progress: CaseProgress | None = None,
) -> dict[str, int]:
    """Preprocess every case of the index that the store does not hold yet.

    Returns:
        How many cases were kept, and how many refused by each reason.
    """
    cases = read_index(index_manifest)
    results = _preprocess(cases, params.preprocess, progress)
    rows = [result for result in results if isinstance(result, Row)]
    refusals = [result for result in results if isinstance(result, Refusal)]
    write_quarantine(quarantine, refusals)
    check_quarantine_share(
        "preprocess", len(refusals), len(cases), params.index.max_quarantined_share
    )
    write_manifest(out, rows)
    return {"kept": len(rows), **Counter(refusal.reason for refusal in refusals)}


def run_shard(
    params: Params, index_manifest: Path, shard: Shard, progress: CaseProgress | None = None
) -> None:
    """Preprocess one share of the cases into the store and write nothing else.

    `run` then finds every share there and only assembles; what a share refused it refuses again.
    """
    _preprocess(shard.of(read_index(index_manifest)), params.preprocess, progress)


def _preprocess(
    cases: Sequence[Case], config: PreprocessConfig, progress: CaseProgress | None
) -> list[Row | Refusal]:
    work = partial(_preprocess_case, config=config, root=store_root())
    return map_cases(work, cases, description="preprocess", progress=progress)


def _preprocess_case(case: Case, config: PreprocessConfig, root: Path) -> Row | Refusal:
    """Preprocess one case, or find it in the store."""
    made_by = config.model_dump(mode="json", exclude={"normalise", "window_hu"})
    identity = case.sha256 or case.volume
    key = key_of("preprocess", VERSION, _CACHE_VERSION, identity, case.volume, made_by)
    path = array_path("preprocess", key)
    try:
        note = find_or_make(root / path, lambda: make_cached(root / case.volume, config))
    except ReadError as error:
        return Refusal(case.case_id, case.volume, error.reason, error.fact, error.remedy)
    geometry = Geometry.from_json(note["native"])
    extra = {
        "shape": list(geometry.grid),
        "affine": geometry.grid_affine.tolist(),
        "native": note["native"],
        "mean": note["mean"],
        "std": note["std"],
        "fingerprint": note["fingerprint"],
        "contract_sha256": contract_sha256(config),
    }
    return Row(case.case_id, key, path, note["sha256"], case.source, extra)


def make_cached(
    path: Path, config: PreprocessConfig
) -> tuple[npt.NDArray[np.int16], dict[str, Any]]:
    """Read a CT; return its array on the grid and what is kept beside it."""
    volume = read_volume(path)
    array, geometry = preprocess_volume(volume, config)
    mean, std = volume_statistics(array)
    # A grid that holds the whole volume looks like it, and is smaller.
    whole = array if config.resize == "stretch" else geometry.order.view(volume.array)
    told = {"native": geometry.to_json(), "mean": mean, "std": std}
    return array, told | {"fingerprint": fingerprint(whole)}

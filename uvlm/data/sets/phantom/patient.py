"""One phantom patient on disk: scans, reconstructions, true masks, and the rows of its tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from uvlm import store
from uvlm.config import PhantomConfig
from uvlm.data.ct import io
from uvlm.data.ct.volume import AxisOrder, LabelMap, Volume
from uvlm.data.sets.phantom.anatomy import SPINE, Body
from uvlm.data.sets.phantom.reports import describe, write_report
from uvlm.data.sets.phantom.scan import LesionMask, Scan, draw_scan, reconstruct
from uvlm.files import write_bytes_atomic
from uvlm.seeding import generator
from uvlm.text.abnormalities import ABNORMALITIES

DEFECTS: Final = ("truncated_gzip", "non_finite", "duplicate_id", "empty_report", "no_chest")
_EXTENT_MM: Final = (320.0, 340.0, 340.0)
_AXIS_ORDERS: Final = (
    AxisOrder((0, 1, 2), (False, False, False)),
    AxisOrder((0, 1, 2), (False, True, True)),
    AxisOrder((0, 1, 2), (True, False, False)),
    AxisOrder((1, 0, 2), (False, False, True)),
    AxisOrder((2, 1, 0), (True, False, True)),
)
# TotalSegmentator `total` ids of what the phantom's organs are called there.
_TOTAL_ID: Final = {
    1: 1,
    5: 5,
    6: 6,
    10: 10,
    11: 11,
    12: 12,
    13: 13,
    14: 14,
    16: 16,
    21: 51,
    22: 52,
}
_T12, _VERTEBRAE = 32, 12


@dataclass(frozen=True)
class PatientRecord:
    """Everything the data set's tables need to know of one patient; JSON-serialisable."""

    patient: str
    files: list[tuple[str, str]] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    grounding: list[dict[str, Any]] = field(default_factory=list)


class _Frame(NamedTuple):
    """Where a reconstruction lies: its file's axes, and its affine in canonical order."""

    axes: AxisOrder
    affine: npt.NDArray[np.float64]


def write_patient(
    root: Path, patient: str, defect: str | None, config: PhantomConfig, seed: int
) -> PatientRecord:
    """Draw one patient from the seed and write every file of it below `root`."""
    draws = generator(seed, "phantom", patient)
    body = Body.draw(draws)
    record = PatientRecord(patient)
    num_scans = 1 + int(draws.random() < config.second_scan_fraction)
    for letter in "ab"[:num_scans]:
        _write_scan(root, f"{patient}_{letter}", defect, config, seed, body, record)
    return record


def _write_scan(
    root: Path,
    scan_id: str,
    defect: str | None,
    config: PhantomConfig,
    seed: int,
    body: Body,
    record: PatientRecord,
) -> None:
    draws = generator(seed, "phantom", scan_id)
    abnormalities = [name for name in ABNORMALITIES if draws.random() < config.prevalence]
    scan = draw_scan(body, abnormalities, _native_shape(config.shape, draws), draws)
    text = write_report(scan.findings, draws)
    report = list(text) if defect != "empty_report" else [*text[:2], "", "Not given."]
    num_reconstructions = 1 + int(draws.random() < config.second_reconstruction_fraction)
    for number in range(1, num_reconstructions + 1):
        volume_id = f"{scan_id}_{number}"
        frame = _draw_frame(scan.hu.shape, draws)
        hu = reconstruct(scan.hu, config.noise_hu * number, draws)
        _write_reconstruction(root, volume_id, defect, hu, scan, frame, record)
        record.volumes.append(
            {
                "volume": f"{volume_id}.nii.gz",
                "report": report,
                "labels": [int(name in abnormalities) for name in ABNORMALITIES],
                "shape": list(frame.axes.backward(hu).shape),
                "spacing": [float(s) for s in np.linalg.norm(frame.affine[:3, :3], axis=0)],
                "defect": defect,
            }
        )
        if number == 1 and scan.lesions:
            _write_grounding(root, volume_id, scan.lesions, frame, record)


def _native_shape(base: tuple[int, int, int], draws: np.random.Generator) -> tuple[int, int, int]:
    """Draw the base grid with up to a ninth more or fewer voxels along z and in the plane."""
    depth, plane = (float(f) for f in draws.uniform(0.89, 1.11, 2))
    return round(base[0] * depth), round(base[1] * plane), round(base[2] * plane)


def _draw_frame(shape: tuple[int, ...], draws: np.random.Generator) -> _Frame:
    axes = _AXIS_ORDERS[int(draws.integers(len(_AXIS_ORDERS)))]
    scale = float(draws.uniform(0.9, 1.15))
    spacing = [round(extent * scale / n, 3) for extent, n in zip(_EXTENT_MM, shape, strict=True)]
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = spacing  # index (z, y, x) to LPS millimetres (x, y, z)
    affine[:3, 3] = np.round(draws.uniform(-200.0, 0.0, 3), 1)
    affine[3, 3] = 1.0
    return _Frame(axes, affine)


def _write_reconstruction(
    root: Path,
    volume_id: str,
    defect: str | None,
    hu: npt.NDArray[np.int16],
    scan: Scan,
    frame: _Frame,
    record: PatientRecord,
) -> None:
    affine = frame.axes.stored_affine(frame.affine, hu.shape)
    array: npt.NDArray[Any] = frame.axes.backward(hu)
    if defect == "non_finite":
        array = array.astype(np.float32)
        array[: array.shape[0] // 3] = np.nan
    folder = f"{'train' if volume_id.startswith('train') else 'valid'}_fixed"
    patient, scan_id = record.patient, volume_id.rpartition("_")[0]
    place = f"{folder}/{patient}/{scan_id}/{volume_id}.nii.gz"
    volume_path = f"ct_rate/dataset/{place}"
    io.write_volume(root / volume_path, Volume(array, affine))
    if defect == "truncated_gzip":
        payload = (root / volume_path).read_bytes()
        write_bytes_atomic(root / volume_path, payload[: len(payload) * 3 // 5])
    record.files.append((volume_path, store.array_sha256(array)))
    masks = {
        f"ct_rate/dataset/ts_seg/ts_total/{place}": _total_ids(scan.organs),
        f"phantom_masks/airway/{volume_id}.nii.gz": np.where(scan.tubes == 1, scan.tubes, 0),
        f"phantom_masks/vessel/{volume_id}.nii.gz": np.where(scan.tubes > 1, scan.tubes, 0),
    }
    for path, mask in masks.items():
        labels = frame.axes.backward(mask.astype(np.uint8))
        io.write_label_map(root / path, LabelMap(labels, affine))
        record.files.append((path, store.array_sha256(labels)))


def _total_ids(organs: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Chest-scheme ids as TotalSegmentator `total` writes them; the spine as 12 vertebrae."""
    total = np.zeros_like(organs)
    for organ, total_id in _TOTAL_ID.items():
        total[organs == organ] = total_id
    depth = organs.shape[0]
    vertebra = (_T12 + np.arange(depth) * _VERTEBRAE // depth).astype(np.uint8)
    return np.where(organs == SPINE, vertebra[:, None, None], total)


def _write_grounding(
    root: Path,
    volume_id: str,
    lesions: tuple[LesionMask, ...],
    frame: _Frame,
    record: PatientRecord,
) -> None:
    """Write the ReXGroundingCT entry: a channel a finding, identity affine, numbered instances."""
    masks = frame.axes.backward(np.stack([lesion.instances for lesion in lesions]))
    path = f"rexgroundingct/segmentations/{volume_id}.nii.gz"
    io.write_findings_mask(root / path, masks)
    record.files.append((path, store.array_sha256(masks)))
    keyed = {str(number): lesion for number, lesion in enumerate(lesions)}
    record.grounding.append(
        {
            "name": f"{volume_id}.nii.gz",
            "findings": {key: describe(lesion.finding) for key, lesion in keyed.items()},
            "entity_counts": {key: int(m.instances.max()) for key, m in keyed.items()},
            "shape": [int(n) for n in masks.shape[:0:-1]],
            "pixels": {key: int(np.count_nonzero(m.instances)) for key, m in keyed.items()},
            "categories": {key: lesion.category for key, lesion in keyed.items()},
            "protocol": "protocol1",
        }
    )

"""One phantom patient on disk: scans, reconstructions, true masks, and the rows of its tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from uvlm import store
from uvlm.data.ct import io
from uvlm.data.ct.volume import LabelMap, Volume
from uvlm.data.sets.ct_rate.layout import SUFFIX, VolumeId, parse_id
from uvlm.data.sets.phantom.anatomy import AIRWAY, AORTA, HEART, SPINE, Body, Labels
from uvlm.data.sets.phantom.disease import Disease
from uvlm.data.sets.phantom.frame import Frame, draw_frame, native_shape
from uvlm.data.sets.phantom.reports import describe
from uvlm.data.sets.phantom.scan import LesionMask, Scan, reconstruct
from uvlm.files import write_bytes_atomic
from uvlm.seeding import generator
from uvlm.text.abnormalities import ABNORMALITIES

DEFECTS: Final = ("truncated_gzip", "non_finite", "duplicate_id", "empty_report", "no_chest")
# TotalSegmentator calls most organs of the phantom by the same id as the chest scheme.
_SAME_ID: Final = (1, 5, 6, 10, 11, 12, 13, 14, 16)
_OTHER_ID: Final = {HEART: 51, AORTA: 52}
_T12, _VERTEBRAE = 32, 12


@dataclass(frozen=True)
class PatientRecord:
    """Everything the data set's tables need to know about one patient; JSON-serialisable."""

    patient: str
    files: list[tuple[str, str]] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    grounding: list[dict[str, Any]] = field(default_factory=list)


def write_patient(
    root: Path, patient: str, defect: str | None, disease: Disease, seed: int
) -> PatientRecord:
    """Draw one patient from the seed and write all its files below `root`."""
    draws = generator(seed, "phantom", patient)
    body = Body.draw(draws)
    writer = _Writer(root, defect, disease, seed, PatientRecord(patient))
    num_scans = 1 + int(draws.random() < disease.config.second_scan_fraction)
    for letter in "ab"[:num_scans]:
        writer.scan(f"{patient}_{letter}", body)
    return writer.record


@dataclass(frozen=True)
class _Writer:
    """Writes the files of one patient and keeps the record of them."""

    root: Path
    defect: str | None
    disease: Disease
    seed: int
    record: PatientRecord

    def scan(self, scan_id: str, body: Body) -> None:
        # A stream per scan: a patient's second scan does not depend on what the first one drew.
        config, draws = self.disease.config, generator(self.seed, "phantom", scan_id)
        abnormalities = self.disease.draw(draws)
        scan = self.disease.paint(body, abnormalities, native_shape(config.shape, draws), draws)
        report = list(self.disease.write(scan.findings, draws))
        if self.defect == "empty_report":
            report[2:] = ["", "Not given."]
        num_reconstructions = 1 + int(draws.random() < config.second_reconstruction_fraction)
        for number in range(1, num_reconstructions + 1):
            name = parse_id(f"{scan_id}_{number}")
            assert name is not None  # phantoms are named as in CT-RATE
            frame = draw_frame(scan.hu.shape, draws)
            hu = reconstruct(scan.hu, config.noise_hu * number, draws)
            self._reconstruction(name, hu, scan, frame)
            self.record.volumes.append(
                {
                    "volume": f"{name.case_id}{SUFFIX}",
                    "report": report,
                    "labels": [int(name in abnormalities) for name in ABNORMALITIES],
                    "shape": list(frame.axes.backward(hu).shape),
                    "spacing": [float(s) for s in np.linalg.norm(frame.affine[:3, :3], axis=0)],
                    "defect": self.defect,
                }
            )
            # ReXGroundingCT draws on one reconstruction of a scan.
            if number == 1 and scan.lesions:
                self._grounding(name, scan.lesions, frame)

    def _reconstruction(
        self, name: VolumeId, hu: npt.NDArray[np.int16], scan: Scan, frame: Frame
    ) -> None:
        affine = frame.axes.stored_affine(frame.affine, hu.shape)
        array: npt.NDArray[Any] = frame.axes.backward(hu)
        if self.defect == "non_finite":
            array = array.astype(np.float32)
            array[: array.shape[0] // 3] = np.nan
        path = self.root / name.volume
        io.write_volume(path, Volume(array, affine))
        # The record keeps the digest of what should have been there, as a hub would.
        if self.defect == "truncated_gzip":
            payload = path.read_bytes()
            write_bytes_atomic(path, payload[: len(payload) * 3 // 5])
        self.record.files.append((name.volume, store.array_sha256(array)))
        masks = {
            "total": _total_ids(scan.organs),
            "airway": np.where(scan.tubes == AIRWAY, scan.tubes, 0),
            "vessel": np.where(scan.tubes > AIRWAY, scan.tubes, 0),
        }
        for kind, mask in masks.items():
            labels = frame.axes.backward(mask.astype(np.uint8))
            io.write_label_map(self.root / name.masks[kind], LabelMap(labels, affine))
            self.record.files.append((name.masks[kind], store.array_sha256(labels)))

    def _grounding(self, name: VolumeId, lesions: tuple[LesionMask, ...], frame: Frame) -> None:
        """Write the ReXGroundingCT entry: one channel per finding, with numbered instances."""
        # (K, D, H, W); like ReXGroundingCT's own masks, the file has an identity affine.
        masks = frame.axes.backward(np.stack([lesion.instances for lesion in lesions]))
        io.write_findings_mask(self.root / name.findings_mask, masks)
        self.record.files.append((name.findings_mask, store.array_sha256(masks)))
        keyed = {str(number): lesion for number, lesion in enumerate(lesions)}
        self.record.grounding.append(
            {
                "name": f"{name.case_id}{SUFFIX}",
                "findings": {key: describe(lesion.finding) for key, lesion in keyed.items()},
                "entity_counts": {key: int(m.instances.max()) for key, m in keyed.items()},
                "shape": [int(n) for n in masks.shape[:0:-1]],
                "pixels": {key: int(np.count_nonzero(m.instances)) for key, m in keyed.items()},
                "categories": {key: lesion.category for key, lesion in keyed.items()},
                "protocol": "protocol1",
            }
        )


def _total_ids(organs: Labels) -> Labels:
    """Turn ids of the chest scheme into those of TotalSegmentator `total`; the spine into 12."""
    total = np.where(np.isin(organs, _SAME_ID), organs, 0).astype(np.uint8)
    for organ, total_id in _OTHER_ID.items():
        total[organs == organ] = total_id
    # `total` has no spine, only vertebrae: cut it into as many slabs along z.
    depth = organs.shape[0]
    vertebra = (_T12 + np.arange(depth) * _VERTEBRAE // depth).astype(np.uint8)
    return np.where(organs == SPINE, vertebra[:, None, None], total)

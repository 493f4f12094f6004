"""Masks in the CT's own grid: what distances in millimetres and detections are measured on.

The reference is painted from the masks as published, before anything is resampled to the network's
grid; the prediction is brought back to the voxels of the CT. Test cases are compared with their
reference; of validation cases only the sizes of the predicted lesions are needed.

C classes (0 is background), L lesions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from uvlm.config import LabelMapsConfig
from uvlm.data.cases import Case
from uvlm.data.ct.grid import Geometry
from uvlm.data.ct.volume import spacing_of
from uvlm.data.label_scheme import lesion_sites, scheme
from uvlm.data.labels.label_maps import native_label_map
from uvlm.evaluation.detection import detected_volumes
from uvlm.evaluation.surface import structure_scores
from uvlm.files import store_root
from uvlm.store import CaseProgress, Row, load_array, map_cases, resolve, rows_by_case


@dataclass(frozen=True)
class MaskManifests:
    """Manifests: `preprocess` (geometry), `label_maps`, `generate`, each kind of pseudo-label.

    A case is scored when `label_maps` has it, that is, when everything in it is known; without that
    manifest none is.
    """

    volumes: Path
    label_maps: Path | None
    generated: Path
    parts: Mapping[str, Path]

    def references(self) -> dict[str, Row]:
        """Return the reference label maps by case."""
        return rows_by_case(self.label_maps) if self.label_maps else {}


@dataclass(frozen=True)
class NativeMasks:
    """What was measured in one case.

    `structures` has one row of scores for each structure of the reference; `volumes` are those of
    the L predicted lesions in mm3, None without a prediction; no two voxels of the CT are further
    apart than `diagonal_mm`.
    """

    structures: tuple[dict[str, Any], ...]
    volumes: tuple[int, ...] | None
    diagonal_mm: float


@dataclass(frozen=True)
class _Job:
    case: Case
    volume: Row
    parts: dict[str, Row]
    predicted: Row | None


def measure_masks(
    config: LabelMapsConfig,
    cases: Sequence[Case],
    manifests: MaskManifests,
    progress: CaseProgress | None = None,
) -> dict[str, NativeMasks]:
    """Measure every case that has a reference, on all cores; by case id."""
    known = manifests.references()
    volumes, predicted = map(rows_by_case, (manifests.volumes, manifests.generated))
    kinds = [kind for kind in config.priority if kind != "lesion"]  # lesions come with the case
    parts = {kind: rows_by_case(manifests.parts[kind]) for kind in kinds}
    jobs = [
        _Job(
            case,
            volumes[case.case_id],
            {kind: rows[case.case_id] for kind, rows in parts.items()},
            predicted.get(case.case_id),
        )
        for case in cases
        if case.case_id in known
    ]
    work = partial(_measure, config=config, root=store_root())
    results = map_cases(work, jobs, description="masks", progress=progress)
    return {job.case.case_id: result for job, result in zip(jobs, results, strict=True)}


def _measure(job: _Job, config: LabelMapsConfig, root: Path) -> NativeMasks:
    classes = scheme(config.dataset, config.scheme)
    geometry = Geometry.from_json(job.volume.extra["native"])
    predicted = volumes = None
    if job.predicted is not None:
        ids = load_array(resolve(job.predicted, "generate"), job.predicted.sha256)
        predicted = geometry.labels_to_native(ids.astype(np.uint8))
        volumes = detected_volumes(predicted.array, predicted.spacing, lesion_sites(classes))
    structures: list[dict[str, Any]] = []
    if job.case.split == "test":
        reference = native_label_map(job.case, job.parts, config, geometry, root)
        structures = structure_scores(reference, predicted, classes.names)
    extent = np.asarray(geometry.shape) * spacing_of(geometry.affine)
    return NativeMasks(tuple(structures), volumes, float(np.linalg.norm(extent)))

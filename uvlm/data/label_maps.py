"""Label maps for training: anatomy, airways, vessels and lesions in one map on the network's grid.

    anatomy < airway < vessel < lesion        later paint covers earlier paint

Airways and vessels cover only lung, background and each other: where they would cut into heart or
great vessels, those stay. Lesions cover everything, small categories on top of spread-out ones,
and a finding that falls between the sampling points of a coarser grid is put back.

F findings, (z, y, x) canonical order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from uvlm.config import LabelMapsConfig, Params
from uvlm.data.cases import Case, read_index
from uvlm.data.io import read_findings_mask
from uvlm.data.label_scheme import FineClasses, Ids, LabelScheme, fine_classes, look_up, scheme
from uvlm.data.preprocess import Geometry
from uvlm.data.volume import LabelMap, ReadError
from uvlm.errors import ConfigError
from uvlm.store import (
    CaseProgress,
    Refusal,
    Row,
    array_path,
    check_quarantine_share,
    find_or_make,
    key_of,
    load_array,
    map_cases,
    read_manifest,
    resolve,
    store_root,
    write_manifest,
    write_quarantine,
)
from uvlm.text.abnormalities import ABNORMALITIES

VERSION: Final = 1
_NOT_A_LESION: Final = ABNORMALITIES.index("Cardiomegaly")


@dataclass(frozen=True, eq=False)
class Finding:
    """The voxels of one finding: 0 elsewhere, k its k-th instance; `class_id` is a fine id."""

    class_id: int
    instances: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Job:
    """What one label map is made from."""

    case: Case
    volume: Row
    parts: dict[str, Row]


def merge(
    parts: Mapping[str, Ids],
    findings: Sequence[Finding],
    priority: Sequence[str],
    fine: FineClasses,
) -> Ids:
    """Paint published ids of each kind, then the findings, into one map of fine ids.

    Args:
        parts: by kind (anatomy, airway, vessel), the ids as published; (z, y, x) each.
        findings: in the order of painting; they may overlap.
        priority: kinds in the order of painting; `lesion` is the last.
        fine: the data set's classes.
    """
    tables = {"anatomy": fine.total, "airway": fine.airway, "vessel": fine.vessel}
    painted = np.zeros_like(next(iter(parts.values())))
    for kind in priority:
        if kind == "lesion" or kind not in parts:
            continue
        ids = look_up(tables[kind], parts[kind])
        covers = ids > 0
        if kind != "anatomy":
            covers &= fine.tubes_paint_over.take(painted)
        np.copyto(painted, ids, where=covers)
    if "lesion" in priority:
        for finding in findings:
            np.putmask(painted, finding.instances > 0, finding.class_id)
    return painted


def to_grid(merged: Ids, findings: Sequence[Finding], geometry: Geometry) -> Ids:
    """Sample fine ids on the network's grid; every instance of a finding keeps a voxel.

    Only instances that later paint has covered completely are gone.
    """
    grid = geometry.labels_to_grid(merged)
    for finding in findings:
        instances = np.where(merged == finding.class_id, finding.instances, 0)
        count = int(instances.max())
        seen = np.bincount(geometry.labels_to_grid(instances).ravel(), minlength=count + 1) > 0
        if not seen[1:].all():
            _put_back(grid, finding.class_id, ~seen[instances], geometry)
    return grid


def _put_back(grid: Ids, class_id: int, lost: npt.NDArray[np.bool_], geometry: Geometry) -> None:
    """Mark the grid voxel nearest to each lost voxel, unless the grid ends before it."""
    back = [axis.inverse() for axis in geometry.axes]
    at = np.nonzero(lost)
    inside = ~np.logical_or.reduce(
        [axis.outside()[index] for axis, index in zip(back, at, strict=True)]
    )
    z, y, x = (axis.nearest()[index[inside]] for axis, index in zip(back, at, strict=True))
    grid[z, y, x] = class_id


def run(
    params: Params,
    index: Path,
    preprocess: Path,
    parts: Mapping[str, Path],
    out: Path,
    progress: CaseProgress | None = None,
    quarantine: Path | None = None,
) -> dict[str, int]:
    """Make the label map of every case whose volume and pseudo-labels exist.

    With lesion classes, a case that has abnormalities but no findings mask is left out: its lesions
    would be taught as background.

    Args:
        params: the sections `label_maps` and `index`.
        index: manifest of the cases.
        preprocess: manifest of the volumes; it carries the geometry.
        parts: by kind (anatomy, airway, vessel), the manifest of the pseudo-labels.
        out: the manifest to write; `voxels` counts the voxels of each class present.
        progress: told how far it is.
        quarantine: where refused cases are listed.

    Returns:
        How many cases were kept, left out as not annotated, and refused by each reason.
    """
    config = params.label_maps
    if "lesion" in config.priority and config.priority[-1] != "lesion":
        raise ConfigError("label_maps.priority", "lesion is not the last", "lesions always survive")
    jobs, unannotated = _jobs(config, index, preprocess, parts)
    work = partial(_make, config=config, root=store_root())
    results = map_cases(work, jobs, description="label_maps", progress=progress)
    refusals = [result for result in results if isinstance(result, Refusal)]
    if quarantine is not None:
        write_quarantine(quarantine, refusals)
    check_quarantine_share(
        "label_maps", len(refusals), len(jobs), params.index.max_quarantined_share
    )
    rows = [result for result in results if isinstance(result, Row)]
    write_manifest(out, rows)
    counts = {"kept": len(rows), "unannotated": unannotated}
    return counts | Counter(refusal.reason for refusal in refusals)


def _jobs(
    config: LabelMapsConfig, index: Path, preprocess: Path, parts: Mapping[str, Path]
) -> tuple[list[_Job], int]:
    """Join the manifests; also count the cases whose lesions nobody has drawn."""
    volumes = {row.case: row for row in read_manifest(preprocess)}
    wanted: list[str] = [kind for kind in config.priority if kind != "lesion"]
    labels = {kind: {row.case: row for row in read_manifest(parts[kind])} for kind in wanted}
    jobs, unannotated = [], 0
    for case in read_index(index):
        found = {kind: rows[case.case_id] for kind, rows in labels.items() if case.case_id in rows}
        if case.case_id not in volumes or len(found) < len(wanted):
            continue
        if is_left_undrawn(case, config):
            unannotated += 1
            continue
        jobs.append(_Job(case, volumes[case.case_id], found))
    return jobs, unannotated


def is_left_undrawn(case: Case, config: LabelMapsConfig) -> bool:
    """Whether lesions are to be taught and this case has some that nobody drew."""
    lesions = [flag for i, flag in enumerate(case.abnormalities) if i != _NOT_A_LESION]
    taught = bool(scheme(config.dataset, config.scheme).lesion_ids)
    return taught and case.findings_mask is None and any(lesions)


def _make(job: _Job, config: LabelMapsConfig, root: Path) -> Row | Refusal:
    """Make one label map, or find it in the store."""
    case = job.case
    digest = case.mask_sha256.get("findings", case.findings_mask)
    made_by = [(row.sha256, row.extra["affine"]) for _, row in sorted(job.parts.items())]
    native = job.volume.extra["native"]
    settings = config.model_dump(mode="json")
    key = key_of("label_maps", VERSION, made_by, digest, case.finding_categories, native, settings)
    path = array_path("label_maps", key)
    try:
        note = find_or_make(root / path, lambda: _counted(job, config, root))
    except ReadError as error:
        return Refusal(case.case_id, error.subject, error.reason, error.fact, error.remedy)
    extra = {"voxels": note["voxels"], "annotated": case.findings_mask is not None}
    return Row(case.case_id, key, path, note["sha256"], case.source, extra)


def _counted(job: _Job, config: LabelMapsConfig, root: Path) -> tuple[Ids, dict[str, Any]]:
    """Make one label map; also count the voxels of each class present."""
    chosen = scheme(config.dataset, config.scheme)
    grid = _label_map(job, config, chosen, Geometry.from_json(job.volume.extra["native"]), root)
    counts = np.bincount(grid.ravel(), minlength=chosen.num_classes)
    return grid, {"voxels": {str(i): int(n) for i, n in enumerate(counts) if n}}


def _label_map(
    job: _Job, config: LabelMapsConfig, chosen: LabelScheme, geometry: Geometry, root: Path
) -> Ids:
    merged, findings = _painted(job.case, job.parts, config, geometry, root)
    grid: Ids = chosen.lut[to_grid(merged, findings, geometry)]
    return grid


def native_label_map(
    case: Case, parts: Mapping[str, Row], config: LabelMapsConfig, geometry: Geometry, root: Path
) -> LabelMap:
    """Paint the label map of a case on the voxels and axes of its CT, nothing sampled."""
    merged, _ = _painted(case, parts, config, geometry, root)
    ids = scheme(config.dataset, config.scheme).lut[merged]
    return LabelMap(geometry.order.backward(ids), geometry.affine)


def _painted(
    case: Case, parts: Mapping[str, Row], config: LabelMapsConfig, geometry: Geometry, root: Path
) -> tuple[Ids, list[Finding]]:
    """Merge the masks of a case in canonical order: fine ids, and the findings among them."""
    fine = fine_classes(config.dataset)
    shape = geometry.order.canonical_shape(geometry.shape)
    affine = geometry.order.canonical_affine(geometry.affine, geometry.shape)
    arrays: dict[str, Ids] = {}
    for kind, row in parts.items():
        arrays[kind] = load_array(resolve(row, f"pseudo_label@{kind}"), row.sha256)
        if arrays[kind].shape != shape or not _same_grid(affine, row.extra["affine"]):
            raise ReadError(
                row.path,
                f"the {kind} labels {arrays[kind].shape} lie on another grid than the CT {shape}",
                "resample them onto the CT",
                reason="grid_mismatch",
            )
    findings = _read_findings(case, geometry, fine, root)
    return merge(arrays, findings, config.priority, fine), findings


def _same_grid(one: npt.NDArray[np.float64], other: Any) -> bool:
    """Whether two affines agree to a tenth of a millimetre."""
    return bool(np.abs(one - np.asarray(other)).max() < 0.1)


def _read_findings(case: Case, geometry: Geometry, fine: FineClasses, root: Path) -> list[Finding]:
    """Read the findings of a case in canonical axes, in the order of painting."""
    if case.findings_mask is None:
        return []
    mask = read_findings_mask(root / case.findings_mask)
    channels = {str(channel) for channel in range(len(mask))}
    if mask.shape[1:] != geometry.shape or channels != set(case.finding_categories):
        raise ReadError(
            case.findings_mask,
            f"has {len(mask)} findings on {mask.shape[1:]} voxels, expected "
            f"{sorted(case.finding_categories)} on {geometry.shape}",
            "get it again",
            reason="grid_mismatch",
        )
    canonical = geometry.order.forward(mask)
    ids = fine.lesion_id_by_category
    findings = [
        Finding(ids[category], canonical[int(channel)])
        for channel, category in case.finding_categories.items()
    ]
    return sorted(findings, key=lambda finding: fine.lesion_paint_order.index(finding.class_id))

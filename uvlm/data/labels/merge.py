"""Merge anatomy, airways, vessels and lesions, which overlap, into one map.

    anatomy < airway < vessel < lesion        later paint covers earlier paint

Airways and vessels cover only lung, background and each other: where they would cut into heart or
great vessels, those stay. Lesions cover everything, small categories on top of spread-out ones,
and a finding that falls between the sampling points of a coarser grid is put back. The result does
not depend on the order of labels or findings.

F findings, (z, y, x) canonical order; voxels carry fine ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Flags, Ids
from uvlm.data.ct.grid import Geometry
from uvlm.data.label_scheme import IGNORE_ID, FineClasses, look_up

# In its training part ReXGroundingCT drew at most this many instances of a finding.
MOST_DRAWN: Final = 3


@dataclass(frozen=True, eq=False)
class Finding:
    """The voxels of one finding: k in its k-th instance, 0 elsewhere; `class_id` is a fine id."""

    class_id: int
    instances: Ids


def merge_anatomy(parts: Mapping[str, Ids], priority: Sequence[str], fine: FineClasses) -> Ids:
    """Paint the published ids of each kind into one map of fine ids.

    Args:
        parts: by kind (anatomy, airway, vessel), the ids as published; (z, y, x) each.
        priority: kinds in the order of painting; lesions come after, by `paint_findings`.
        fine: the data set's classes.
    """
    painted = np.zeros_like(next(iter(parts.values())))
    for kind in priority:
        if kind not in parts:
            continue
        ids = fine_ids(kind, parts[kind], fine)
        covers = ids > 0
        # A vessel drawn into the heart must not make a hole in it.
        if kind != "anatomy":
            covers &= fine.tubes_paint_over.take(painted)
        np.copyto(painted, ids, where=covers)
    return painted


def paint_findings(anatomy: Ids, findings: Sequence[Finding], fine: FineClasses) -> Ids:
    """Paint findings over a map of fine ids, small categories last."""
    painted = anatomy.copy()
    for finding in sorted(findings, key=lambda f: fine.lesion_paint_order.index(f.class_id)):
        np.putmask(painted, finding.instances > 0, finding.class_id)
    return painted


def fine_ids(kind: str, published: Ids, fine: FineClasses) -> Ids:
    """Replace the published ids of one kind by fine ids."""
    tables = {"anatomy": fine.anatomy, "airway": fine.airway, "vessel": fine.vessel}
    return look_up(tables[kind], published)


def claims(
    parts: Mapping[str, Ids], findings: Sequence[Finding], fine: FineClasses
) -> dict[str, Flags]:
    """Mark what each kind claims before merging.

    Of the anatomy only what airways and vessels must not cover counts, such as the heart: they
    naturally run through the lungs.
    """
    claimed = {}
    for kind, published in parts.items():
        ids = fine_ids(kind, published, fine)
        claimed[kind] = ~fine.tubes_paint_over.take(ids) if kind == "anatomy" else ids > 0
    if findings:
        claimed["lesion"] = np.logical_or.reduce([finding.instances > 0 for finding in findings])
    return claimed


def overlaps(claimed: Mapping[str, Flags]) -> dict[str, float]:
    """Return, for every pair of kinds that meet, their overlap as a share of the smaller claim."""
    shares = {}
    for one, other in combinations(claimed, 2):
        if both := int(np.count_nonzero(claimed[one] & claimed[other])):
            # Of the smaller one: an airway lost in a lung would be nothing of the lung.
            smaller = min(np.count_nonzero(claimed[one]), np.count_nonzero(claimed[other]))
            shares[f"{one}+{other}"] = round(both / int(smaller), 4)
    return shares


def ignore_near_findings(
    merged: Ids,
    findings: Sequence[Finding],
    margin_mm: float,
    spacing: Sequence[float],
    fine: FineClasses,
) -> Ids:
    """Mark with IGNORE_ID what may be an instance that nobody drew.

    If a finding has the greatest number of instances that is ever drawn, there may be more of them,
    which look like the drawn ones and lie near them. So within the margin of such a finding, voxels
    of the classes that lesions hide in count neither as that class nor as lesion. Drawn lesions,
    and organs in which these lesions do not occur, keep their class.

    Args:
        merged: fine ids.
        findings: of this case; those with fewer than MOST_DRAWN instances are drawn completely.
        margin_mm: 0 marks nothing.
        spacing: millimetres along z, y, x.
        fine: knows the classes in which lesions hide.
    """
    from scipy import ndimage

    if margin_mm <= 0:
        return merged
    marked = merged.copy()
    for finding in findings:
        drawn = np.bincount(finding.instances.ravel())[1:]
        if np.count_nonzero(drawn) < MOST_DRAWN:
            continue
        # Distances over the whole CT would take seconds; within this block they are the same.
        window = _window(finding.instances > 0, margin_mm, spacing)
        outside = finding.instances[window] == 0
        near = ndimage.distance_transform_edt(outside, sampling=tuple(spacing)) <= margin_mm
        marked[window][near & fine.lesions_hide_in.take(merged[window])] = IGNORE_ID
    return marked


def _window(mask: Flags, margin_mm: float, spacing: Sequence[float]) -> tuple[slice, ...]:
    """Find the block that holds everything within the margin of a mask."""
    slices = []
    for axis, mm in enumerate(spacing):
        used = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        room = int(np.ceil(margin_mm / mm))
        slices.append(slice(max(0, int(used[0]) - room), int(used[-1]) + room + 1))
    return tuple(slices)


def to_grid(merged: Ids, findings: Sequence[Finding], geometry: Geometry, fine: FineClasses) -> Ids:
    """Sample fine ids on the network's grid so that every instance of a finding keeps a voxel.

    Only instances that later paint covers completely are lost. What was painted last comes first
    here, so that a nodule never loses its last voxel to the ground glass around it.
    """
    grid = geometry.labels_to_grid(merged)
    rank = np.zeros(256, np.uint8)  # 0 for everything that is not a lesion
    rank[list(fine.lesion_paint_order)] = np.arange(1, len(fine.lesion_paint_order) + 1)
    for class_id in reversed(fine.lesion_paint_order):
        # All of a class before any is put back, so that the order of its findings does not matter.
        alike = [finding for finding in findings if finding.class_id == class_id]
        lost = [_lost_voxels(finding, merged, grid, geometry) for finding in alike]
        for voxels in lost:
            if voxels is not None:
                z, y, x = _nearest_on_grid(voxels, geometry)
                is_free = rank[grid[z, y, x]] <= rank[class_id]
                grid[z[is_free], y[is_free], x[is_free]] = class_id
    return grid


def _lost_voxels(finding: Finding, merged: Ids, grid: Ids, geometry: Geometry) -> Flags | None:
    """Mark the voxels of instances without a voxel on the grid; None if there are none."""
    # Only what is still visible counts, before sampling and after it.
    instances = np.where(merged == finding.class_id, finding.instances, 0)
    sampled = np.where(grid == finding.class_id, geometry.labels_to_grid(instances), 0)
    seen = np.bincount(sampled.ravel(), minlength=int(instances.max()) + 1) > 0
    seen[0] = True  # belongs to no instance
    return None if seen.all() else ~seen[instances]


def _nearest_on_grid(lost: Flags, geometry: Geometry) -> list[npt.NDArray[np.intp]]:
    """Find the grid voxel nearest to each lost voxel, except for those beyond the grid."""
    at = np.argwhere(lost).T  # (3, voxels)
    back = [axis.inverse() for axis in geometry.axes]
    outside = np.any([axis.outside()[index] for axis, index in zip(back, at, strict=True)], axis=0)
    return [axis.nearest()[index[~outside]] for axis, index in zip(back, at, strict=True)]

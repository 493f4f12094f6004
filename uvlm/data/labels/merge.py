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
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Flags, Ids
from uvlm.data.ct.boxes import Box, Window, count_ids
from uvlm.data.ct.grid import Geometry
from uvlm.data.label_scheme import IGNORE_ID, FineClasses, look_up

Places = tuple[npt.NDArray[np.intp], ...]  # indices along z, y and x, as `np.ix_` makes them

# In its training part ReXGroundingCT drew at most this many instances of a finding.
MOST_DRAWN: Final = 3


@dataclass(frozen=True, eq=False)
class Finding:
    """The voxels of one finding: k in its k-th instance, 0 elsewhere; `class_id` is a fine id."""

    class_id: int
    box: Box


def merge_anatomy(parts: Mapping[str, Ids], priority: Sequence[str], fine: FineClasses) -> Ids:
    """Paint the published ids of each kind into one map of fine ids.

    Args:
        parts: by kind (anatomy, airway, vessel), the ids as published; (z, y, x) each.
        priority: kinds in the order of painting; lesions come after, by `paint_findings`.
        fine: the data set's classes.
    """
    anatomy = Anatomy(fine)
    for kind in priority:
        if kind in parts:
            anatomy.paint(kind, parts[kind])
    return anatomy.painted


@dataclass(eq=False)
class Anatomy:
    """A map of fine ids, painted kind by kind so that one of them at a time is in memory.

    `claimed` has a bit for each kind of `kinds`: what it claims before merging. Of the anatomy only
    what airways and vessels must not cover counts, such as the heart: they naturally run through
    the lungs.
    """

    fine: FineClasses
    kinds: list[str] = field(default_factory=list)
    painted: Ids = field(default_factory=lambda: np.zeros((0, 0, 0), np.uint8))
    claimed: Ids = field(default_factory=lambda: np.zeros((0, 0, 0), np.uint8))

    def paint(self, kind: str, published: Ids) -> None:
        """Paint the published ids of a kind over those before; plane by plane to save memory."""
        if not self.kinds:
            self.painted, self.claimed = np.zeros_like(published), np.zeros_like(published)
        bit = self._bit_of(kind)
        for painted, claimed, plane in zip(self.painted, self.claimed, published, strict=True):
            ids = fine_ids(kind, plane, self.fine)
            covers = ids > 0
            if kind == "anatomy":
                claimed |= bit * ~self.fine.tubes_paint_over.take(ids)
            else:
                claimed |= bit * covers
                # A vessel drawn into the heart must not make a hole in it.
                covers &= self.fine.tubes_paint_over.take(painted)
            np.copyto(painted, ids, where=covers)

    def claim(self, findings: Sequence[Finding]) -> None:
        """Add the claim of the lesions, which is painted by `paint_findings`."""
        if findings:
            bit = self._bit_of("lesion")
            for finding in findings:
                self.claimed[finding.box.window] |= bit * (finding.box.values > 0)

    def overlaps(self) -> dict[str, float]:
        """Return, for every pair of kinds that meet, their overlap as a share of the smaller."""
        voxels = dict(enumerate(count_ids(self.claimed).tolist()))  # by combination of bits
        shares = {}
        for (i, one), (j, other) in combinations(enumerate(self.kinds), 2):
            of_one, of_other, both = (
                sum(count for bits, count in voxels.items() if bits & wanted == wanted)
                for wanted in (1 << i, 1 << j, 1 << i | 1 << j)
            )
            if both:
                # Of the smaller one: an airway lost in a lung would be nothing of the lung.
                shares[f"{one}+{other}"] = round(both / min(of_one, of_other), 4)
        return shares

    def _bit_of(self, kind: str) -> np.uint8:
        self.kinds.append(kind)
        return np.uint8(1 << (len(self.kinds) - 1))


def paint_findings(anatomy: Ids, findings: Sequence[Finding], fine: FineClasses) -> Ids:
    """Paint findings over a map of fine ids, small categories last."""
    painted = anatomy.copy()
    for finding in sorted(findings, key=lambda f: fine.lesion_paint_order.index(f.class_id)):
        painted[finding.box.window][finding.box.values > 0] = finding.class_id
    return painted


def fine_ids(kind: str, published: Ids, fine: FineClasses) -> Ids:
    """Replace the published ids of one kind by fine ids."""
    tables = {"anatomy": fine.anatomy, "airway": fine.airway, "vessel": fine.vessel}
    return look_up(tables[kind], published)


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
    if margin_mm <= 0:
        return merged
    marked = merged.copy()
    for finding in findings:
        drawn = np.flatnonzero(count_ids(finding.box.values)[1:]) + 1
        if len(drawn) < MOST_DRAWN:
            continue
        # One by one: instances may lie far apart, and distances take 24 bytes a voxel.
        for number in drawn:
            window, near = _near(finding.box, int(number), merged.shape, margin_mm, spacing)
            hides = look_up(fine.lesions_hide_in.view(np.uint8), merged[window]) > 0
            marked[window][near & hides] = IGNORE_ID
    return marked


def _near(
    box: Box, number: int, shape: tuple[int, ...], margin_mm: float, spacing: Sequence[float]
) -> tuple[Window, Flags]:
    """Mark what lies within the margin of one instance.

    Returns:
        The block that holds it all, and the marks in that block.
    """
    from scipy import ndimage

    mask = box.values == number
    slices, inner = [], []
    for axis, mm in enumerate(spacing):
        used = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        room, start = int(np.ceil(margin_mm / mm)), box.corner[axis]
        low = max(0, start + int(used[0]) - room)
        high = min(shape[axis], start + int(used[-1]) + room + 1)
        slices.append(slice(low, high))
        inner.append(slice(start + int(used[0]) - low, start + int(used[-1]) + 1 - low))
        mask = mask.take(range(int(used[0]), int(used[-1]) + 1), axis=axis)
    outside = np.ones([part.stop - part.start for part in slices], bool)
    outside[tuple(inner)] = ~mask
    near = ndimage.distance_transform_edt(outside, sampling=tuple(spacing)) <= margin_mm
    return tuple(slices), near


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


def _lost_voxels(
    finding: Finding, merged: Ids, grid: Ids, geometry: Geometry
) -> npt.NDArray[np.intp] | None:
    """List the voxels (3, n) of instances without a voxel on the grid; None if there are none."""
    box = finding.box
    # Only what is still visible counts, before sampling and after it.
    instances = np.where(merged[box.window] == finding.class_id, box.values, 0)
    place, at = _places_on_grid(box, geometry)
    sampled = np.where(grid[place] == finding.class_id, instances[at], 0)
    seen = count_ids(sampled) > 0
    seen[0] = True  # belongs to no instance
    if not (instances.any() and look_up((~seen).view(np.uint8), instances).any()):
        return None
    lost: npt.NDArray[np.intp] = np.argwhere(~seen[instances]) + box.corner
    return lost.T


def _places_on_grid(box: Box, geometry: Geometry) -> tuple[Places, Places]:
    """Find the grid voxels that sample a box, and which of its voxels each one takes."""
    places, taken = [], []
    for axis, part in zip(geometry.axes, box.window, strict=True):
        nearest = axis.nearest()
        inside = (nearest >= part.start) & (nearest < part.stop) & ~axis.outside()
        places.append(np.flatnonzero(inside))
        taken.append(nearest[inside] - part.start)
    return np.ix_(*places), np.ix_(*taken)


def _nearest_on_grid(at: npt.NDArray[np.intp], geometry: Geometry) -> list[npt.NDArray[np.intp]]:
    """Find the grid voxel nearest to each lost voxel (3, n), except for those beyond the grid."""
    back = [axis.inverse() for axis in geometry.axes]
    outside = np.any([axis.outside()[index] for axis, index in zip(back, at, strict=True)], axis=0)
    return [axis.nearest()[index[~outside]] for axis, index in zip(back, at, strict=True)]

"""The findings of a case: ReXGroundingCT's masks in canonical axes, each with its fine class.

F findings, (z, y, x) in the CT's axes.
"""

from __future__ import annotations

from pathlib import Path

from uvlm.data.cases import Case
from uvlm.data.ct.boxes import Box
from uvlm.data.ct.grid import Geometry
from uvlm.data.ct.io import FindingsMask, read_findings
from uvlm.data.ct.volume import LabelMap, ReadError
from uvlm.data.label_scheme import FineClasses
from uvlm.data.labels.merge import Finding
from uvlm.data.labels.regrid import onto_grid


def read_case_findings(
    case: Case, geometry: Geometry, fine: FineClasses, root: Path
) -> list[Finding]:
    """Read the findings of a case in canonical axes.

    Args:
        case: names the mask and the category of each of its channels.
        geometry: of the case's CT.
        fine: maps categories to classes.
        root: of the store.
    """
    if case.findings_mask is None:
        return []
    mask = read_findings(root / case.findings_mask)
    _check_channels(case, mask, fine)
    boxes = [
        box.canonical(geometry.order, geometry.shape)
        for box in _on_the_ct(case.findings_mask, mask, geometry)
    ]
    ids = fine.lesion_id_by_category
    return [
        Finding(ids[category], boxes[int(channel)])
        for channel, category in case.finding_categories.items()
    ]


def _check_channels(case: Case, mask: FindingsMask, fine: FineClasses) -> None:
    """Refuse a mask whose channels differ from those of the table."""
    channels = {str(channel) for channel in range(len(mask.boxes))}
    if channels != set(case.finding_categories):
        named = sorted(case.finding_categories)
        fact = f"has {len(mask.boxes)} findings, its table names {named}"
        raise ReadError(case.findings_mask, fact, "download both again", reason="findings_mismatch")
    if unknown := set(case.finding_categories.values()) - set(fine.lesion_id_by_category):
        fact = f"has findings of the category {', '.join(sorted(unknown))}, which has no class"
        raise ReadError(case.findings_mask, fact, "correct the table", reason="findings_category")


def _on_the_ct(path: str, mask: FindingsMask, geometry: Geometry) -> list[Box]:
    """Bring the channels onto the CT's voxels, in the axes of its file.

    Without an affine, as published, they follow the index order of the CT.
    """
    if mask.affine is None:
        there, here = mask.shape, geometry.shape
        if there != here:
            fact = f"has {there} voxels (z, y, x) and no affine, the CT has {here}"
            remedy = "download it again, or write its affine"
            raise ReadError(path, fact, remedy, reason="grid_mismatch")
        return list(mask.boxes)
    channels = (LabelMap(box.whole(mask.shape), mask.affine) for box in mask.boxes)
    grid = geometry.shape, geometry.affine
    return [Box.around(onto_grid(channel, *grid, path, keep=True)) for channel in channels]

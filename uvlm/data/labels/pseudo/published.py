"""Masks that came with the CTs, and no masks at all.

phantom               all kinds, drawn with the phantom
ct_rate_masks         ts_seg/ts_total, one file a CT with TotalSegmentator's 117 ids
abdomen_atlas_masks   segmentations/, one file a structure or lesion, ids as in abdomen.json,
                      later ones over earlier ones, so that lesions lie on top
none                  background in every voxel
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from uvlm.config import LabelKind
from uvlm.data.cases import Case
from uvlm.data.ct.grid_rules import is_on_grid
from uvlm.data.ct.io import read_grid, read_label_map
from uvlm.data.ct.volume import LabelMap, ReadError
from uvlm.data.label_scheme import fine_classes
from uvlm.data.labels.pseudo.backend import Labeller, Provenance, ct_inputs
from uvlm.data.sets.abdomen_atlas.layout import PREFIX, image, mask
from uvlm.data.sets.ct_rate.cases import MaskKind, mask_path
from uvlm.files import file_sha256

_MASK: Final[Mapping[LabelKind, MaskKind]] = {
    "anatomy": "total",
    "airway": "airway",
    "vessel": "vessel",
}
_VERSION: Final = {"phantom": "1", "ct_rate_masks": "ts_seg/ts_total"}
_LICENCE: Final = {"phantom": "Apache-2.0", "ct_rate_masks": "CC-BY-NC-SA-4.0"}


@dataclass(frozen=True)
class PublishedMasks:
    """One mask a CT, in CT-RATE's layout; `phantom` or `ct_rate_masks`."""

    name: Literal["phantom", "ct_rate_masks"]
    kind: LabelKind

    def provenance(self) -> Provenance:
        """Say who published the masks."""
        options = {"mask": _MASK[self.kind]}
        return Provenance(self.name, _VERSION[self.name], _LICENCE[self.name], options=options)

    def inputs(self, case: Case, root: Path) -> list[str]:
        """Name CT and mask; the download has hashed both."""
        return [*ct_inputs(case), case.mask_sha256.get(_MASK[self.kind], "")]

    def load(self, root: Path) -> Labeller:
        """Read masks below `root`."""

        def label(case: Case) -> LabelMap:
            path = root / mask_path(case, _MASK[self.kind])
            return on_the_grid_of(root / case.volume, path)

        return label


@dataclass(frozen=True)
class AtlasMasks:
    """AbdomenAtlas' own masks, painted into one map."""

    def provenance(self) -> Provenance:
        """Say who published the masks."""
        return Provenance("abdomen_atlas_masks", "3.0 Mini", "CC-BY-NC-SA-4.0")

    def inputs(self, case: Case, root: Path) -> list[str]:
        """Name the CT and every mask that is there."""
        files = _structures(case, root).values()
        return [*ct_inputs(case), *map(file_sha256, files)]

    def load(self, root: Path) -> Labeller:
        """Read masks below `root`."""

        def label(case: Case) -> LabelMap:
            painted: LabelMap | None = None
            for number, path in _structures(case, root).items():
                one = on_the_grid_of(root / case.volume, path)
                painted = painted or LabelMap(np.zeros_like(one.array), one.affine)
                painted.array[one.array > 0] = number
            assert painted is not None
            return painted

        return label


@dataclass(frozen=True)
class NoLabels:
    """Background everywhere: for CTs that nobody has labelled (and `train_seg.steps: 0`)."""

    def provenance(self) -> Provenance:
        """Say that there is nothing."""
        return Provenance("none", "1", "none")

    def inputs(self, case: Case, root: Path) -> list[str]:
        """Name the CT, whose grid is filled."""
        return ct_inputs(case)

    def load(self, root: Path) -> Labeller:
        """Make empty maps of CTs below `root`."""

        def label(case: Case) -> LabelMap:
            shape, affine = read_grid(root / case.volume)
            return LabelMap(np.zeros(shape, np.uint8), affine)

        return label


def on_the_grid_of(ct: Path, path: Path) -> LabelMap:
    """Read a mask that has to lie on the very grid of its CT.

    Raises:
        ReadError: shape or affine differ, or one of the files is refused.
    """
    shape, affine = read_grid(ct)
    found = read_label_map(path)
    if not is_on_grid(found, shape, affine):
        there, here = (" x ".join(map(str, s)) for s in (found.array.shape, shape))
        same = "of the same shape at another place" if there == here else f"{there} voxels, not"
        raise ReadError(
            path,
            f"lies on another grid than its CT: {same} {here} (z, y, x)",
            "get both again, or leave the case out",
            reason="grid_mismatch",
        )
    return found


def _structures(case: Case, root: Path) -> dict[int, Path]:
    """Find the mask of each structure and lesion of a CT, by id."""
    above = case.volume.removesuffix(image(case.case_id))
    names = enumerate(fine_classes("abdomen").names[1:], start=1)
    paths = {number: root / above / mask(case.case_id, name) for number, name in names}
    found = {number: path for number, path in paths.items() if path.is_file()}
    if not found:
        raise ReadError(
            f"{PREFIX}/{mask(case.case_id, '*')}",
            "there is no mask of this CT",
            "set download.abdomen_atlas.masks: true and download again",
            reason="missing_file",
        )
    return found

"""Masks that came with the CTs, and no masks at all.

phantom               all kinds, drawn with the phantom
ct_rate_masks         ts_seg/ts_total, one file per CT with TotalSegmentator's 117 ids
abdomen_atlas_masks   segmentations/, one file per structure or lesion, ids as in abdomen.json,
                      later ones over earlier ones, so that lesions lie on top
phantom_abdomen       the same of abdominal phantoms
none                  background in every voxel
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uvlm.config import LabelKind
from uvlm.data.cases import Case
from uvlm.data.ct.grid_rules import is_on_grid
from uvlm.data.ct.io import read_label_map
from uvlm.data.ct.volume import Affine, LabelMap, ReadError
from uvlm.data.labels.pseudo.backend import Backend, Provenance
from uvlm.data.sets.dataset import Masks
from uvlm.data.sets.raw import grid_of
from uvlm.files import file_sha256


@dataclass(frozen=True)
class PublishedMasks(Backend):
    """Masks that a data set publishes: one file with all ids of a kind, or one per structure."""

    masks: Masks
    kind: LabelKind

    def provenance(self) -> Provenance:
        """Say who published the masks."""
        told = self.masks.backend, self.masks.version, self.masks.licence
        return Provenance(*told, options={"mask": self._name} if self._name else None)

    def inputs(self, case: Case, root: Path) -> list[str]:
        """Add every mask that is there; the index knows the digests of some."""
        known = case.mask_sha256.get(self._name)
        masks = [known] if known else map(file_sha256, self._files(case, root).values())
        return [*super().inputs(case, root), *masks]

    def annotate(self, case: Case, root: Path) -> LabelMap:
        """Read the masks of a case and paint them into one map, in the order of their ids."""
        painted: LabelMap | None = None
        for number, path in self._files(case, root).items():
            one = on_the_grid_of(grid_of(case, root), path)
            if not number:  # one file holds all ids
                return one
            painted = painted or LabelMap(np.zeros_like(one.array), one.affine)
            painted.array[one.array > 0] = number
        assert painted is not None
        return painted

    @property
    def _name(self) -> str:
        return dict(self.masks.names).get(self.kind, "")

    def _files(self, case: Case, root: Path) -> dict[int, Path]:
        """Find the existing masks of a CT, by id."""
        paths = {number: root / path for number, path in self.masks.paths(case, self.kind).items()}
        found = {number: path for number, path in paths.items() if path.is_file()}
        if not found:
            fact, first = "there is no mask of this CT", next(iter(paths.values()))
            remedy = "request masks in the section of the data set and download again"
            raise ReadError(first, fact, remedy, reason="missing_file")
        return found


@dataclass(frozen=True)
class NoLabels(Backend):
    """Background everywhere: for CTs that nobody has labelled (and `train_seg.steps: 0`)."""

    def provenance(self) -> Provenance:
        """Say that there is nothing."""
        return Provenance("none", "1", "none")

    def annotate(self, case: Case, root: Path) -> LabelMap:
        """Make an empty map on the CT's grid."""
        shape, affine = grid_of(case, root)
        return LabelMap(np.zeros(shape, np.uint8), affine)


def on_the_grid_of(grid: tuple[tuple[int, ...], Affine], path: Path) -> LabelMap:
    """Read a mask that must lie on exactly the grid of its CT.

    Raises:
        ReadError: shape or affine differ, or one of the files is refused.
    """
    shape, affine = grid
    found = read_label_map(path)
    if not is_on_grid(found, shape, affine):
        there, here = (" x ".join(map(str, s)) for s in (found.array.shape, shape))
        same = "of the same shape at another place" if there == here else f"{there} voxels, not"
        fact = f"lies on another grid than its CT: {same} {here} (z, y, x)"
        remedy = "download both again, or leave the case out"
        raise ReadError(path, fact, remedy, reason="grid_mismatch")
    return found

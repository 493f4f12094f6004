"""A folder of vessel masks made by another program, such as HiPaS.

`$UVLM_VESSEL_MASKS` names it; a case's file is <case_id>.nii.gz, .nii, .nrrd or .mha. The
parameters say which ids in it are arteries and veins. Masks on another grid are sampled at the CT's
voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uvlm.data.cases import Case
from uvlm.data.ct.find import IMAGE_SUFFIXES
from uvlm.data.ct.io import read_label_map
from uvlm.data.ct.volume import LabelMap, ReadError
from uvlm.data.labels.pseudo.backend import Backend, Provenance
from uvlm.data.labels.regrid import onto_grid
from uvlm.data.sets.raw import grid_of
from uvlm.environment import VESSEL_MASKS
from uvlm.errors import SetupError
from uvlm.files import file_sha256

ARTERY, VEIN = 3, 4  # as in TotalSegmentator's `lung_vessels`


@dataclass(frozen=True)
class VesselMasks(Backend):
    """The files of a folder; `artery_id` and `vein_id` are the ids in them."""

    artery_id: int
    vein_id: int

    def provenance(self) -> Provenance:
        """Say what the ids mean; nothing here knows who made the files."""
        _folder()
        options = {"artery_id": self.artery_id, "vein_id": self.vein_id}
        return Provenance("masks", "1", "that of the files", options=options)

    def inputs(self, case: Case, root: Path) -> list[str]:
        """Add the content of the case's file."""
        return [*super().inputs(case, root), file_sha256(_file(case))]

    def annotate(self, case: Case, root: Path) -> LabelMap:
        """Read the case's file and turn its ids into those of `lung_vessels`."""
        path = _file(case)
        found = read_label_map(path)
        strange = set(np.unique(found.array).tolist()) - {0, self.artery_id, self.vein_id}
        if strange:
            fact = f"holds the ids {sorted(strange)}, neither {self.artery_id} nor {self.vein_id}"
            remedy = "set pseudo_label.vessel.artery_id and vein_id to what the files hold"
            raise ReadError(path, fact, remedy, reason="class_ids")
        table = np.zeros(256, np.uint8)
        table[[self.artery_id, self.vein_id]] = ARTERY, VEIN
        shape, affine = grid_of(case, root)
        renamed = LabelMap(table[found.array], found.affine)
        return LabelMap(onto_grid(renamed, shape, affine, path), affine)


def _folder() -> Path:
    remedy = "set it to the folder with one mask per case"
    folder = VESSEL_MASKS.needed(remedy)
    if not folder.is_dir():
        raise SetupError(VESSEL_MASKS.name, f"{folder} is not a folder", remedy)
    return folder


def _file(case: Case) -> Path:
    paths = [_folder() / f"{case.case_id}{suffix}" for suffix in IMAGE_SUFFIXES]
    found = [path for path in paths if path.is_file()]
    if len(found) != 1:
        reason = "ambiguous_file" if found else "missing_file"
        fact = f"{len(found)} files have this name" if found else "there is no mask of this case"
        raise ReadError(paths[0], fact, "provide one file per case", reason=reason)
    return found[0]

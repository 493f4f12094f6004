"""A folder of vessel masks that another program has made, such as HiPaS' results.

`$UVLM_VESSEL_MASKS` names it; a case's file is <case_id>.nii.gz, .nii, .nrrd or .mha. Params say
which ids in it are arteries and veins. Masks on another grid are read at the CT's voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from uvlm.data.cases import Case
from uvlm.data.ct.grid_rules import is_on_grid
from uvlm.data.ct.io import read_grid, read_label_map
from uvlm.data.ct.volume import LabelMap, ReadError
from uvlm.data.labels.pseudo.backend import Annotator, Provenance, ct_inputs
from uvlm.data.labels.regrid import onto_grid
from uvlm.environment import VESSEL_MASKS
from uvlm.errors import SetupError
from uvlm.files import file_sha256

ARTERY, VEIN = 3, 4  # as in TotalSegmentator's `lung_vessels`
_SUFFIXES: Final = (".nii.gz", ".nii", ".nrrd", ".mha")


@dataclass(frozen=True)
class VesselMasks:
    """The files of a folder; `artery_id` and `vein_id` are the ids in them."""

    artery_id: int
    vein_id: int

    def provenance(self) -> Provenance:
        """Say what the ids mean; who made the files is theirs to tell."""
        _folder()
        options = {"artery_id": self.artery_id, "vein_id": self.vein_id}
        return Provenance("masks", "1", "that of the files", options=options)

    def inputs(self, case: Case, root: Path) -> list[str]:
        """Name the CT and the content of its file."""
        return [*ct_inputs(case), file_sha256(_file(case))]

    def load(self, root: Path) -> Annotator:
        """Read masks for CTs below `root`."""

        def label(case: Case) -> LabelMap:
            path = _file(case)
            found = self._renamed(read_label_map(path), path)
            shape, affine = read_grid(root / case.volume)
            if is_on_grid(found, shape, affine):
                return LabelMap(found.array, affine)
            return LabelMap(onto_grid(found, shape, affine, path), affine)

        return label

    def _renamed(self, found: LabelMap, path: Path) -> LabelMap:
        """Turn the file's ids into those of `lung_vessels`."""
        table = np.zeros(256, np.uint8)
        table[[self.artery_id, self.vein_id]] = ARTERY, VEIN
        strange = set(np.unique(found.array).tolist()) - {0, self.artery_id, self.vein_id}
        if strange:
            raise ReadError(
                path,
                f"holds the ids {sorted(strange)}, neither {self.artery_id} nor {self.vein_id}",
                "set pseudo_label.vessel.artery_id and vein_id to what the files hold",
                reason="class_ids",
            )
        return LabelMap(table[found.array], found.affine)


def _folder() -> Path:
    remedy = "name the folder with one mask a case"
    folder = VESSEL_MASKS.needed(remedy)
    if not folder.is_dir():
        raise SetupError(VESSEL_MASKS.name, f"{folder} is no folder", remedy)
    return folder


def _file(case: Case) -> Path:
    paths = [_folder() / f"{case.case_id}{suffix}" for suffix in _SUFFIXES]
    found = [path for path in paths if path.is_file()]
    if len(found) != 1:
        reason = "ambiguous_file" if found else "missing_file"
        fact = f"{len(found)} files are called so" if found else "there is no mask of this case"
        raise ReadError(paths[0], fact, "one file a case", reason=reason)
    return found[0]

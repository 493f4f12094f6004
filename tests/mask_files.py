"""Masks of made-up chest cases as the stages leave them; a CT voxel is a voxel of the grid."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Ids
from uvlm.data.cases import Case
from uvlm.data.ct.grid import Geometry
from uvlm.data.ct.io import write_findings_mask
from uvlm.data.label_scheme import fine_classes
from uvlm.files import key_of, store_root
from uvlm.store import Row, array_path, save_array, write_manifest

SPACING = (5.0, 4.0, 4.0)
PARTS = ("anatomy", "airway", "vessel")


@dataclass
class MaskFiles:
    """Collects the rows of every manifest that has to do with masks."""

    rows: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))

    def add(
        self, case: Case, labels: Ids, predicted: Ids | None, image: npt.NDArray[Any] | None = None
    ) -> Case:
        """Store the masks of one case; return it with its findings.

        Args:
            case: whose they are.
            labels: fine ids, (D, H, W).
            predicted: the same by a model; None where it left the case out.
            image: Hounsfield units, where the test looks at them.
        """
        affine = np.zeros((4, 4))
        affine[[2, 1, 0], [0, 1, 2]] = SPACING
        affine[3, 3] = 1.0
        z, y, x = labels.shape
        native = Geometry((z, y, x), affine, (z, y, x), (1.0, 1.0, 1.0)).to_json()
        canvas = labels if image is None else image
        self._store("preprocess", case, canvas, {"native": native})
        voxels = {str(n): int((labels == n).sum()) for n in np.unique(labels)}
        self._store("label_maps", case, labels, {"voxels": voxels})
        if predicted is not None:
            self._store("generate", case, predicted, {})
        fine = fine_classes("chest")
        published = np.zeros(len(fine.names), np.uint8)
        published[fine.total] = np.arange(len(fine.total))
        parts = {"anatomy": published[labels]}
        for kind in PARTS:
            array = parts.get(kind, np.zeros_like(labels))
            self._store(kind, case, array, {"affine": affine.tolist()})
        category = {number: name for name, number in fine.lesion_id_by_category.items()}
        lesions = [int(n) for n in np.unique(labels) if int(n) in category]
        if not lesions:
            return case
        path = f"raw/{case.case_id}.nii.gz"
        write_findings_mask(
            store_root() / path, np.stack([labels == n for n in lesions]).astype(np.uint8)
        )
        drawn = {str(channel): category[n] for channel, n in enumerate(lesions)}
        return replace(case, findings_mask=path, finding_categories=drawn)

    def write(self, root: Path) -> Mapping[str, Path]:
        """Write the manifests below `root`, NAME.jsonl each."""
        paths = {name: root / f"{name}.jsonl" for name in self.rows}
        for name, path in paths.items():
            write_manifest(path, self.rows[name])
        return paths

    def _store(self, name: str, case: Case, array: npt.NDArray[Any], extra: dict[str, Any]) -> None:
        key = key_of(name, case.case_id)
        path = array_path(name, key)
        digest = save_array(store_root() / path, array)
        self.rows[name].append(Row(case.case_id, key, path, digest, "test", extra))

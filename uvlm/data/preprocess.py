"""Preprocessing: any CT to int16 Hounsfield units in LPS on the network's grid, and back.

    file axes --flip--> canonical (z, y, x) --clip--> --anti-aliased linear--> grid --round--> int16

The contract says how; its hash travels with every cached array and every checkpoint.
`resize: stretch` brings the whole volume onto the grid; `resample_pad` keeps proportions at
`spacing_mm` and crops or pads around the middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from uvlm.config import Params, PreprocessConfig
from uvlm.data.cases import Case
from uvlm.data.contract import VERSION, contract_sha256, volume_statistics
from uvlm.data.ct.grid import Geometry, preprocess_volume
from uvlm.data.ct.io import read_volume
from uvlm.data.leaks.likeness import likeness_of
from uvlm.data.sets.raw import at_hand, say_what_is_fetched
from uvlm.files import key_of, store_root
from uvlm.store import Product, Row

_CACHE_VERSION: Final = 2  # of what is kept beside the arrays, which do not depend on it


@dataclass(frozen=True)
class Volumes(Product[Case]):
    """Preprocessed CTs; made from the cases of the index."""

    config: PreprocessConfig
    stage = "preprocess"
    constant = "VERSION in uvlm/data/contract.py"
    note_constant = "_CACHE_VERSION in uvlm/data/preprocess.py"

    @classmethod
    def of(cls, params: Params) -> Self:
        """Preprocess by the section `preprocess`, into the store."""
        return cls(store_root(), params.preprocess)

    @property
    def settings(self) -> list[Any]:
        # How voxels become network input later changes no array.
        made_by = self.config.model_dump(mode="json", exclude={"normalise", "window_hu"})
        return [VERSION, _CACHE_VERSION, made_by]

    def key(self, item: Case) -> str:
        *versions, made_by = self.settings
        return key_of(self.stage, *versions, item.sha256 or item.volume, item.volume, made_by)

    def make(self, item: Case) -> tuple[npt.NDArray[np.int16], dict[str, Any]]:
        with at_hand(item, self.root) as path:
            return make_cached(path, self.config)

    def difference(self, item: Case) -> tuple[str, str] | None:
        say_what_is_fetched(self.title, [item], self.root, " again, to compare")
        return super().difference(item)

    def row(self, item: Case, key: str, path: str, note: Mapping[str, Any]) -> Row:
        geometry = Geometry.from_json(note["native"])
        extra = {
            "shape": list(geometry.grid),
            "affine": geometry.grid_affine.tolist(),
            **{name: note[name] for name in ("native", "mean", "std", "fingerprint")},
            "contract_sha256": contract_sha256(self.config),
        }
        return Row(item.case_id, key, path, note["sha256"], item.source, extra)


def make_cached(
    path: Path, config: PreprocessConfig
) -> tuple[npt.NDArray[np.int16], dict[str, Any]]:
    """Read a CT; return its array on the grid and the note kept beside it."""
    volume = read_volume(path)
    array, geometry = preprocess_volume(volume, config)
    mean, std = volume_statistics(array)
    # A likeness needs the whole volume: the grid holds all of it if stretched, and is smaller.
    whole = array if config.resize == "stretch" else geometry.order.view(volume.array)
    told = {"native": geometry.to_json(), "mean": mean, "std": std}
    return array, told | {"fingerprint": likeness_of(whole)}

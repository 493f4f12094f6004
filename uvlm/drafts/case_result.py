"""All that is known of one CT when its files are written.

(D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from uvlm.arrays import Ids, Voxels
from uvlm.data.ct.grid import Geometry
from uvlm.data.ct.volume import LabelMap, Volume
from uvlm.inference.predictor import Predictor
from uvlm.text.draft import Draft


@dataclass(frozen=True, eq=False)
class CaseResult:
    """One CT, read and predicted from.

    Args:
        draft: what report.json says; the text of its report was generated and is not escaped.
        volume: the CT in Hounsfield units, in the axes of its file; `volume.origin.paths` are the
            files that were read, of a series its slices.
        label_map: class ids on the same grid; None where segmentation was never trained.
        class_names: of the ids.
        geometry: where the network's grid lies in the CT.
        voxels: what the networks saw, (D, H, W) of `geometry.grid`.
        grid_labels: class ids on that grid.
        predictor: the model.
    """

    draft: Draft
    volume: Volume
    label_map: LabelMap | None
    class_names: tuple[str, ...]
    geometry: Geometry
    voxels: Voxels
    grid_labels: Ids | None
    predictor: Predictor


# Writes its files into a folder that takes the place of the older draft when all are there.
Output = Callable[[CaseResult, Path], None]

"""What the masks show of an abnormality: how much, on which side, in which lobe.

A lesion is painted over the lobe that it lies in, so its voxels belong to the lobe that is nearest;
fluid beside a lung belongs to that lung.

(D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from uvlm.arrays import Ids
from uvlm.data.ct.grid import Geometry
from uvlm.data.ct.volume import LabelMap, spacing_of
from uvlm.text.attributes import VALUES
from uvlm.text.draft import Structure

# Classes of the masks that show an abnormality; the others have none, or share one with too many.
STRUCTURES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "Emphysema": ("emphysema",),
        "Atelectasis": ("atelectasis_or_consolidation",),
        "Consolidation": ("atelectasis_or_consolidation",),
        "Lung nodule": ("nodule_or_mass", "micronodules"),
        "Lung opacity": ("ground_glass", "atelectasis_or_consolidation"),
        "Pulmonary fibrotic sequela": ("linear_opacity", "honeycombing"),
        "Pleural effusion": ("pleural_effusion_or_thickening",),
        "Peribronchial thickening": ("bronchial_wall_thickening",),
        "Bronchiectasis": ("bronchiectasis",),
        "Interlobular septal thickening": ("septal_thickening",),
        "Liver lesion": ("liver_lesion",),
        "Kidney lesion": ("kidney_lesion",),
        "Pancreatic lesion": ("pancreatic_lesion",),
    }
)
_MOST_VOXELS: Final = 2_000_000  # above, every second voxel along each axis is looked at


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of one CT, or none.

    Args:
        class_names: of the ids.
        label_map: on the CT's own grid.
        grid_labels: on the network's grid, (D, H, W).
        geometry: where that grid lies.
    """

    class_names: Sequence[str]
    label_map: LabelMap | None
    grid_labels: Ids | None
    geometry: Geometry

    @cached_property
    def structures(self) -> tuple[Structure, ...]:
        """The volume of every class but background."""
        if self.label_map is None:
            return ()
        counts = np.bincount(self.label_map.array.reshape(-1), minlength=len(self.class_names))
        voxel_ml = prod(self.label_map.spacing) / 1000
        return tuple(
            Structure(class_id=i, name=name, volume_ml=round(float(counts[i]) * voxel_ml, 3))
            for i, name in enumerate(self.class_names)
            if i
        )

    @property
    def grid_voxel_ml(self) -> float:
        """The volume of a voxel of the network's grid, than which no mask is finer."""
        return prod(spacing_of(self.geometry.grid_affine)) / 1000

    def structures_of(self, abnormality: str) -> tuple[str, ...]:
        """Name the classes that show an abnormality, as far as there are any."""
        if self.label_map is None:
            return ()
        return tuple(n for n in STRUCTURES.get(abnormality, ()) if n in self.class_names)

    def volume_ml(self, names: Sequence[str]) -> float | None:
        """Sum up the volume of classes; None for no classes."""
        if not names:
            return None
        return round(sum(each.volume_ml for each in self.structures if each.name in names), 3)

    def shares(self, names: Sequence[str]) -> dict[str, dict[str, float]]:
        """Say which share of some classes lies on each side and in each lobe, {} if unknown."""
        if self._nearest is None:
            return {}
        lobes, ids = self._nearest
        mask = np.isin(ids, [self.class_names.index(name) for name in names])
        found = lobes[mask]
        if not found.size:
            return {}
        told: dict[str, dict[str, float]] = {"side": {}, "lobe": {}}
        for number, (lobe, side) in self._lobe_ids.items():
            share = float(np.mean(found == number))
            for kind, value in (("side", side), ("lobe", lobe)):
                told[kind][value] = told[kind].get(value, 0.0) + share
        return told

    @cached_property
    def _lobe_ids(self) -> dict[int, tuple[str, str]]:
        """Lobe and side by class id."""
        names = {
            f"lung_{lobe}_lobe_{side}": (lobe, side)
            for side in VALUES["side"]
            for lobe in VALUES["lobe"]
        }
        return {i: names[name] for i, name in enumerate(self.class_names) if name in names}

    @cached_property
    def _nearest(self) -> tuple[Ids, Ids] | None:
        """The nearest lobe of every voxel, and its own class; None without lobes."""
        if self.grid_labels is None:
            return None
        step = 1 if self.grid_labels.size <= _MOST_VOXELS else 2
        ids = self.grid_labels[::step, ::step, ::step]
        is_lobe = np.isin(ids, list(self._lobe_ids))
        if not is_lobe.any():
            return None
        from scipy.ndimage import distance_transform_edt

        spacing = spacing_of(self.geometry.grid_affine)
        places: Any = distance_transform_edt(
            ~is_lobe, sampling=spacing, return_distances=False, return_indices=True
        )
        nearest: Ids = ids[tuple(places)]
        return nearest, ids

"""Whether a CT would be accepted, and what will be done to it.

This runs the reader and the preparation of training and `predict`; nothing is written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from uvlm.arrays import Voxels
from uvlm.config import PreprocessConfig
from uvlm.data.contract import contract_sha256, normalise
from uvlm.data.ct.grid import Geometry, preprocess_volume
from uvlm.data.ct.hounsfield import sample
from uvlm.data.ct.io import read_volume
from uvlm.data.ct.origin import CtOrigin
from uvlm.data.ct.volume import ReadError, Spacing, Volume, spacing_of

_NO_CONTRACT: Final = "unknown: no params.yaml here and no --model"
_FACTS: Final = ("shape", "spacing_mm", "orientation", "hu_percentiles", "preprocessing")
PERCENTILES: Final = (0.5, 5, 25, 50, 75, 95, 99.5)


@dataclass(frozen=True, eq=False)
class CtCheck:
    """What is known about one CT; the facts of a refused one are None.

    Series and patients inside a folder go by pseudonyms unless `names` are asked for.
    `voxels` is what the network gets, normalised, (z, y, x) on `spacing_seen`.
    """

    path: Path
    refusal: ReadError | None = None
    facts: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(_FACTS))
    voxels: Voxels | None = None
    spacing_seen: Spacing = (1.0, 1.0, 1.0)
    origin: CtOrigin | None = None

    @property
    def accepted(self) -> bool:
        """Whether training and `predict` would read this CT."""
        return self.refusal is None

    def to_json(self, *, names: bool = False) -> dict[str, Any]:
        """Return the same keys for every CT."""
        reasons, error = [], self.refusal
        if error is not None:
            why = {"reason": error.reason, "fact": _fact(error, names), "remedy": error.remedy}
            reasons = [{"file": error.subject, **why}]
        head = {"path": str(self.path), "accepted": self.accepted, "reasons": reasons}
        source = self.origin and self.origin.to_json(names=names)
        return {**head, **self.facts, "source": source}

    def to_text(self, *, names: bool = False) -> str:
        """Describe the CT in a few lines for the terminal."""
        if self.refusal is not None:
            error = self.refusal
            what = f"  {_fact(error, names)}\n  -> {error.remedy}"
            if error.subject != str(self.path):
                what = f"  {error.subject}:\n{what}"
            return f"{self.path}: REFUSED ({error.reason})\n{what}"
        facts = self.facts
        size = f"{_by(facts['shape'])} voxels of {_by(facts['spacing_mm'])} mm (z, y, x)"
        hu = ", ".join(f"{p} % {value:g}" for p, value in facts["hu_percentiles"].items())
        lines = [
            f"{self.path}: accepted",
            f"  shape    {size}, axes {facts['orientation']}",
            f"  HU       {hu}",
        ]
        lines += [f"  read     {self.origin.to_text(names=names)}"] if self.origin else []
        plan = facts["preprocessing"] or {"steps": [_NO_CONTRACT]}
        return "\n".join(lines + [f"  then     {step}" for step in plan["steps"]])


def check_ct(path: Path, config: PreprocessConfig | None) -> CtCheck:
    """Read one CT strictly and prepare it as `config` says; with None it is only read."""
    try:
        volume = read_volume(path)
    except ReadError as error:
        return CtCheck(path, error)
    values = np.percentile(sample(volume.array), PERCENTILES).tolist()
    facts: dict[str, Any] = {
        "shape": list(volume.array.shape),
        "spacing_mm": [round(v, 6) for v in volume.spacing],
        "orientation": volume.orientation(),
        "hu_percentiles": {f"{p:g}": round(v, 1) for p, v in zip(PERCENTILES, values, strict=True)},
        "preprocessing": None,
    }
    if config is None:
        return CtCheck(path, facts=facts, origin=volume.origin)
    array, geometry = preprocess_volume(volume, config)
    seen = spacing_of(geometry.grid_affine)
    facts["preprocessing"] = {
        "steps": _steps(volume, geometry, config, seen),
        "grid": list(config.grid),
        "spacing_mm": [round(v, 6) for v in seen],
        "contract_sha256": contract_sha256(config),
    }
    return CtCheck(path, None, facts, normalise(array, config), seen, volume.origin)


def _fact(error: ReadError, names: bool) -> str:
    return error.named if names else error.fact


def _steps(
    volume: Volume, geometry: Geometry, config: PreprocessConfig, seen: Spacing
) -> list[str]:
    """Say in words what `preprocess_volume` and `normalise` do to this CT."""
    stored, wanted = volume.orientation(), config.orientation
    turn = "axes stay" if stored == wanted else f"axes turned from {stored} to {wanted}"
    steps = [f"{turn}: {_by(geometry.order.canonical_shape(geometry.shape))} voxels (z, y, x)"]
    (low, high), values = config.clip_hu, sample(volume.array)
    changed = float(np.mean((values < low) | (values > high)))
    steps.append(f"clipped to {low}..{high} HU, which changes {changed:.1%} of the voxels")
    how = "stretched" if config.resize == "stretch" else "resampled, then cut or padded,"
    steps.append(f"{how} to {_by(config.grid)} voxels of {_by(seen)} mm")
    steps += [f"  {note}" for note in grid_notes(geometry, config)]
    if config.normalise == "window":
        low, high = config.window_hu
        return [*steps, f"{low}..{high} HU scaled to -1..1"]
    return [*steps, "scaled to mean 0 and standard deviation 1 of the volume"]


def grid_notes(geometry: Geometry, config: PreprocessConfig) -> list[str]:
    """Say what the grid leaves out or makes up."""
    notes = []
    for name, axis in zip("zyx", geometry.axes, strict=True):
        covered = axis.size * axis.scale / axis.native
        if config.resize == "resample_pad" and covered < 0.999:
            notes.append(f"{1 - covered:.0%} of the CT along {name} lies outside the grid")
        elif config.resize == "stretch" and axis.scale < 0.5:
            ratio = f"{1 / axis.scale:.1f} grid voxels along {name}"
            notes.append(f"{ratio} come from each of the CT's")
    return notes


def _by(values: Any) -> str:
    return " x ".join(f"{v:.4g}" if isinstance(v, float) else f"{v}" for v in values)

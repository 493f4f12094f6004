"""Airways by the baseline network of the ATM'22 challenge; users supply its weights.

    CT -> (z, y, x) in LPS -> [spacing_mm] -> HU -1000..400 to 0..1 -> windows of 128^3, overlap a
    quarter, Gaussian weights -> > 0.5 -> the CT's own grid -> more air than wall -> largest piece

The network was trained at 0.5 to 0.8 mm and works on the CT's own grid unless `spacing_mm` is set.
A side shorter than the window is padded with its own edge: zeros would be air beyond the border, in
which the network finds airways. Voxels above -500 HU, half way between air and tissue, are more
wall than lumen. docs/pseudo_labels.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from uvlm.arrays import Array, Flags, Voxels
from uvlm.data.cases import Case
from uvlm.data.ct.io import read_volume
from uvlm.data.ct.resample import Axis, resample_image, resample_labels
from uvlm.data.ct.volume import LabelMap, Volume, axis_order, spacing_of
from uvlm.data.labels.pseudo.atm22_import import weights_file
from uvlm.data.labels.pseudo.backend import Backend, Provenance
from uvlm.data.sets.raw import at_hand
from uvlm.errors import SetupError, first_line
from uvlm.files import file_sha256

LUMEN: Final = 1  # as in TotalSegmentator's `lung_vessels`
WINDOW: Final = 128
_OVERLAP, _SIGMA, _THRESHOLD = 0.25, 0.125, 0.5
_CLIP_HU: Final = (-1000, 400)
_WALL_HU: Final = -500
Probability = Callable[[Voxels], Voxels]


@dataclass(frozen=True)
class Atm22(Backend):
    """The network at the CT's own spacing, or at `spacing_mm` along every axis."""

    spacing_mm: float | None

    def provenance(self) -> Provenance:
        """Say which weights are used."""
        digest, options = file_sha256(weights_file()), {"spacing_mm": self.spacing_mm}
        return Provenance("atm22", "ATM22 baseline V1.0", "MIT", digest, options)

    def annotate(self, case: Case, root: Path) -> LabelMap:
        """Find the airways of a case."""
        probability = _loaded(weights_file())
        with at_hand(case, root) as ct:
            return airways(read_volume(ct), probability, self.spacing_mm)


@cache
def _loaded(path: Path) -> Probability:
    """Load the network once per process."""
    return load_network(path)


def airways(volume: Volume, probability: Probability, spacing_mm: float | None) -> LabelMap:
    """Find the lumen of the airways, as one connected piece on the CT's own grid.

    Args:
        volume: a chest CT.
        probability: from (z, y, x) Hounsfield units, clipped and scaled to 0..1.
        spacing_mm: the grid to work on; None is the CT's own.
    """
    order = axis_order(volume.affine)
    array = order.view(volume.array)
    axes: list[Axis] = []
    if spacing_mm is not None:
        spacing = spacing_of(order.canonical_affine(volume.affine, volume.array.shape))
        axes = [
            Axis(size, max(1, round(size * mm / spacing_mm)), spacing_mm / mm)
            for size, mm in zip(array.shape, spacing, strict=True)
        ]
        array = resample_image(array, axes, _CLIP_HU)
    found = probability(scaled(array)) > _THRESHOLD
    if axes:
        whole = largest_component(found).astype(np.uint8)
        found = resample_labels(whole, [axis.inverse() for axis in axes]) > 0
    # Cutting away the wall may disconnect twigs, so the largest piece is chosen only now.
    found = largest_component(found & (order.view(volume.array) < _WALL_HU))
    return LabelMap(order.backward(found.astype(np.uint8) * np.uint8(LUMEN)), volume.affine)


def load_network(path: Path) -> Probability:
    """Load the converted weights onto the device of UVLM_DEVICE.

    Raises:
        SetupError: the file is not what `uvlm import-atm22` writes.
    """
    import torch
    from monai.inferers.utils import sliding_window_inference
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from uvlm.data.labels.pseudo.atm22_network import AirwayUNet
    from uvlm.device import choose_device_of_published

    network = AirwayUNet()
    try:
        network.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError, OSError) as error:
        fact = f"no ATM22 network ({first_line(error)})"
        raise SetupError(path, fact, "run `uvlm import-atm22`") from None
    device = str(choose_device_of_published())
    network.to(device).eval()
    options: dict[str, Any] = {"overlap": _OVERLAP, "mode": "gaussian", "sigma_scale": _SIGMA}
    options |= {"sw_device": device, "device": "cpu"}  # only windows go to the GPU, not whole CTs

    def probability(x: Voxels) -> Voxels:
        lacking = [max(0, WINDOW - size) for size in x.shape]
        padding = [(n // 2, n - n // 2) for n in lacking]
        padded = torch.from_numpy(np.pad(x, padding, mode="edge"))[None, None]  # (1, 1, D, H, W)
        with torch.inference_mode():
            out: Any = sliding_window_inference(padded, (WINDOW,) * 3, 1, network, **options)
        inside = tuple(slice(lead, lead + n) for (lead, _), n in zip(padding, x.shape, strict=True))
        whole: Voxels = out[0, 0].numpy()[inside]
        return whole

    return probability


def scaled(array: Array) -> Voxels:
    """Clip Hounsfield units and scale them to 0..1."""
    low, high = _CLIP_HU
    return (np.clip(array, low, high).astype(np.float32) - low) / np.float32(high - low)


def largest_component(mask: Flags) -> Flags:
    """Keep the largest piece of voxels that touch each other, even at a corner."""
    from scipy import ndimage

    pieces, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count == 0:
        return mask
    largest: Flags = pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax())
    return largest

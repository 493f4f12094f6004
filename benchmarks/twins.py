"""A phantom made again from its seed, with what it looks like where it is healthy.

The default phantoms only. Axes are canonical, (z, y, x) = (S, P, L), on the phantom's own voxels.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from uvlm.arrays import Flags, Ids
from uvlm.config import PhantomConfig
from uvlm.data.ct.volume import Volume
from uvlm.data.sets.phantom.anatomy import AIR_HU, Body
from uvlm.data.sets.phantom.disease import EasyDisease
from uvlm.data.sets.phantom.frame import Frame, draw_frame, native_shape
from uvlm.data.sets.phantom.scan import Scan, reconstruct
from uvlm.seeding import generator

Hu = npt.NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Twin:
    """A phantom and the same body without its planted findings.

    Args:
        hu: the phantom as its file has it, noise included.
        scan: what was painted.
        healthy: the body before anything was planted, without noise.
        owner: which planted finding (from 1, in the order of `scan.lesions`) changed a voxel.
        frame: where the phantom's voxels lie.
    """

    hu: Hu
    scan: Scan
    healthy: npt.NDArray[np.float64]
    owner: Ids
    frame: Frame

    @property
    def body(self) -> Flags:
        """All voxels but the air around the patient."""
        tissue: Flags = ndimage.binary_fill_holes(self.healthy > AIR_HU)
        return tissue

    def removed(self, mask: Flags) -> Volume:
        """Put the healthy background in place of some voxels; the noise stays the same."""
        return self.with_values(mask, self.healthy[mask])

    def with_values(self, mask: Flags, values: npt.ArrayLike) -> Volume:
        """Paint voxels before the scanner's blur, as a finding is painted."""
        painted = self.scan.hu.copy()
        painted[mask] = values
        change = _blurred(painted).astype(int) - _blurred(self.scan.hu)
        return self.volume(np.clip(self.hu + change, -1024, 3071).astype(np.int16))

    def volume(self, hu: Hu) -> Volume:
        """Return a CT as a file would have it."""
        stored = self.frame.axes.backward(hu)
        return Volume(stored, self.frame.axes.stored_affine(self.frame.affine, hu.shape))


def draw_twin(config: PhantomConfig, seed: int, scan_id: str) -> Twin | None:
    """Make a phantom again; None if its body cannot be told from it.

    Args:
        config: how phantoms are written.
        seed: of the data set.
        scan_id: such as valid_1_a; its first reconstruction is made.
    """
    body = Body.draw(generator(seed, "phantom", scan_id.rpartition("_")[0]))
    draws, disease = generator(seed, "phantom", scan_id), EasyDisease(config)
    abnormalities = disease.draw(draws)
    shape = native_shape(config.shape, draws)
    again = copy.deepcopy(draws)
    scan = disease.paint(body, abnormalities, shape, draws)
    large = [name for name in abnormalities if name == "Cardiomegaly"]
    healthy = disease.paint(body, large, shape, again)
    # A phantom is painted again until all of it can be seen, and then its heart is another.
    if not np.array_equal(healthy.organs, scan.organs):
        return None
    disease.write(scan.findings, draws)
    draws.random()  # whether there is a second reconstruction
    frame = draw_frame(scan.hu.shape, draws)
    hu = reconstruct(scan.hu, config.noise_hu, draws)
    return Twin(hu, scan, healthy.hu, _owners(scan, healthy.hu), frame)


def _owners(scan: Scan, healthy: npt.NDArray[np.float64]) -> Ids:
    """Give every changed voxel to its finding; what no mask holds goes to the nearest."""
    owner = np.zeros(scan.hu.shape, np.uint8)
    for number, lesion in enumerate(scan.lesions, start=1):
        owner[lesion.instances > 0] = number
    if not owner.any():
        return owner
    nearest = ndimage.distance_transform_edt(
        owner == 0, return_distances=False, return_indices=True
    )
    changed = (scan.hu != healthy) & (owner == 0)
    owner[changed] = owner[tuple(nearest)][changed]
    return owner


def _blurred(painted: npt.NDArray[np.float64]) -> Hu:
    return reconstruct(painted, 0.0, np.random.default_rng(0))

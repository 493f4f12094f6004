"""Functions that MONAI or SciPy also have: `python -m benchmarks.monai_parts` prints their times.

docs/monai.md quotes the table; losses, augmentation and windows are in `python -m benchmarks`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.measure import cpu_seconds_of_both, hardware, peak_growth_mb, table
from uvlm.data.ct.volume import LabelMap
from uvlm.data.labels.regrid import Placement
from uvlm.evaluation.classification import ranking
from uvlm.evaluation.segmentation import bounding_box, dice_of_present, overlap_counts
from uvlm.evaluation.surface import mask_pair_scores
from uvlm.inference.sliding_window import gaussian_weight

SHAPE = (96, 128, 128)
NUM_CLASSES, REPEATS = 49, 5
Part = Callable[[], Any]
Pair = tuple[str, str, Part, Part]


def label_maps() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Two maps of blocks, the second moved by a voxel."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, NUM_CLASSES, [edge // 16 for edge in SHAPE]).astype(np.uint8)
    labels = blocks.repeat(16, 0).repeat(16, 1).repeat(16, 2)
    return labels, np.roll(labels, 1, axis=2)


def our_dice(maps: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]) -> Any:
    """Count voxels, then divide."""
    return dice_of_present(overlap_counts("case", *maps, NUM_CLASSES))


def monai_dice(maps: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]) -> Any:
    """Compare one map per class."""
    from monai.metrics.meandice import compute_dice
    from monai.networks.utils import one_hot

    wanted, written = (one_hot(torch.from_numpy(m)[None, None], NUM_CLASSES) for m in maps)
    return compute_dice(written, wanted)[0].numpy()


def surfaces() -> Pair:
    """Dice and two distances of one structure with voxels of 3 x 1 x 1 mm."""
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.meandice import compute_dice
    from monai.metrics.surface_distance import compute_average_surface_distance

    z, y, x = np.ogrid[:96, :128, :128]
    ball = (z - 48) ** 2 + (y - 64) ** 2 + (x - 64) ** 2 < 40**2
    masks, spacing = (ball, np.roll(ball, 2, axis=1)), (3.0, 1.0, 1.0)

    def theirs() -> list[float]:
        wanted, written = (torch.from_numpy(mask)[None, None] for mask in masks)
        distances = (
            compute_average_surface_distance(
                written, wanted, True, symmetric=True, spacing=[*spacing]
            ),
            compute_hausdorff_distance(written, wanted, True, percentile=95, spacing=[*spacing]),
        )
        return [float(number) for number in (compute_dice(written, wanted), *distances)]

    return (
        "Dice, surface distance, Hausdorff 95 of one structure", "one function each",
        theirs, lambda: [*mask_pair_scores(*masks, spacing).values()],
    )  # fmt: skip


def importance_map() -> Pair:
    """Weights of a window."""
    from monai.data.utils import compute_importance_map

    return (
        "weights of a sliding window", "compute_importance_map",
        lambda: compute_importance_map(SHAPE, "gaussian", 1 / 8), lambda: gaussian_weight(SHAPE),
    )  # fmt: skip


def resampled_labels() -> Pair:
    """Labels of voxels of 2 mm on a grid of 1.3 mm, which is turned by a few degrees."""
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms.spatial.array import SpatialResample

    labels, angle = label_maps()[0], np.radians(5)
    turned = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)],
                       [0, np.sin(angle), np.cos(angle)]])  # fmt: skip
    source, wanted = np.diag([2.0, 2.0, 2.0, 1.0]), np.eye(4)
    wanted[:3, :3] = 1.3 * turned
    swap = np.eye(4)[[2, 1, 0, 3]]  # our affines give (x, y, z) of an index (z, y, x)
    placement = Placement.of(SHAPE, swap @ wanted, LabelMap(labels, swap @ source))
    resample = SpatialResample(mode="nearest", padding_mode="zeros", align_corners=True)

    def theirs() -> Any:
        image = MetaTensor(torch.from_numpy(labels)[None], affine=torch.from_numpy(source))
        found = resample(image, dst_affine=torch.from_numpy(wanted), spatial_size=SHAPE)
        return found[0].numpy().astype(np.uint8)

    return "labels on another grid", "SpatialResample", theirs, lambda: placement.sample(labels)


def auroc() -> Pair:
    """AUROC of 18 classes in 200 bootstrap samples of 500 cases."""
    from monai.metrics.rocauc import compute_roc_auc

    rng = np.random.default_rng(0)
    labels, scores = rng.random((500, 18)) < 0.2, rng.random((500, 18))
    drawn = rng.integers(0, 500, (200, 500))
    weights = np.stack([np.bincount(rows, minlength=500) for rows in drawn]).astype(np.float64)

    def theirs() -> Any:
        truth, given = torch.from_numpy(labels.astype(np.int64)), torch.from_numpy(scores)
        return [compute_roc_auc(given[rows], truth[rows], average="none") for rows in drawn]

    return (
        "AUROC, 18 classes in 200 bootstrap samples", "compute_roc_auc",
        theirs, lambda: ranking(labels, scores, weights)[0],
    )  # fmt: skip


def box() -> Pair:
    """Bounding box of a structure in a CT; both return slices, whose ends are compared."""
    from scipy.ndimage import find_objects

    mask = np.zeros((300, 512, 512), dtype=bool)
    mask[100:140, 200:260, 100:300] = True

    def ends(slices: tuple[slice, ...]) -> list[int]:
        return [end for part in slices for end in (part.start, part.stop)]

    return (
        "bounding box of a structure", "SciPy's find_objects",
        lambda: ends(find_objects(mask.view(np.uint8))[0]), lambda: ends(bounding_box(mask)),
    )  # fmt: skip


def main() -> None:
    """Print the table."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # of MONAI about itself
    torch.set_num_threads(1)
    maps = label_maps()
    dice = f"Dice of {NUM_CLASSES} classes"
    pairs: list[Pair] = [
        (dice, "one_hot, compute_dice", lambda: monai_dice(maps), lambda: our_dice(maps)),
        surfaces(), resampled_labels(), auroc(), importance_map(), box(),
    ]  # fmt: skip
    rows = []
    for what, name, theirs, ours in pairs:
        seconds = [1e3 * s for s in cpu_seconds_of_both(theirs, ours, REPEATS)]
        first, second = (np.asarray(part(), dtype=np.float64) for part in (theirs, ours))
        known = np.isfinite(second) & np.isfinite(first)
        apart = float(np.abs(first - second)[known].max())
        rows.append([what, name, *(f"{s:.3g} ms" for s in seconds), f"{apart:.1g}"])
    memory = [peak_growth_mb(part, maps) for part in (monai_dice, our_dice)]
    rows.append([f"{dice}: memory", "", *(f"{megabytes:.0f} MB" for megabytes in memory), ""])
    sys.stdout.write(f"{hardware()}\n\n")
    sys.stdout.write(table(["what", "against", "theirs", "ours", "largest difference"], rows))


if __name__ == "__main__":
    main()

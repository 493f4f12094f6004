"""`uvlm overfit`: stage 1 on one real CT, to see reading, labels, loss and training work together.

The label map is TotalSegmentator's (`total` ids), folded into the coarse chest scheme. The network
is trained and scored on the same CT: a high Dice shows that the parts work, not that they
generalise. A deadline ends the training, so the learning rate follows the clock if time runs out
before the steps do.

B batch, C classes, (D, H, W) = (z, y, x).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

from uvlm.arrays import Ids
from uvlm.config import PreprocessConfig
from uvlm.data.contract import normalise
from uvlm.data.ct.grid import Geometry, preprocess_volume
from uvlm.data.ct.grid_rules import is_on_grid
from uvlm.data.ct.io import read_label_map, read_volume
from uvlm.data.ct.volume import LabelMap
from uvlm.data.label_scheme import LabelScheme, scheme
from uvlm.device import autocast, choose_device, set_threads
from uvlm.errors import ConfigError, DataError, UvlmError
from uvlm.evaluation.segmentation import dice_of_present, overlap_counts
from uvlm.files import write_json_atomic
from uvlm.inference.draft_folder import check_writable, filling, write_segmentation
from uvlm.inference.segment import Segmenter
from uvlm.model.build import build_unet
from uvlm.seeding import generator, seed_everything
from uvlm.tracking import Progress
from uvlm.train.augmentation.patches import choose_class, patch_around, random_patch, random_voxel
from uvlm.train.batches import SegBatch
from uvlm.train.loop.optim import build_optimizer, set_learning_rate
from uvlm.train.losses.losses import class_weights
from uvlm.train.losses.objectives import SegObjective
from uvlm.train.overfit.config import OverfitConfig
from uvlm.train.overfit.picture import draw_planes

METRICS: Final = "metrics.json"
PICTURE: Final = "planes.png"


def overfit(
    ct: Path,
    labels: Path,
    out: Path,
    *,
    minutes: float = 10.0,
    config: OverfitConfig | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train on one CT and write metrics.json, segmentation.nii.gz and planes.png to `out`.

    Args:
        ct: NIfTI file.
        labels: TotalSegmentator's multi-label result on the CT's grid.
        out: folder, created if necessary.
        minutes: training stops after them, whatever `config.steps` says.
        config: the settings.
        progress: shows steps and loss.

    Returns:
        The content of metrics.json: `dice` is the mean over the classes present, `dice_by_class`
        each of them; `loss` is that of the last of `steps`, of which `planned_steps` were wanted.
    """
    if not minutes > 0:  # also true of NaN
        raise ConfigError("minutes", f"is {minutes:g}", "use a number above 0")
    check_writable(out)
    config = config or OverfitConfig()
    start = time.monotonic()
    set_threads()
    seed_everything(config.seed)
    subject = read_subject(ct, labels, config)
    unet = build_unet(config.encoder, subject.scheme.num_classes)
    device = choose_device()
    unet.to(device, memory_format=torch.channels_last_3d)
    segmenter = Segmenter(unet, config.patch, device)  # its norms are those to train with
    before = subject.dice(_labels(segmenter, subject))
    reached = _train(segmenter, subject, start + 60 * minutes, progress)
    predicted = _labels(segmenter, subject)
    dice = subject.dice(predicted)
    metrics = {
        "dice": _mean(dice),
        "dice_by_class": dice,
        "dice_before": _mean(before),
        "grid": list(config.grid),
        "steps": reached.steps,
        "planned_steps": config.steps,
        "loss": round(reached.loss, 4),
        "seconds": round(time.monotonic() - start, 1),
        "note": "trained and scored on the same CT, on the network's grid",
    }
    with filling(out) as temporary:
        write_json_atomic(temporary / METRICS, metrics)
        native = subject.geometry.labels_to_native(predicted)
        write_segmentation(temporary, native, subject.scheme.names)
        spacing = LabelMap(predicted, subject.geometry.grid_affine).spacing
        draw_planes(temporary / PICTURE, subject.hu, spacing, (subject.truth, predicted), dice)
    return metrics


@dataclass(frozen=True, eq=False)
class Subject:
    """One CT with its true classes, both on the network's grid; draws batches of patches."""

    name: str
    hu: npt.NDArray[np.int16]
    voxels: npt.NDArray[np.float32]
    truth: Ids
    geometry: Geometry
    scheme: LabelScheme
    config: OverfitConfig

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Count the voxels of each class, (C,)."""
        return np.bincount(self.truth.ravel(), minlength=self.scheme.num_classes)

    def dice(self, predicted: Ids) -> dict[str, float]:
        """Compute the Dice of every class present except the background."""
        names = self.scheme.names
        scores = dice_of_present(overlap_counts(self.name, self.truth, predicted, len(names)))
        present = np.flatnonzero(np.isfinite(scores))
        return {names[c]: round(float(scores[c]), 4) for c in present if c}

    def batch(self, index: int, rarity: npt.NDArray[np.float64]) -> SegBatch:
        """Draw batch `index`: patches anywhere or around a voxel, favouring rare classes."""
        config = self.config
        rng = generator(config.seed, "overfit", index)  # a batch is a function of its number
        present = {c: int(n) for c, n in enumerate(self.counts) if n}
        places = []
        for _ in range(config.batch_size):
            place = random_patch(config.grid, config.patch, rng)
            if rng.random() < config.foreground_fraction:
                chosen = choose_class(present, rarity, (), rng)
                assert chosen is not None
                voxel = random_voxel(self.truth, chosen, rng)
                place = patch_around(voxel, config.grid, config.patch, rng)
            places.append(place)
        x = np.stack([self.voxels[place] for place in places])[:, None]
        target = np.stack([self.truth[place] for place in places])
        return SegBatch([self.name] * len(places), torch.from_numpy(x), torch.from_numpy(target))


def read_subject(ct: Path, labels: Path, config: OverfitConfig) -> Subject:
    """Read both files strictly and resample them to the grid."""
    _check_sizes(config)
    volume, label_map = read_volume(ct), read_label_map(labels)
    if not is_on_grid(label_map, volume.array.shape, volume.affine):
        fact = f"lies on another grid {label_map.array.shape} than the CT {volume.array.shape}"
        raise DataError(labels, fact, "pass the label map that was made from this CT")
    fixed = {"orientation": "LPS", "resize": "stretch", "normalise": "window"}
    chosen = config.model_dump(include={"clip_hu", "grid", "window_hu"})
    preprocess = PreprocessConfig.model_validate(fixed | chosen)
    hu, geometry = preprocess_volume(volume, preprocess)
    coarse = scheme("chest", "coarse")
    truth = geometry.labels_to_grid(geometry.order.forward(coarse.fold_total(label_map.array)))
    if not truth.any():
        remedy = "pass TotalSegmentator's multi-label file of the task `total`"
        raise DataError(labels, "holds none of the classes of the chest scheme", remedy)
    return Subject(ct.name, hu, normalise(hu, preprocess), truth, geometry, coarse, config)


class _Reached(NamedTuple):
    """How far a training came: its steps, and the loss of the last one."""

    steps: int
    loss: float


def _train(
    segmenter: Segmenter, subject: Subject, deadline: float, progress: Progress | None
) -> _Reached:
    """Train until the steps or the time are used up."""
    config, unet = subject.config, segmenter.unet
    counts = torch.from_numpy(subject.counts)
    weights = class_weights(counts, config.ce_weight_power, config.ce_weight_cap)
    rarity = weights.double().numpy()
    objective = SegObjective(weights.to(segmenter.device), config.deep_supervision)
    optimizer = build_optimizer(unet, config.optim)
    start, value = time.monotonic(), math.nan
    if start >= deadline:
        fact = "is used up before the first step"
        raise ConfigError("minutes", fact, "use a larger number")
    _set_training(unet, True)
    for step in range(config.steps):
        # The schedule reaches its end whichever runs out first, steps or time.
        share = max(step / config.steps, (time.monotonic() - start) / (deadline - start))
        if step and share >= 1:
            return _Reached(step, value)
        set_learning_rate(optimizer, int(share * config.steps), config.steps, config.optim)
        batch = subject.batch(step, rarity)
        x, target = batch.x.to(segmenter.device), batch.target.to(segmenter.device)
        with autocast(segmenter.device):
            terms = objective.loss(unet, SegBatch(batch.case_ids, x, target))
        loss = torch.stack(list(terms.values())).sum()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise UvlmError(subject.name, f"loss is {value} at step {step}", "lower the lr")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), config.optim.clip_norm)
        optimizer.step()
        if progress is not None:
            progress.update(step + 1, config.steps, value)
    return _Reached(config.steps, value)


def _labels(segmenter: Segmenter, subject: Subject) -> Ids:
    """Classify the whole CT."""
    _set_training(segmenter.unet, False)
    labels: Ids = segmenter.labels(subject.voxels[None])[0]
    return labels


def _set_training(unet: ResidualEncoderUNet, training: bool) -> None:
    """Switch between all resolutions, for the loss, and full resolution only."""
    unet.train(training)
    unet.decoder.deep_supervision = training


def _check_sizes(config: OverfitConfig) -> None:
    step = math.prod(config.encoder.strides)
    for name, sizes in (("patch", config.patch), ("grid", config.grid)):
        if any(size % step for size in sizes):
            raise ConfigError(f"overfit.{name}", f"{list(sizes)} is not a multiple of {step}")
    if any(edge > size for edge, size in zip(config.patch, config.grid, strict=True)):
        raise ConfigError("overfit.patch", f"{list(config.patch)} exceeds {list(config.grid)}")


def _mean(dice: dict[str, float]) -> float:
    return round(sum(dice.values()) / len(dice), 4)

"""Predicted label maps of cases, on the network's grid, kept in the store.

B batch, (D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final, Self

import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from torch import Tensor

from uvlm.arrays import Array, Ids, Voxels
from uvlm.config import Grid, PreprocessConfig
from uvlm.data.contract import contract_sha256
from uvlm.data.examples import Example
from uvlm.device import autocast, choose_device, choose_precision
from uvlm.files import key_of, store_root
from uvlm.inference.encode import network_input
from uvlm.inference.sliding_window import predict_labels
from uvlm.model.fast_norm import ready
from uvlm.store import BatchProduct, Row, Shard, every_case

BATCH_VOXELS: Final = 2**19
VERSION: Final = 2


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A U-Net without deep supervision on one device, and the patch it was trained on."""

    unet: ResidualEncoderUNet
    patch: Grid
    device: torch.device

    @classmethod
    def of(cls, unet: ResidualEncoderUNet, patch: Grid) -> Self:
        """Move a trained network to the device of UVLM_DEVICE."""
        device = choose_device()
        ready(unet, device)
        return cls(unet, patch, device)

    def labels(self, voxels: Voxels) -> Ids:
        """Classify normalised volumes (B, D, H, W) voxel by voxel."""
        return self.labels_of(torch.from_numpy(voxels).to(self.device))

    @torch.no_grad()
    def labels_of(self, volumes: Tensor) -> Ids:
        """Classify normalised volumes (B, D, H, W) that are on the device."""
        x = volumes[:, None]
        with autocast(self.device):
            labels = predict_labels(self.unet, x, self.patch)
        predicted: Ids = labels.cpu().numpy()
        return predicted


def segment_cases(
    segmenter: Segmenter,
    examples: Sequence[Example],
    preprocess: PreprocessConfig,
    unet_sha256: str,
    done: Callable[[int], None],
    code: str = "",
    shard: Shard | None = None,
) -> list[Row]:
    """Store the label map of every case, keep what is already stored, and return the rows.

    Args:
        segmenter: the network of stage 1.
        examples: cases with preprocessed volumes.
        preprocess: the contract they were prepared under.
        unet_sha256: digest of the network's weights.
        done: called with the number of cases done.
        code: digest of the stage's code; see `every_case.run`.
        shard: store only this share of the cases.
    """
    masks = _Masks(store_root(), segmenter, preprocess, unet_sha256, segmenter.device)
    size = max(1, BATCH_VOXELS // prod(preprocess.grid))  # small volumes are faster together
    if shard is not None:
        return every_case.run_shard_in_batches(masks, examples, size, shard, done, code)
    return every_case.run_in_batches(masks, examples, size, done, code)


@dataclass(frozen=True)
class _Masks(BatchProduct[Example]):
    segmenter: Segmenter
    preprocess: PreprocessConfig
    unet_sha256: str
    device: torch.device
    stage = "generate"
    constant = "VERSION in uvlm/inference/segment.py"

    @property
    def settings(self) -> list[Any]:
        made_by = [contract_sha256(self.preprocess), self.unet_sha256, self.segmenter.patch]
        return [VERSION, *made_by, choose_precision(self.segmenter.device)]

    def key(self, item: Example) -> str:
        return key_of(self.stage, item.volume_sha256, *self.settings)

    def read(self, items: Sequence[Example]) -> list[Array]:
        return [item.stored() for item in items]

    def make_several(self, items: Sequence[Example], inputs: Sequence[Any]) -> Ids:
        pairs = zip(items, inputs, strict=True)
        volumes = [network_input(x, item, self.preprocess, self.device) for item, x in pairs]
        return self.segmenter.labels_of(torch.stack(volumes))

    def row(self, item: Example, key: str, path: str, note: Mapping[str, Any]) -> Row:
        return Row(item.case_id, key, path, note["sha256"], f"unet:{self.unet_sha256[:12]}")

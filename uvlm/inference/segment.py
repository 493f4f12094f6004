"""Predicted label maps of cases, on the network's grid, in the store.

B batch, (D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

from uvlm.config import Grid, PreprocessConfig
from uvlm.data.contract import contract_sha256, normalise
from uvlm.data.examples import Example
from uvlm.device import autocast, choose_device, choose_precision
from uvlm.files import key_of, store_root
from uvlm.inference.sliding_window import predict_labels
from uvlm.model.fast_norm import ready
from uvlm.store import Row, array_path, load_array, read_note, save_array

STAGE: Final = "generate"
BATCH_VOXELS: Final = 2**19
VERSION: Final = 2
Ids = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A U-Net without deep supervision on one device, and the patch it was trained on."""

    unet: ResidualEncoderUNet
    patch: Grid
    device: torch.device

    @classmethod
    def of(cls, unet: ResidualEncoderUNet, patch: Grid) -> Self:
        """Bring a network that will not be trained any more to the device of UVLM_DEVICE."""
        device = choose_device()
        ready(unet, device)
        return cls(unet, patch, device)

    @torch.no_grad()
    def labels(self, voxels: npt.NDArray[np.float32]) -> Ids:
        """Classify normalised volumes (B, D, H, W) voxel by voxel."""
        x = torch.from_numpy(voxels)[:, None].to(self.device)
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
) -> list[Row]:
    """Store the label map of every case; what is stored already is kept.

    Args:
        segmenter: the network of stage 1.
        examples: cases with preprocessed volumes.
        preprocess: the contract they were prepared by.
        unet_sha256: digest of the network's weights.
        done: told how many cases are done.

    Returns:
        One manifest row a case, its source naming the weights.
    """
    settings = [
        VERSION,
        contract_sha256(preprocess),
        unet_sha256,
        segmenter.patch,
        choose_precision(segmenter.device),
    ]
    keys = {e.case.case_id: key_of(STAGE, e.volume_sha256, *settings) for e in examples}
    files = {case: store_root() / array_path(STAGE, key) for case, key in keys.items()}
    missing = [e for e in examples if read_note(files[e.case.case_id]) is None]
    size = max(1, BATCH_VOXELS // prod(preprocess.grid))  # several at once are faster than one
    for start in range(0, len(missing), size):
        batch = missing[start : start + size]
        voxels = np.stack([_voxels(example, preprocess) for example in batch])
        for example, ids in zip(batch, segmenter.labels(voxels), strict=True):
            save_array(files[example.case.case_id], ids)
        done(len(examples) - len(missing) + start + len(batch))
    source = f"unet:{unet_sha256[:12]}"
    rows = []
    for case, key in keys.items():
        sha256 = str((read_note(files[case]) or {})["sha256"])
        rows.append(Row(case, key, array_path(STAGE, key), sha256, source))
    return rows


def _voxels(example: Example, preprocess: PreprocessConfig) -> npt.NDArray[np.float32]:
    array = load_array(example.volume, example.volume_sha256)
    return normalise(array, preprocess, example.statistics)

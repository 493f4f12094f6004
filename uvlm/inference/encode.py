"""Stage `encode`: a frozen encoder reads every volume once, and its aligned tokens are stored.

Pooling and padding (eq. 4) have no weights, so stage 3 trains on these tokens alone. With
`encode.views` above 1, a training case also has augmented views, stored in one array.

V views, K visual tokens, C_i channels of encoder stage i, (D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from uvlm.arrays import Voxels
from uvlm.config import InjectionConfig, Params, PreprocessConfig
from uvlm.data.contract import contract, contract_sha256, scaled
from uvlm.data.examples import Example, read_examples
from uvlm.device import autocast, choose_device, choose_precision, set_threads
from uvlm.errors import ConfigError, DataError
from uvlm.files import key_of, store_root
from uvlm.model.align import align
from uvlm.model.fast_norm import ready
from uvlm.model.folder import check_contract
from uvlm.model.load import EncoderModel, load_encoder
from uvlm.store import BatchProduct, Row, Shard, every_case, read_manifest, write_manifest
from uvlm.store.fanout import in_batches
from uvlm.tracking import Progress

BATCH_VOXELS: Final = 2**19
VERSION: Final = 2  # of the arithmetic
View = Callable[[Voxels, str, int], Voxels]  # from normalised voxels, case id, number of the view


class EncodePaths(TypedDict):
    """Manifests of `index` and `preprocess`, the model folder of the encoder, and the output."""

    index: Path
    preprocess: Path
    model: Path  # data/models/cls; its encoder is used as it is
    out: Path


def encode_cases(
    params: Params,
    *,
    progress: Progress | None = None,
    view: View | None = None,
    code: str = "",
    shard: Shard | None = None,
    **paths: Unpack[EncodePaths],
) -> list[Row]:
    """Store the tokens of every case and write the manifest; keep what is already stored.

    Args:
        params: reads `seed`, the sections preprocess, injection and encode, and with several views
            train_report.augment.
        progress: shows the cases done.
        view: makes the views of a training case beyond the first, from number 1 on.
        code: digest of the stage's code; see `every_case.run`.
        shard: store only this share of the cases, and write no manifest.
        **paths: see EncodePaths. `out` gets one (K, sum C_i) array per case; the row's extras are
            `channels`, `encoder_sha256`, `reference_stage`, `pooling` and `deeper`. With several
            views the array of a training case is (V, K, sum C_i), and its row has `views`.

    Returns:
        The rows of the manifest, or of the share.
    """
    check_contract(paths["model"], contract(params.preprocess))
    loaded = load_encoder(paths["model"])
    device = choose_device()
    set_threads()
    ready(loaded.encoder, device)
    origin = _origin(params.injection, loaded.config.weights["encoder"])
    tokens = _Tokens(store_root(), params, loaded, device, view, origin)
    examples = read_examples(paths["index"], paths["preprocess"], params.preprocess)
    size = max(1, BATCH_VOXELS // prod(params.preprocess.grid))  # small volumes go faster together
    total = len(examples) if shard is None else sum(map(len, shard.of(in_batches(examples, size))))

    def done(count: int) -> None:
        if progress is not None:
            progress.update(count, total)

    if shard is not None:
        return every_case.run_shard_in_batches(tokens, examples, size, shard, done, code)
    rows = every_case.run_in_batches(tokens, examples, size, done, code)
    write_manifest(paths["out"], rows)
    return rows


@dataclass(frozen=True)
class _Tokens(BatchProduct[Example]):
    params: Params
    model: EncoderModel
    device: torch.device
    view: View | None
    origin: dict[str, Any]
    stage = "encode"
    constant = "VERSION in uvlm/inference/encode.py"
    as_a_whole = True

    @property
    def settings(self) -> list[Any]:
        return self._settings(self.params.encode.views)

    def _settings(self, num_views: int) -> list[Any]:
        contract = contract_sha256(self.params.preprocess)
        precision = choose_precision(self.device)
        made_by = [contract, *self.origin.values(), self.params.encode.dtype, precision, VERSION]
        augment = self.params.train_report.augment.model_dump(mode="json")
        return made_by + ([num_views, augment, self.params.seed] if num_views > 1 else [])

    def _num_views(self, item: Example) -> int:
        """Count the views of a case; only training draws from several."""
        return self.params.encode.views if item.case.split == "train" else 1

    def key(self, item: Example) -> str:
        num_views = self._num_views(item)
        # Views are drawn by case, so equal volumes of two cases do not share them.
        case = [item.case_id] if num_views > 1 else []
        return key_of(self.stage, item.volume_sha256, *self._settings(num_views), *case)

    def read(self, items: Sequence[Example]) -> list[list[npt.NDArray[Any]]]:
        """Read volumes in Hounsfield units, and make their further views, normalised."""
        return [[item.stored(), *self._further(item)] for item in items]

    def _further(self, item: Example) -> Iterator[Voxels]:
        views = range(1, self._num_views(item))
        x = item.voxels(self.params.preprocess) if views else None
        return (self._view(x, item, number) for number in views if x is not None)

    def make_several(
        self, items: Sequence[Example], inputs: Sequence[Sequence[Any]]
    ) -> Iterator[npt.NDArray[np.floating]]:
        config = self.params.preprocess
        pairs = zip(items, inputs, strict=True)
        batch = [network_input(each[0], item, config, self.device) for item, each in pairs]
        for each, array in zip(inputs, self._encode(batch), strict=True):
            views = (torch.as_tensor(view).to(self.device) for view in each[1:])
            further = [self._encode([view])[0] for view in views]
            yield np.stack([array, *further]) if further else array

    def _view(self, x: Voxels, item: Example, number: int) -> Voxels:
        if self.view is None:
            fact = f"is {self.params.encode.views} but nothing makes the views"
            raise ConfigError("encode.views", fact)
        return self.view(x, item.case_id, number)

    def _encode(self, volumes: Sequence[Tensor]) -> npt.NDArray[np.floating]:
        """Encode a batch of volumes: (B, K, sum C_i)."""
        x = torch.stack(list(volumes))[:, None]
        tokens = encode_volumes(self.model.encoder, x, self.params.injection)
        return tokens.cpu().numpy().astype(self.params.encode.dtype)

    def row(self, item: Example, key: str, path: str, note: Mapping[str, Any]) -> Row:
        config = self.model.config
        extra = {"channels": list(config.encoder.channels), **self.origin}
        if (count := self._num_views(item)) > 1:
            extra["views"] = count
        source = f"encoder:{config.weights['encoder'][:12]}"
        return Row(item.case_id, key, path, note["sha256"], source, extra)


def network_input(
    stored: Any, example: Example, config: PreprocessConfig, device: torch.device
) -> Tensor:
    """Normalise a stored volume on the device, where it arrives in 2 bytes a voxel."""
    values = torch.as_tensor(stored).to(device, non_blocking=True).float()
    return scaled(values, config, example.statistics)


def encode_volumes(encoder: nn.Module, x: Tensor, injection: InjectionConfig) -> Tensor:
    """Encode volumes (B, 1, D, H, W) without gradients: (B, K, sum C_i), shallow to deep."""
    with torch.no_grad(), autocast(x.device):
        aligned = align(encoder(x), injection.reference_stage, injection.pooling, injection.deeper)
    return torch.cat([tokens.float() for tokens in aligned], dim=-1)


def split_stages(tokens: Tensor, channels: Sequence[int]) -> list[Tensor]:
    """Cut (B, K, sum C_i) into one (B, K, C_i) per stage, shallow to deep."""
    return list(torch.split(tokens, list(channels), dim=-1))


def read_encodings(path: Path, injection: InjectionConfig, encoder_sha256: str) -> dict[str, Row]:
    """Read the manifest by case; refuse tokens of another encoder or alignment."""
    rows = read_manifest(path)
    for row, (name, value) in product(rows, _origin(injection, encoder_sha256).items()):
        if row.extra.get(name) != value:
            fact = f"case {row.case} has {name} {row.extra.get(name)}, this run has {value}"
            raise DataError(path, fact, "run `dvc repro encode`")
    return {row.case: row for row in rows}


def _origin(injection: InjectionConfig, encoder_sha256: str) -> dict[str, Any]:
    """Say which encoder and alignment made tokens, as every row of the manifest does."""
    return {
        "encoder_sha256": encoder_sha256,
        "reference_stage": injection.reference_stage,
        "pooling": injection.pooling,
        "deeper": injection.deeper,
    }

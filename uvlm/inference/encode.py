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
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from uvlm.arrays import Voxels
from uvlm.config import InjectionConfig, Params
from uvlm.data.contract import contract, contract_sha256
from uvlm.data.examples import Example, read_examples
from uvlm.device import autocast, choose_device, choose_precision, set_threads
from uvlm.errors import ConfigError, DataError
from uvlm.files import key_of, store_root
from uvlm.model.align import align
from uvlm.model.fast_norm import ready
from uvlm.model.folder import check_contract
from uvlm.model.load import EncoderModel, load_encoder
from uvlm.store import BatchProduct, Row, every_case, read_manifest, write_manifest
from uvlm.tracking import Progress

BATCH_VOXELS: Final = 2**19
VERSION: Final = 2  # of the arithmetic
View = Callable[[Voxels, str, int], Voxels]  # from normalised voxels, case id, number of the view


def encode_cases(
    params: Params,
    *,
    index: Path,
    preprocess: Path,
    model: Path,
    out: Path,
    progress: Progress | None = None,
    view: View | None = None,
    code: str = "",
) -> list[Row]:
    """Store the tokens of every case and write the manifest; keep what is already stored.

    Args:
        params: reads `seed`, the sections preprocess, injection and encode, and with several views
            train_report.augment.
        index: manifest of the stage `index`.
        preprocess: manifest of the stage `preprocess`.
        model: model folder whose encoder is used as it is, data/models/cls.
        out: manifest to write. One (K, sum C_i) array per case; the row's extras are `channels`,
            `encoder_sha256`, `reference_stage`, `pooling` and `deeper`. With several views the
            array of a training case is (V, K, sum C_i), and its row has `views`.
        progress: shows the cases done.
        view: makes the views of a training case beyond the first, from number 1 on.
        code: digest of the stage's code; see `every_case.run`.

    Returns:
        The rows of the manifest.
    """
    check_contract(model, contract(params.preprocess))
    loaded = load_encoder(model)
    device = choose_device()
    set_threads()
    ready(loaded.encoder, device)
    origin = _origin(params.injection, loaded.config.weights["encoder"])
    tokens = _Tokens(store_root(), params, loaded, device, view, origin)
    examples = read_examples(index, preprocess, params.preprocess)
    size = max(1, BATCH_VOXELS // prod(params.preprocess.grid))  # small volumes go faster together

    def done(count: int) -> None:
        if progress is not None:
            progress.update(count, len(examples))

    rows = every_case.run_in_batches(tokens, examples, size, done, code)
    write_manifest(out, rows)
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

    def make_several(self, items: Sequence[Example]) -> Iterator[npt.NDArray[np.floating]]:
        batch = [item.voxels(self.params.preprocess) for item in items]
        for item, x, array in zip(items, batch, self._encode(batch), strict=True):
            views = range(1, self._num_views(item))
            further = [self._encode([self._view(x, item, number)])[0] for number in views]
            yield np.stack([array, *further]) if further else array

    def _view(self, x: Voxels, item: Example, number: int) -> Voxels:
        if self.view is None:
            fact = f"is {self.params.encode.views} but nothing makes the views"
            raise ConfigError("encode.views", fact)
        return self.view(x, item.case_id, number)

    def _encode(self, voxels: Sequence[Voxels]) -> npt.NDArray[np.floating]:
        """Encode a batch of volumes: (B, K, sum C_i)."""
        x = torch.from_numpy(np.stack(voxels))[:, None].to(self.device)
        tokens = encode_volumes(self.model.encoder, x, self.params.injection)
        return tokens.cpu().numpy().astype(self.params.encode.dtype)

    def row(self, item: Example, key: str, path: str, note: Mapping[str, Any]) -> Row:
        config = self.model.config
        extra = {"channels": list(config.encoder.channels), **self.origin}
        if (count := self._num_views(item)) > 1:
            extra["views"] = count
        source = f"encoder:{config.weights['encoder'][:12]}"
        return Row(item.case_id, key, path, note["sha256"], source, extra)


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

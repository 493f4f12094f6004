"""Stage `encode`: a frozen encoder reads every volume once; its aligned tokens are stored.

Pooling and padding (eq. 4) have no weights, so stage 3 trains on these tokens alone. With
`encode.views` above 1 a training case is also stored as augmented views, one array for all.

V views, K visual tokens, C_i channels of encoder stage i, (D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from uvlm.config import InjectionConfig, Params, PreprocessConfig
from uvlm.data.contract import contract, contract_sha256, normalise
from uvlm.data.examples import Example, read_examples
from uvlm.device import autocast, choose_device, choose_precision, set_threads
from uvlm.errors import ConfigError, DataError
from uvlm.files import key_of, store_root
from uvlm.model.align import align
from uvlm.model.fast_norm import ready
from uvlm.model.folder import check_contract
from uvlm.model.load import load_encoder
from uvlm.store import (
    Row,
    array_path,
    load_array,
    read_manifest,
    read_note,
    save_array,
    write_manifest,
)
from uvlm.tracking import Progress

BATCH_VOXELS: Final = 2**19
VERSION: Final = 2  # of the arithmetic
Voxels = npt.NDArray[np.float32]
View = Callable[[Voxels, str, int], Voxels]  # normalised voxels, case id, number of the view


def encode_cases(
    params: Params,
    *,
    index: Path,
    preprocess: Path,
    model: Path,
    out: Path,
    progress: Progress | None = None,
    view: View | None = None,
) -> list[Row]:
    """Store the tokens of every case and write the manifest; what is stored already is kept.

    Args:
        params: reads `seed`, the sections preprocess, injection and encode, and with several views
            train_report.augment.
        index: manifest of the stage `index`.
        preprocess: manifest of the stage `preprocess`.
        model: model folder whose encoder is frozen, data/models/cls.
        out: manifest to write. One (K, sum C_i) array a case; the row's extras are `channels`,
            `encoder_sha256`, `reference_stage`, `pooling` and `deeper`. With several views the
            array of a training case is (V, K, sum C_i), and its row has `views`.
        progress: shows the cases done.
        view: gives the views of a training case beyond the first, from number 1 on.

    Returns:
        The rows of the manifest.
    """
    check_contract(model, contract(params.preprocess))
    loaded = load_encoder(model)
    device = choose_device()
    set_threads()
    encoder = loaded.encoder
    ready(encoder, device)
    encoder_sha256 = loaded.config.weights["encoder"]
    examples = read_examples(index, preprocess, params.preprocess)
    extra = {
        "channels": list(loaded.config.encoder.channels),
        "encoder_sha256": encoder_sha256,
        "reference_stage": params.injection.reference_stage,
        "pooling": params.injection.pooling,
        "deeper": params.injection.deeper,
    }

    def encode(voxels: Sequence[Voxels]) -> npt.NDArray[np.floating]:
        """Return the tokens of some volumes, (B, K, sum C_i)."""
        x = torch.from_numpy(np.stack(voxels))[:, None].to(device)
        return _numpy(encode_volumes(encoder, x, params.injection), params.encode.dtype)

    rows: list[Row] = []
    size = max(1, BATCH_VOXELS // prod(params.preprocess.grid))  # faster than one by one
    for start in range(0, len(examples), size):
        batch = examples[start : start + size]
        keys = [_key(e, params, encoder_sha256, choose_precision(device)) for e in batch]
        paths = [array_path("encode", key) for key in keys]
        if any(read_note(store_root() / path) is None for path in paths):
            voxels = [_voxels(example, params.preprocess) for example in batch]
            for example, x, path, array in zip(batch, voxels, paths, encode(voxels), strict=True):
                views = _further_views(example, x, params, view)
                every = np.stack([array, *(encode([v])[0] for v in views)]) if views else array
                save_array(store_root() / path, every)
        for example, key, path in zip(batch, keys, paths, strict=True):
            sha256 = str((read_note(store_root() / path) or {})["sha256"])
            source = f"encoder:{encoder_sha256[:12]}"
            several = {"views": count} if (count := _num_views(example, params)) > 1 else {}
            rows.append(Row(example.case.case_id, key, path, sha256, source, extra | several))
        if progress is not None:
            progress.update(len(rows), len(examples))
    write_manifest(out, rows)
    return rows


def encode_volumes(encoder: nn.Module, x: Tensor, injection: InjectionConfig) -> Tensor:
    """Encode volumes (B, 1, D, H, W) without gradients: (B, K, sum C_i), shallow to deep."""
    with torch.no_grad(), autocast(x.device):
        aligned = align(encoder(x), injection.reference_stage, injection.pooling, injection.deeper)
    return torch.cat([tokens.float() for tokens in aligned], dim=-1)


def split_stages(tokens: Tensor, channels: Sequence[int]) -> list[Tensor]:
    """Cut (B, K, sum C_i) into one (B, K, C_i) per stage, shallow to deep."""
    return list(torch.split(tokens, list(channels), dim=-1))


def read_encodings(path: Path, injection: InjectionConfig, encoder_sha256: str) -> dict[str, Row]:
    """Read the manifest by case and refuse tokens of another encoder or alignment."""
    expected = {
        "encoder_sha256": encoder_sha256,
        "reference_stage": injection.reference_stage,
        "pooling": injection.pooling,
        "deeper": injection.deeper,
    }
    rows = read_manifest(path)
    for row in rows:
        for name, value in expected.items():
            if row.extra.get(name) != value:
                raise DataError(
                    path,
                    f"case {row.case} has {name} {row.extra.get(name)}, this run has {value}",
                    "run `dvc repro encode`",
                )
    return {row.case: row for row in rows}


def _num_views(example: Example, params: Params) -> int:
    """Count the views of a case; only training draws from several."""
    return params.encode.views if example.case.split == "train" else 1


def _further_views(
    example: Example, x: Voxels, params: Params, view: View | None
) -> Iterator[Voxels] | None:
    """Give the views of a case beyond the first, one at a time; None without any."""
    count = _num_views(example, params)
    if count == 1:
        return None
    if view is None:
        raise ConfigError("encode.views", f"is {count} but nothing makes the views")
    return (view(x, example.case.case_id, number) for number in range(1, count))


def _voxels(example: Example, preprocess: PreprocessConfig) -> Voxels:
    array = load_array(example.volume, example.volume_sha256)
    return normalise(array, preprocess, example.statistics)


def _key(example: Example, params: Params, encoder_sha256: str, precision: str) -> str:
    views: list[object] = []
    if (count := _num_views(example, params)) > 1:
        views = [count, params.train_report.augment.model_dump(mode="json"), params.seed]
        views.append(example.case.case_id)
    return key_of(
        "encode",
        example.volume_sha256,
        contract_sha256(params.preprocess),
        encoder_sha256,
        params.injection.reference_stage,
        params.injection.pooling,
        params.injection.deeper,
        params.encode.dtype,
        precision,
        VERSION,
        *views,
    )


def _numpy(tokens: Tensor, dtype: str) -> npt.NDArray[np.floating]:
    return tokens.cpu().numpy().astype(dtype)

"""DVC stage `encode`: the frozen encoder reads every volume once; see `shares`."""

from __future__ import annotations

import sys

from pipeline.paths import MODELS, manifest
from pipeline.shares import run_or_share
from pipeline.stage import Stage
from uvlm.store import Shard


def encode(stage: Stage, shard: Shard | None = None) -> None:
    """Store the aligned tokens of every case, or of a share, under the encoder's hash."""
    from uvlm.inference.encode import encode_cases
    from uvlm.train.augmentation.augment import CachedViews

    encode_cases(
        stage.params,
        index=manifest("index"),
        preprocess=manifest("preprocess"),
        model=MODELS / "cls",
        out=manifest("encode"),
        progress=stage.progress,
        view=CachedViews(stage.params.train_report.augment, stage.params.seed),
        code=stage.code,
        shard=shard,
    )


if __name__ == "__main__":
    run_or_share("encode", encode, encode, sys.argv[1:], tensors=True)

"""DVC stage `encode`: the frozen encoder reads every volume once."""

from __future__ import annotations

from pipeline.paths import MODELS, manifest
from pipeline.stage import Stage, run_stage


def encode(stage: Stage) -> None:
    """Store the aligned tokens of every case under the encoder's hash."""
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
    )


if __name__ == "__main__":
    run_stage("encode", encode, tensors=True)

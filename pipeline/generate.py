"""DVC stage `generate`: reports, probabilities and label maps of the test split; see `shares`."""

from __future__ import annotations

import sys

from pipeline.paths import GENERATED, MODELS, manifest
from pipeline.shares import run_or_share
from pipeline.stage import Stage
from uvlm.store import Shard


def generate(stage: Stage, shard: Shard | None = None) -> None:
    """Write predictions.jsonl and the manifest of predicted label maps; a share writes neither."""
    from uvlm.evaluation.said import spans_of_model
    from uvlm.inference.generate import generate_reports

    numbers = generate_reports(
        stage.params,
        index=manifest("index"),
        encodings=manifest("encode"),
        preprocess=manifest("preprocess"),
        label_maps=manifest("label_maps"),
        model=MODELS / "report",
        seg=MODELS / "seg",
        predictions=GENERATED / "predictions.jsonl",
        masks=manifest("generate"),
        progress=stage.progress,
        code=stage.code,
        shard=shard,
        spans=spans_of_model(MODELS / "report") if stage.params.generate.hold_impressions else None,
    )
    stage.tracker.log(numbers, 0)


if __name__ == "__main__":
    run_or_share("generate", generate, generate, sys.argv[1:], tensors=True)

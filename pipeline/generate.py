"""DVC stage `generate`: reports, probabilities and label maps for the test split."""

from __future__ import annotations

from pipeline.paths import GENERATED, MODELS, manifest
from pipeline.stage import Stage, run_stage


def generate(stage: Stage) -> None:
    """Write predictions.jsonl and the manifest of predicted label maps."""
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
    )
    stage.tracker.log(numbers, 0)


if __name__ == "__main__":
    run_stage("generate", generate, tensors=True)

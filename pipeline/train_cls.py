"""DVC stage `train_cls`: stage 2, the encoder learns what abnormalities look like."""

from __future__ import annotations

from pipeline.paths import MODELS, REPORTS, manifest
from pipeline.stage import Stage, run_stage


def classify(stage: Stage) -> None:
    """Train from the encoder of `train_seg`; write model folder, numbers, history."""
    from uvlm.evaluation.labeller import get_attribute_reader
    from uvlm.text.abnormalities import abnormality_names
    from uvlm.train.cls import train_cls

    read = None
    if stage.params.classifier.attributes:
        names = abnormality_names(stage.params)
        read = get_attribute_reader(stage.params.evaluate.labeller, names)[1]
    metrics = train_cls(
        stage.params,
        index=manifest("index"),
        preprocess=manifest("preprocess"),
        init=MODELS / "seg",
        out=MODELS / "cls",
        training=stage.training,
        read=read,
    )
    numbers = {name: v for name, v in metrics.items() if not name.startswith("threshold.")}
    stage.write_training(REPORTS / "train_cls", numbers)


if __name__ == "__main__":
    run_stage("train_cls", classify, live=True, tensors=True, processes=True)

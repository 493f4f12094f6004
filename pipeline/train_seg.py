"""DVC stage `train_seg`: stage 1, the U-Net learns where things are."""

from __future__ import annotations

from pipeline.paths import MODELS, REPORTS, manifest
from pipeline.stage import Stage, run_stage


def segment(stage: Stage) -> None:
    """Train on label maps; write the model folder, its validation numbers and the history."""
    from uvlm.train.seg import train_seg

    metrics = train_seg(
        stage.params,
        index=manifest("index"),
        preprocess=manifest("preprocess"),
        label_maps=manifest("label_maps"),
        out=MODELS / "seg",
        training=stage.training,
    )
    stage.write_training(REPORTS / "train_seg", metrics)


if __name__ == "__main__":
    run_stage("train_seg", segment, live=True, tensors=True, processes=True)

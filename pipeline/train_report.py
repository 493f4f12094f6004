"""DVC stage `train_report`: stage 3, the language decoder learns to write reports."""

from __future__ import annotations

from pipeline.paths import MODELS, REPORTS, manifest
from pipeline.stage import Stage, run_stage


def report(stage: Stage) -> None:
    """Train on encoded tokens; write a model folder that stands alone, numbers, history."""
    from uvlm.evaluation.labeller import get_attribute_reader, get_labeller
    from uvlm.text.abnormalities import abnormality_names
    from uvlm.text.deciding import DecidingWords
    from uvlm.train.report import train_report
    from uvlm.train.report_data import Readers, ReportPaths

    paths = ReportPaths(
        index=manifest("index"),
        encodings=manifest("encode"),
        tokenizer=MODELS / "tokenizer",
        seg=MODELS / "seg",
        cls=MODELS / "cls",
        preprocess=manifest("preprocess"),
    )
    names = abnormality_names(stage.params)
    labeller = get_labeller(stage.params.evaluate.labeller, names)
    kinds = ("rules", stage.params.evaluate.labeller)
    rules, used = (get_attribute_reader(kind, names)[1] for kind in kinds)
    metrics = train_report(
        stage.params,
        paths=paths,
        out=MODELS / "report",
        label=labeller.label,
        training=stage.training,
        readers=Readers(DecidingWords(rules, used), used),
    )
    stage.write_training(REPORTS / "train_report", metrics)


if __name__ == "__main__":
    run_stage("train_report", report, live=True, tensors=True, processes=True)

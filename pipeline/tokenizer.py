"""DVC stage `tokenizer`: a vocabulary learned from the training reports only."""

from __future__ import annotations

from pipeline.paths import MODELS, manifest
from pipeline.stage import Stage, run_stage
from uvlm.data.cases import read_index
from uvlm.data.leaks.fitted_on import write_fits
from uvlm.text.tokenizer import run


def tokenizer(stage: Stage) -> None:
    """Train on each scan's report once and save the tokenizer's folder."""
    cases = read_index(manifest("index"))
    texts = {case.scan_id: case.report.text for case in cases if case.split == "train"}
    run(stage.params.tokenizer, texts.values(), MODELS / "tokenizer")
    write_fits(MODELS / "tokenizer", {"tokenizer": {"train": texts}})


if __name__ == "__main__":
    run_stage("tokenizer", tokenizer)

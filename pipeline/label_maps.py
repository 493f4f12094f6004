"""DVC stage `label_maps`: pseudo-labels and lesions in one map per case, on the network's grid."""

from __future__ import annotations

from pipeline.paths import manifest
from pipeline.shares import make_all
from pipeline.stage import Stage, run_stage
from uvlm.config import LABEL_KINDS
from uvlm.data.labels.label_maps import LabelMaps, join


def merge(stage: Stage) -> None:
    """Merge what the store does not hold yet."""
    parts = {kind: manifest(f"pseudo_label_{kind}") for kind in LABEL_KINDS}
    maps = LabelMaps.of(stage.params)
    jobs, unannotated = join(maps.config, manifest("index"), manifest("preprocess"), parts)
    make_all(stage, maps, jobs, unannotated=unannotated)


if __name__ == "__main__":
    run_stage("label_maps", merge)

"""DVC stage `label_maps`: pseudo-labels and lesions in one map per case; see `shares`."""

from __future__ import annotations

import sys

from pipeline.paths import manifest
from pipeline.shares import make_all, make_share, run_or_share
from pipeline.stage import Stage
from uvlm.config import LABEL_KINDS
from uvlm.data.labels.label_maps import LabelMaps, join
from uvlm.store import Shard


def merge(stage: Stage, shard: Shard | None = None) -> None:
    """Merge what the store does not hold yet, or a share of it."""
    parts = {kind: manifest(f"pseudo_label_{kind}") for kind in LABEL_KINDS}
    maps = LabelMaps.of(stage.params)
    jobs, unannotated = join(maps.config, manifest("index"), manifest("preprocess"), parts)
    if shard is None:
        make_all(stage, maps, jobs, unannotated=unannotated)
    else:
        make_share(stage, maps, jobs, shard)


if __name__ == "__main__":
    run_or_share("label_maps", merge, merge, sys.argv[1:])

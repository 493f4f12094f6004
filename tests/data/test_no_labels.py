"""The backend `none`: a case without masks of a kind goes through, and nothing is painted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from uvlm.config import LabellerConfig, Params
from uvlm.data import index, label_maps, preprocess, pseudo_labels
from uvlm.data.pseudo_labels import KINDS
from uvlm.store import load_array, read_manifest, resolve

if TYPE_CHECKING:
    from tests.data.conftest import Dataset

LUNG, HEART, ARTERY = 10, 21, 34


def test_vessels_that_nobody_labelled_leave_the_anatomy_as_it_is(
    dataset: Dataset, params: Params
) -> None:
    none = LabellerConfig(backend="none")
    labellers = params.pseudo_label.model_copy(update={"airway": none, "vessel": none})
    params = params.model_copy(update={"pseudo_label": labellers})
    dataset.write()
    out = {name: dataset.root / f"{name}.jsonl" for name in (*KINDS, "volumes", "maps", "refused")}
    index.build(params, dataset.manifest, dataset.index, out["refused"])
    preprocess.run(params, dataset.index, out["volumes"], out["refused"])
    for kind in KINDS:
        pseudo_labels.run(kind, params, dataset.index, out[kind])
    parts = {kind: out[kind] for kind in KINDS}
    label_maps.run(params, dataset.index, out["volumes"], parts, out["maps"])

    for row in read_manifest(out["vessel"]):
        assert row.extra["backend"] == "none"
        assert not load_array(resolve(row, "pseudo_label@vessel"), row.sha256).any()
    rows = read_manifest(out["maps"])
    assert len(rows) == 11
    for row in rows:
        ids = set(np.unique(load_array(resolve(row, "label_maps"), row.sha256)))
        assert {LUNG, HEART} <= ids
        assert ARTERY not in ids

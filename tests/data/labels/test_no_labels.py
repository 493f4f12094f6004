"""The backend `none`: a case without masks of a kind goes through, and nothing is painted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.data.test_stages import ARTERY, HEART, LUNG
from uvlm.config import BackendConfig
from uvlm.store import load_array, read_manifest, resolve

if TYPE_CHECKING:
    from tests.data.conftest import Stages


def test_vessels_that_nobody_labelled_leave_the_anatomy_as_it_is(stages: Stages) -> None:
    none = BackendConfig(backend="none")
    labellers = stages.params.pseudo_label.model_copy(update={"airway": none, "vessel": none})
    stages.params = stages.params.model_copy(update={"pseudo_label": labellers})
    stages.all()
    for row in read_manifest(stages.manifest("vessel")):
        assert row.extra["backend"] == "none"
        assert not load_array(resolve(row, "pseudo_label@vessel"), row.sha256).any()
    rows = read_manifest(stages.manifest("label_maps"))
    assert len(rows) == 11
    for row in rows:
        ids = set(np.unique(load_array(resolve(row, "label_maps"), row.sha256)))
        assert {LUNG, HEART} <= ids
        assert ARTERY not in ids

"""The set on disk: CT-RATE's layout, read by its adapter, and label maps that hold the findings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.profiles import compose
from tests.data.conftest import Stages
from tests.data.sets.conftest import never
from uvlm.config import parse_params
from uvlm.data.sets.catalogue import choose_set
from uvlm.evaluation.labeller import get_labeller
from uvlm.store import load_array, read_manifest, resolve
from uvlm.text.report import Report

FIRST_LESION = 35


@pytest.fixture(scope="module", params=["longtail", "longtail_shifted"])
def made(
    request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Stages:
    """Every data stage over a few patients, as the profile has them."""
    document = compose(root, request.param)
    document["download"]["longtail"] |= {"train_patients": 4, "test_patients": 3}
    document["index"] |= {"val_fraction": 0.3, "max_quarantined_share": 0.5}
    params, folder = parse_params(document, request.param), tmp_path_factory.mktemp("longtail")
    stages = Stages(params, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UVLM_DATA_ROOT", str(folder / "store"))
        patch.setenv("UVLM_WORKERS", "1")
        choose_set(params).fetch(stages.manifest("download"), never)
        stages.all()
    return stages


@pytest.fixture
def stages(made: Stages, monkeypatch: pytest.MonkeyPatch) -> Stages:
    monkeypatch.setenv("UVLM_DATA_ROOT", str(made.root / "store"))
    monkeypatch.setenv("UVLM_WORKERS", "1")
    return made


@pytest.mark.slow
def test_what_is_planted_in_a_case_is_in_its_table_its_report_and_its_label_map(
    stages: Stages,
) -> None:
    cases = stages.cases()
    flags = np.array([case.abnormalities for case in cases])
    texts = [Report(case.findings, case.impression).text for case in cases]
    for labeller in ("longtail", "rules"):
        np.testing.assert_array_equal(get_labeller(labeller).label(texts), flags)
    arrays = {
        row.case: load_array(resolve(row, "label_maps"))
        for row in read_manifest(stages.manifest("label_maps"))
    }
    # Two of the planted defects are found only when the CT is read, after the index.
    with_mask = {case.case_id for case in cases if case.findings_mask} & arrays.keys()
    assert len(with_mask) >= 4
    drawn = {case for case, array in arrays.items() if (array >= FIRST_LESION).any()}
    # A case whose only finding is a voxel may lose it to the network's coarser grid.
    assert drawn <= with_mask
    assert len(drawn) >= 0.8 * len(with_mask)


def test_only_the_planted_defects_are_refused(stages: Stages) -> None:
    reasons = set(stages.reasons("index").values())
    assert reasons == {"duplicate_id", "empty_report", "no_chest"}
    assert len(set(stages.reasons("preprocess").values())) == 2  # cut short, and not a number


def test_a_second_call_writes_nothing(stages: Stages, tmp_path: Path) -> None:
    manifest = stages.manifest("download")
    volume = resolve(next(r for r in read_manifest(manifest) if "valid_1" in r.case), "download")
    before = volume.stat().st_mtime_ns
    choose_set(stages.params).fetch(tmp_path / "again.jsonl", never)
    assert volume.stat().st_mtime_ns == before
    assert (tmp_path / "again.jsonl").read_bytes() == manifest.read_bytes()

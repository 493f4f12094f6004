"""What a download will bring, said from tables alone, against what it then brings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.profiles import compose
from tests.data.sets.conftest import never, publish
from tests.data.sets.hub.server import FakeHub
from uvlm.config import CtRateConfig, parse_params
from uvlm.data.sets.ct_rate.dataset import CtRate
from uvlm.data.sets.hub import Hub
from uvlm.data.sets.survey import ASKED_OF_A_KIND, kind_of, spread
from uvlm.store import rows_by_case

if TYPE_CHECKING:
    from tests.data.conftest import Dataset


def config(root: Path) -> CtRateConfig:
    found = parse_params(compose(root, "chest"), "chest").download.ct_rate
    assert found is not None
    return found


@pytest.mark.slow
def test_the_survey_names_what_the_download_then_brings_and_fetches_no_ct(
    root: Path, dataset: Dataset, fake: FakeHub, hub: Hub
) -> None:
    dataset.without_findings_mask = {"train_1_a_1", "train_2_a_1"}
    publish(dataset, fake)
    chest = CtRate(config(root), 0, hub)
    fake.requests.clear()
    survey = chest.survey()
    assert not [path for _, path, _ in fake.requests if "resolve" in path and ".nii.gz" in path]

    chest.fetch(dataset.manifest, never)
    files = rows_by_case(dataset.manifest)
    cases, _ = chest.cases(files)
    assert {e.case_id: e.split for e in survey.cases} == {c.case_id: c.split for c in cases}
    assert {e.case_id for e in survey.cases if e.is_drawn} == {
        case.case_id for case in cases if case.findings_mask is not None
    }
    assert {e.case_id: tuple(e.flags) for e in survey.cases} == {
        case.case_id: case.abnormalities for case in cases
    }
    fetched = {"volumes": "_fixed/", "anatomy masks": "ts_seg/", "findings masks": "segmentations/"}
    contents = [c for files_ in fake.others.values() for c in files_.items()]
    for kind in survey.files:
        paths = [path for path in files if fetched[kind.name] in path]
        if kind.name == "volumes":
            paths = [path for path in paths if "ts_seg" not in path]
        assert kind.count == len(paths), kind.name
        named = {path.partition("/")[2] for path in paths}
        assert kind.num_bytes == sum(len(content) for path, content in contents if path in named)


@pytest.mark.slow
def test_the_largest_grid_is_that_of_the_metadata(
    root: Path, dataset: Dataset, fake: FakeHub, hub: Hub
) -> None:
    publish(dataset, fake)
    assert CtRate(config(root), 0, hub).survey().largest == (10, 12, 14)


def test_a_sum_over_a_sample_is_scaled_and_called_an_estimate() -> None:
    paths = [str(n) for n in range(10 * ASKED_OF_A_KIND)]
    asked = spread(paths)
    assert len(set(asked)) == ASKED_OF_A_KIND
    assert max(map(int, asked)) > 9 * ASKED_OF_A_KIND
    kind = kind_of("volumes", len(paths), [7] * len(asked))
    assert kind.num_bytes == 7 * len(paths)
    assert kind.is_estimate
    assert not kind_of("volumes", 3, [1, 2, 3]).is_estimate

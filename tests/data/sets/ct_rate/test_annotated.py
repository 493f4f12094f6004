"""What is fetched because somebody has drawn the findings of a case, and what is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.data.sets.conftest import never, publish
from tests.data.sets.ct_rate.test_fetch import ALL, build, fetched
from tests.data.sets.hub.server import FakeHub
from uvlm.config import CtRateConfig, MappedCases, Params
from uvlm.data.cases import mapped_cases, read_index
from uvlm.data.sets.ct_rate.dataset import CtRate
from uvlm.data.sets.hub import Hub

if TYPE_CHECKING:
    from tests.data.conftest import Dataset

CHEST, REX = "ibrahimhamamci/CT-RATE", "rajpurkarlab/ReXGroundingCT"
Fetch = Callable[..., None]


@pytest.fixture
def fetch(dataset: Dataset, fake: FakeHub, hub: Hub) -> Fetch:
    """Fetch what a test has published."""

    def run(cases: MappedCases = "all", **changed: Any) -> None:
        fake.requests.clear()
        data_set = CtRate(CtRateConfig(**(ALL | changed)), 0, hub).for_label_maps(cases)
        data_set.fetch(dataset.manifest, never)

    return run


def anatomy_masks(fake: FakeHub) -> set[str]:
    paths = [path for _, path, _ in fake.requests if "/resolve/" in path and "ts_total" in path]
    return {Path(path).name.removesuffix(".nii.gz") for path in paths}


def draw_the_second_reconstruction(dataset: Dataset, fake: FakeHub, part: str) -> None:
    """Give train_1_a a second volume, and move its findings mask there, into a part of that set."""
    dataset.reports["train_1_a_2"] = dataset.reports["train_1_a_1"]
    dataset.labels["train_1_a_2"] = dataset.labels["train_1_a_1"]
    publish(dataset, fake)
    files, drawn = fake.others[CHEST], fake.others[REX]
    for path in [p for p in files if p.endswith("train_1_a_1.nii.gz")]:
        files[path.replace("a_1.nii.gz", "a_2.nii.gz")] = files[path]
    drawn["segmentations/train_1_a_2.nii.gz"] = drawn.pop("segmentations/train_1_a_1.nii.gz")
    table = json.loads(drawn["dataset.json"])
    (entry,) = (e for e in table["train"] if e["name"] == "train_1_a_1.nii.gz")
    table["train"].remove(entry)
    table[part].append(entry | {"name": "train_1_a_2.nii.gz"})
    drawn["dataset.json"] = json.dumps(table).encode()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reconstructions", "part", "taken"),
    [
        ("all", "train", {"train_1_a_1", "train_1_a_2"}),
        ("first", "train", {"train_1_a_1"}),
        ("annotated_first", "train", {"train_1_a_2"}),
        ("annotated_first", "val", {"train_1_a_1"}),  # that mask never teaches
    ],
)
def test_the_volume_of_a_scan_is_the_one_whose_findings_are_drawn(
    reconstructions: str,
    part: str,
    taken: set[str],
    dataset: Dataset,
    params: Params,
    fetch: Fetch,
    fake: FakeHub,
) -> None:
    draw_the_second_reconstruction(dataset, fake, part)
    fetch(reconstructions=reconstructions)
    assert {case for case in fetched(fake) if case.startswith("train_1_")} == taken
    summary, _ = build(dataset, params)
    assert summary.patients == 11
    assert summary.annotated == (11 if taken & {"train_1_a_2"} and part == "train" else 10)


@pytest.mark.slow
def test_without_findings_masks_the_first_volume_is_taken(
    dataset: Dataset, fetch: Fetch, fake: FakeHub
) -> None:
    draw_the_second_reconstruction(dataset, fake, "train")
    fetch(reconstructions="annotated_first", findings_masks=False)
    assert {c for c in fetched(fake) if c.startswith("train_1_")} == {"train_1_a_1"}


@pytest.mark.slow
@pytest.mark.parametrize("cases", ["annotated", "annotated_and_normal", "all"])
def test_anatomy_is_fetched_for_exactly_the_cases_that_get_a_label_map(
    cases: MappedCases, dataset: Dataset, params: Params, fetch: Fetch, fake: FakeHub
) -> None:
    """The rule before the download and the rule after the index agree, however each counts."""
    dataset.without_findings_mask |= {"train_1", "train_2", "valid_1"}
    dataset.labels["train_1_a_1"] = [["0"] * 18]
    dataset.labels["train_2_a_1"] = [["0"] * 17 + ["1"]]
    publish(dataset, fake)
    fetch(cases)
    build(dataset, params)
    section = params.label_maps.model_copy(update={"cases": cases})
    mapped = {case.case_id for case in mapped_cases(read_index(dataset.index), section)}
    assert anatomy_masks(fake) == mapped
    sizes = {"annotated": 8, "annotated_and_normal": 9, "all": 11}
    assert len(mapped) == sizes[cases]
    assert len(fetched(fake)) == 11

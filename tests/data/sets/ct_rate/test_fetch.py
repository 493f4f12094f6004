"""CT-RATE and ReXGroundingCT fetched from a hub and indexed: nothing more, nothing less."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.data.sets.conftest import never, publish
from tests.data.sets.hub.server import COMMIT, FakeHub, sha256
from uvlm.config import CtRateConfig, Params
from uvlm.data import index
from uvlm.data.cases import read_index
from uvlm.data.index import IndexSummary
from uvlm.data.sets import selection as exclusions
from uvlm.data.sets.ct_rate.cases import mask_path
from uvlm.data.sets.ct_rate.dataset import CtRate
from uvlm.data.sets.hub import Hub
from uvlm.errors import ConfigError, DataError
from uvlm.files import store_root
from uvlm.store import read_manifest, verify

if TYPE_CHECKING:
    from tests.data.conftest import Dataset

Fetch = Callable[..., None]
ALL: dict[str, Any] = {
    "revision": "main",
    "rexgrounding_revision": "main",
    "train": None,
    "test": None,
    "exclude": (),
    "reconstructions": "all",
    "anatomy_masks": True,
    "findings_masks": True,
    "keep_raw": "all",
}


@pytest.fixture
def fetch(dataset: Dataset, fake: FakeHub, hub: Hub) -> Fetch:
    """Publish the data set and fetch it with some parameters changed."""

    def run(*, again: bool = False, **changed: Any) -> None:
        if not again:
            publish(dataset, fake)
        fake.requests.clear()
        CtRate(CtRateConfig(**(ALL | changed)), 0, hub).fetch(dataset.manifest, never)

    return run


def build(dataset: Dataset, params: Params) -> tuple[IndexSummary, dict[str, str]]:
    """Index what was fetched; gives the summary and the reason by quarantined case."""
    quarantine = dataset.root / "q.jsonl"
    summary = index.build(params, dataset.manifest, dataset.index, quarantine)
    refused = [json.loads(line) for line in quarantine.read_text().splitlines() if line]
    return summary, {entry["case"]: entry["reason"] for entry in refused}


def fetched(fake: FakeHub) -> set[str]:
    """Names of the volumes that were asked for."""
    paths = [path for _, path, _ in fake.requests if "/resolve/" in path and "_fixed/" in path]
    return {Path(path).name.removesuffix(".nii.gz") for path in paths if "ts_seg" not in path}


@pytest.mark.slow
def test_what_was_fetched_is_indexed_like_the_same_set_on_disk(
    dataset: Dataset, params: Params, fetch: Fetch, fake: FakeHub
) -> None:
    fetch()
    summary, refused = build(dataset, params)
    assert refused == {}
    assert summary.kept == {"train": 6, "val": 2, "test": 3}
    assert summary.annotated == 11
    assert verify(store_root(), [dataset.manifest]).problems == ()
    for case in read_index(dataset.index):
        assert case.sha256 == sha256((store_root() / case.volume).read_bytes())
        assert case.source == f"hub:ibrahimhamamci/CT-RATE@{COMMIT}"
        assert (store_root() / mask_path(case, "total")).is_file()
        assert set(case.mask_sha256) == {"total", "findings"}
    assert fake.counted("/tree/") == 0
    names = [row.case for row in read_manifest(dataset.manifest)]
    assert len(names) == 8 + 1 + 1 + 3 * 11  # tables, JSON, record; volumes and two masks each


@pytest.mark.slow
def test_volumes_that_are_left_out_by_design_are_not_fetched_and_counted(
    dataset: Dataset, params: Params, fetch: Fetch, fake: FakeHub
) -> None:
    dataset.no_chest.append("train_2_a_1")
    for case in ("train_11755_a_3", "train_14384_a_2"):
        dataset.reports[case] = [["", "", "Clear.", ""]]
        dataset.labels[case] = dataset.labels["train_1_a_1"]
    fetch(exclude=("train_4_a", "dataset/valid_fixed/valid_1/valid_1_a/valid_1_a_1.nii.gz"))
    summary, refused = build(dataset, params)
    assert refused == {
        "train_2_a_1": "no_chest",
        "train_11755_a_3": "nan_spacing",
        "train_14384_a_2": "not_on_hub",
        "train_4_a_1": "excluded",
        "valid_1_a_1": "excluded",
    }
    assert fetched(fake).isdisjoint(refused)
    assert summary.candidates == sum(summary.kept.values()) + sum(summary.refused.values()) == 13


@pytest.mark.slow
def test_fewer_patients_are_the_first_of_more_and_the_rest_is_counted(
    dataset: Dataset, params: Params, fetch: Fetch, fake: FakeHub
) -> None:
    fetch(train=4, test=1)
    few = fetched(fake)
    summary, refused = build(dataset, params)
    assert summary.kept == {"train": 3, "val": 1, "test": 1}
    assert summary.refused == {"not_selected": 6}
    assert refused == {}  # counted, not listed: with 100 of 20,000 patients it would be long
    fetch(again=True, train=6, test=2)
    assert fetched(fake).isdisjoint(few)
    assert len(fetched(fake)) == 3
    summary, _ = build(dataset, params)
    assert sum(summary.kept.values()) == 8


@pytest.mark.slow
def test_patients_can_be_named(dataset: Dataset, fetch: Fetch, fake: FakeHub) -> None:
    fetch(train=("train_3", "train_5"), test=("valid_2",))
    assert fetched(fake) == {"train_3_a_1", "train_5_a_1", "valid_2_a_1"}
    with pytest.raises(ConfigError, match=r"download.ct_rate.train: train_99 is not a patient"):
        fetch(train=("train_99",))
    with pytest.raises(ConfigError, match="exclude: trian_3 matches no volume"):
        fetch(exclude=("trian_3",))


@pytest.mark.slow
def test_one_reconstruction_a_scan_is_the_first_that_can_be_used(
    dataset: Dataset, params: Params, fetch: Fetch, fake: FakeHub
) -> None:
    for case, volume in (("train_1_a_2", "train_1_a_1"), ("train_1_b_1", "train_1_a_1")):
        dataset.reports[case] = dataset.reports[volume]
        dataset.labels[case] = dataset.labels[volume]
    dataset.no_chest.append("train_1_a_1")
    publish(dataset, fake)
    folder = "dataset/{}train_fixed/train_1/train_1_{}/train_1_{}.nii.gz"
    files = fake.others["ibrahimhamamci/CT-RATE"]
    for part in ("", "ts_seg/ts_total/"):
        content = files[folder.format(part, "a", "a_1")]
        files[folder.format(part, "a", "a_2")] = files[folder.format(part, "b", "b_1")] = content
    fetch(again=True, reconstructions="first")
    assert {case for case in fetched(fake) if case.startswith("train_1_")} == {
        "train_1_a_2",
        "train_1_b_1",
    }


@pytest.mark.slow
def test_a_volume_that_the_hub_lacks_is_a_failure_until_it_is_there(
    dataset: Dataset, params: Params, fetch: Fetch, fake: FakeHub
) -> None:
    publish(dataset, fake)
    path = "dataset/train_fixed/train_3/train_3_a/train_3_a_1.nii.gz"
    content = fake.others["ibrahimhamamci/CT-RATE"].pop(path)
    before = dataset.manifest.read_bytes()
    with pytest.raises(DataError, match=f"1 wanted files are not on the hub: {path}"):
        fetch(again=True)
    assert dataset.manifest.read_bytes() == before
    fake.others["ibrahimhamamci/CT-RATE"][path] = content
    fetch(again=True)
    assert sum(build(dataset, params)[0].kept.values()) == 11


@pytest.mark.slow
def test_a_second_run_needs_no_network_and_writes_the_same_manifest(
    dataset: Dataset, fetch: Fetch, fake: FakeHub
) -> None:
    fetch()
    first = dataset.manifest.read_bytes()
    fake.fault, fake.times = "503", -1
    fetch(again=True)
    assert fake.requests == []
    assert dataset.manifest.read_bytes() == first
    assert str(dataset.root).encode() not in first


@pytest.mark.slow
def test_masks_are_optional(dataset: Dataset, params: Params, fetch: Fetch, fake: FakeHub) -> None:
    fetch(anatomy_masks=False, findings_masks=False)
    assert fake.counted("ts_seg") == fake.counted("ReXGroundingCT") == 0
    assert build(dataset, params)[0].annotated == 0


RATE, REX = "ibrahimhamamci/CT-RATE", "rajpurkarlab/ReXGroundingCT"
DAMAGE = {
    "reports": ("radiology_text_reports/train_reports.csv", b"Findings_EN", b"Findings_TR"),
    "labels, column": ("multi_abnormality_labels/valid_predicted_labels.csv", b"Emph", b"Emp"),
    "labels, row": ("multi_abnormality_labels/train_predicted_labels.csv", b"\n", b",1\n0"),
    "metadata": ("metadata/train_metadata.csv", b"ZSpacing", b"Spacing"),
    "metadata, cut off": ("metadata/validation_metadata.csv", b'"[7.0, 7.0]"', b'"[7.0, 7.0]'),
    "no chest": ("metadata/no_chest_valid.txt", b"", b"\0"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DAMAGE)
def test_a_broken_table_stops_before_any_volume_is_fetched(
    dataset: Dataset, fetch: Fetch, fake: FakeHub, name: str
) -> None:
    publish(dataset, fake)
    path, good, bad = DAMAGE[name]
    files, path = fake.others[RATE], f"dataset/{path}"
    files[path] = files[path].replace(good, bad)
    before = dataset.manifest.read_bytes()
    with pytest.raises(DataError, match=Path(path).name):
        fetch(again=True)
    assert fetched(fake) == set()
    assert dataset.manifest.read_bytes() == before


@pytest.mark.slow
def test_a_broken_table_of_findings_stops_before_any_volume_is_fetched(
    dataset: Dataset, fetch: Fetch, fake: FakeHub
) -> None:
    publish(dataset, fake)
    fake.others[REX]["dataset.json"] = b'{"train": [null], "val": [], "test": []}'
    with pytest.raises(DataError, match=r"dataset.json: train\[0\] has no name"):
        fetch(again=True)
    assert fetched(fake) == set()


@pytest.mark.slow
def test_tables_of_other_volumes_stop_before_any_volume_is_fetched(
    dataset: Dataset, fetch: Fetch, fake: FakeHub
) -> None:
    publish(dataset, fake)
    for part in ("train", "valid"):
        path = f"dataset/multi_abnormality_labels/{part}_predicted_labels.csv"
        header = fake.others[RATE][path].split(b"\n")[0]
        fake.others[RATE][path] = header + b"\n"
    with pytest.raises(DataError, match="none of the 11 wanted volumes has a row with all labels"):
        fetch(again=True)
    assert fetched(fake) == set()


WITHHELD: dict[str, dict[str, Any]] = {
    "names only": {},
    "names and findings": {"findings": {"0": "A nodule.", "1": "A consolidation."}},
    "everything but masks": {"findings": {"0": "A nodule."}, "categories": {"0": "2d"}},
    "nulls": {"findings": None, "categories": None, "shape": None},
}


@pytest.mark.slow
@pytest.mark.parametrize("form", WITHHELD)
@pytest.mark.parametrize("split", ["val", "test"])
def test_a_part_that_withholds_its_masks_does_not_stop_the_download(
    dataset: Dataset, params: Params, fetch: Fetch, fake: FakeHub, form: str, split: str
) -> None:
    publish(dataset, fake)
    rex = fake.others[REX]
    table = json.loads(rex["dataset.json"])
    held_out = table["train"].pop()["name"]
    table[split] = [{"name": held_out, **WITHHELD[form]}]
    rex["dataset.json"] = json.dumps(table).encode()
    del rex[f"segmentations/{held_out}"]
    fetch(again=True)
    summary, refused = build(dataset, params)
    assert refused == {}
    assert (sum(summary.kept.values()), summary.annotated) == (11, 10)
    fake.fault, fake.times = "503", -1
    fetch(again=True)  # what is absent from a commit is not asked for twice
    assert fake.requests == []


@pytest.mark.slow
def test_a_mask_of_the_training_part_that_the_hub_lacks_is_a_failure(
    dataset: Dataset, fetch: Fetch, fake: FakeHub
) -> None:
    publish(dataset, fake)
    del fake.others[REX]["segmentations/train_3_a_1.nii.gz"]
    with pytest.raises(DataError, match="1 wanted files are not on the hub: segmentations/train_3"):
        fetch(again=True)


def test_every_documented_exclusion_has_a_reason_that_is_explained() -> None:
    known = exclusions.documented("ct_rate")
    assert set(known.values()) <= set(exclusions.EXCLUSIONS)
    assert len(known) == 5

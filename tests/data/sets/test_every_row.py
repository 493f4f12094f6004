"""Every row of every table of every set has an end, counted from outside; a lost one stops."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.profiles import compose
from tests.data.sets.abdomen_atlas.test_fetch import IDS, published
from tests.data.sets.conftest import never
from tests.data.sets.ct_rate.test_fetch import ALL
from tests.data.sets.hub.server import COMMIT, FakeHub
from uvlm.config import AbdomenAtlasConfig, CtRateConfig, FolderConfig, Params, parse_params
from uvlm.data import index
from uvlm.data.cases import Case, read_index
from uvlm.data.sets.abdomen_atlas.dataset import AbdomenAtlas
from uvlm.data.sets.abdomen_atlas.layout import REPO, TABLE, TRAIN_IDS
from uvlm.data.sets.catalogue import SETS, choose_set
from uvlm.data.sets.hub import Hub
from uvlm.errors import ConfigError, DataError
from uvlm.store import Refusal, Row, resolve, rows_by_case

if TYPE_CHECKING:
    from tests.data.conftest import Dataset
    from tests.data.sets.own.folder import Own

Ends = tuple[list[Case], list[Refusal]]


@dataclass
class Downloaded:
    """A set as `download` leaves it, with one row in its tables that is refused."""

    params: Params
    manifest: Path
    num_cts: int

    def use(self, source: str, section: object) -> None:
        download = self.params.download.model_copy(update={"source": source, source: section})
        self.params = self.params.model_copy(update={"download": download})

    @property
    def out(self) -> Path:
        return self.manifest.with_name("index.jsonl")

    @property
    def files(self) -> dict[str, Row]:
        return rows_by_case(self.manifest)

    def build(self) -> index.IndexSummary:
        return index.build(self.params, self.manifest, self.out, self.out.with_name("q.jsonl"))

    def change_cases(self, monkeypatch: pytest.MonkeyPatch, change: Callable[[Ends], Ends]) -> None:
        """Let the set's adapter give other ends than it does."""
        adapter: Any = type(choose_set(self.params))
        honest = adapter.cases
        monkeypatch.setattr(adapter, "cases", lambda self, files: change(honest(self, files)))


def in_ct_rates_layout(dataset: Dataset, params: Params) -> Downloaded:
    dataset.labels["train_4_a_1"][0][2] = "unknown"
    dataset.reports["train_5_a_1"] *= 2
    dataset.write()
    return Downloaded(params, dataset.manifest, 11)


def of_the_atlas(
    params: Params, tmp_path: Path, fake: FakeHub, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> Downloaded:
    monkeypatch.setenv("UVLM_DATA_ROOT", str(tmp_path / "store"))
    files = published()
    files[TABLE] += f"\nBDMAP_1,0,0,0,a,b\n{IDS[2]},0,0,0,again,again".encode()
    files[TRAIN_IDS] += b"\nBDMAP_00000077"
    fake.others = {REPO: files}
    section = AbdomenAtlasConfig(
        revision=COMMIT, train=None, test=None, exclude=(), report="structured", masks=True
    )
    downloaded = Downloaded(params, tmp_path / "download.jsonl", 7)
    downloaded.use("abdomen_atlas", section)
    AbdomenAtlas(section, 0, hub).fetch(downloaded.manifest, never)
    return downloaded


def of_a_person(own: Own) -> Downloaded:
    rows = [[f"p{n}", "A nodule." if n % 2 else f"Clear {n}."] for n in range(8)]
    own.table(["id", "report"], [*rows, [" ", "No id."], ["p7.nii.gz", "Again."], ["p9", ""]])
    own.fetch()
    downloaded = Downloaded(own.params, own.manifest, 7)
    downloaded.use("folder", FolderConfig(**own.settings))
    return downloaded


def section_of(profile: str) -> object:
    """The section of a data set that has a profile of its name."""
    return parse_params(compose(Path(__file__).parents[3], profile), profile).download.section


@pytest.fixture(params=sorted(SETS))
def downloaded(request: pytest.FixtureRequest, params: Params) -> Downloaded:
    get = request.getfixturevalue
    match request.param:
        case "abdomen_atlas" | "phantom_abdomen" as source:
            places = (get(name) for name in ("tmp_path", "fake", "hub", "monkeypatch"))
            atlas = of_the_atlas(params, *places)
            if source != "abdomen_atlas":
                atlas.use(source, section_of(source))
            return atlas
        case "folder":
            return of_a_person(get("own"))
        case source:
            found = in_ct_rates_layout(get("dataset"), params)
            section = CtRateConfig(**ALL) if source == "ct_rate" else section_of(source)
            found.use(source, section)
            return found


@pytest.mark.slow
def test_every_row_of_every_table_and_every_ct_is_counted(downloaded: Downloaded) -> None:
    summary = downloaded.build()
    counted = {account.name: account for account in summary.accounts}
    rows_by_table = {}
    for path, row in downloaded.files.items():
        if path.endswith(".csv"):
            with resolve(row, "download").open(encoding="utf-8", newline="") as file:
                rows_by_table[Path(path).name] = len(list(csv.reader(file))) - 1
    own = {"table.csv": "reports.csv"}  # as the person calls it
    for name, rows in rows_by_table.items():
        account = counted[own.get(name, name)]
        assert account.rows == rows == account.kept + sum(account.excluded.values())
    assert len(rows_by_table) >= 2
    assert counted["volume files"].rows == downloaded.num_cts
    assert sum(counted["cases"].excluded.values()) == sum(summary.refused.values()) > 0


@pytest.mark.slow
def test_a_case_that_an_adapter_loses_stops_the_index(
    downloaded: Downloaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloaded.build()
    lost = read_index(downloaded.out)[-1].case_id
    downloaded.out.unlink()
    downloaded.change_cases(
        monkeypatch, lambda ends: ([case for case in ends[0] if case.case_id != lost], ends[1])
    )
    with pytest.raises(DataError, match=f"the row of '{lost}' is neither kept nor excluded"):
        downloaded.build()
    assert not downloaded.out.exists()


@pytest.mark.slow
def test_a_refusal_that_an_adapter_loses_stops_the_index(
    downloaded: Downloaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, refusals = choose_set(downloaded.params).cases(downloaded.files)
    lost = refusals[0].case
    assert "#" not in lost
    downloaded.change_cases(
        monkeypatch, lambda ends: (ends[0], [end for end in ends[1] if end.case != lost])
    )
    with pytest.raises(DataError, match=r"the row of .* is neither kept nor excluded") as caught:
        downloaded.build()
    assert repr(lost) in caught.value.fact


@pytest.mark.slow
def test_an_id_that_only_a_list_of_the_atlas_or_a_ct_has_is_refused_by_name(
    params: Params, tmp_path: Path, fake: FakeHub, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    atlas = of_the_atlas(params, tmp_path, fake, hub, monkeypatch)
    assert atlas.build().refused == {"bad_id": 1, "duplicate_id": 1, "not_selected": 1}
    rows = [json.loads(line) for line in atlas.manifest.read_text().splitlines()]
    rows = [row for row in rows if row["case"] != "selection.json"]
    strange = next(row for row in rows if row["case"].endswith(f"{IDS[0]}/ct.nii.gz"))
    rows.append(strange | {"case": strange["case"].replace(IDS[0], "BDMAP_00000088")})
    atlas.manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert atlas.build().refused == {"bad_id": 1, "duplicate_id": 1, "no_reports": 2}


def test_a_bad_row_of_labels_beside_a_good_one_refuses_the_volume(
    dataset: Dataset, params: Params
) -> None:
    good = dataset.labels["train_2_a_1"][0]
    dataset.labels["train_2_a_1"].append(["unknown", *good[1:]])
    dataset.write()
    summary = Downloaded(params, dataset.manifest, 11).build()
    assert summary.refused == {"bad_label": 1}
    labels = {a.name: a for a in summary.accounts}["train_predicted_labels.csv"]
    assert (labels.rows, labels.excluded) == (9, {"bad_label": 2})


def test_the_published_rows_of_abdomenatlas_are_all_counted_by_name(
    real_data: Path, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVLM_DATA_ROOT", str(real_data))
    name = "reports/abdomenatlas_radiologist_labels.csv"
    atlas = Downloaded(params, tmp_path / "download.jsonl", 0)
    atlas.use("abdomen_atlas", None)
    found = choose_set(atlas.params).rows_by_table({name: Row(name, "", name, "", "")})
    ids = found["abdomenatlas_radiologist_labels.csv"]
    assert len(ids) == len(set(ids)) == 3623
    assert found["volume files"] == []


@pytest.mark.slow
def test_a_source_that_is_no_set_is_refused_with_those_there_are(root: Path) -> None:
    document = compose(root, "phantom")
    document["download"]["source"] = "mri"
    there = "source is mri but the section mri is missing; there is a section for phantom"
    with pytest.raises(ConfigError, match=there):
        parse_params(document, "params.yaml")
    document["download"]["mri"] = {"coils": 8}
    with pytest.raises(ConfigError, match="there is no data set mri; use phantom, ct_rate, abdo"):
        choose_set(parse_params(document, "params.yaml"))
    document["download"] = compose(root, "phantom")["download"] | {"other": {"coils": 8}}
    with pytest.raises(ConfigError, match="other does nothing while source is phantom"):
        parse_params(document, "params.yaml")

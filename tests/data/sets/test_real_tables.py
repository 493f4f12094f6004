"""The published tables themselves: every row is accounted for, and broken tables are refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.data.sets.conftest import never, publish
from tests.data.sets.ct_rate.test_fetch import ALL
from tests.data.sets.hub.server import FakeHub
from uvlm.config import CtRateConfig, FolderConfig, Params
from uvlm.data import index
from uvlm.data.cases import read_index
from uvlm.data.sets.abdomen_atlas.layout import is_id
from uvlm.data.sets.abdomen_atlas.tables import read_atlas
from uvlm.data.sets.ct_rate.dataset import CtRate
from uvlm.data.sets.ct_rate.layout import parse_id
from uvlm.data.sets.ct_rate.tables import read_labels, read_metadata, read_reports
from uvlm.data.sets.hub import Hub
from uvlm.data.sets.own.table import read_own_table
from uvlm.data.sets.selection import documented
from uvlm.errors import DataError
from uvlm.tables import read_table
from uvlm.text.report import Report

if TYPE_CHECKING:
    from tests.data.conftest import Dataset


def test_the_validation_metadata_is_3039_volumes_of_1564_scans_of_1304_patients(
    real_data: Path,
) -> None:
    rows, bad = read_metadata(real_data / "reports/ct_rate_validation_metadata.csv")
    assert (len(rows), bad) == (3039, [])
    names = [name for row in rows if (name := parse_id(row.case_id))]
    assert len(names) == 3039
    assert [name.case_id for name in names] == [row.case_id for row in rows]
    assert len({name.scan_id for name in names}) == 1564
    assert len({name.patient_id for name in names}) == 1304
    assert {name.part for name in names} == {"valid"}


def test_what_the_metadata_says_about_the_scanners_is_read_right(real_data: Path) -> None:
    rows, _ = read_metadata(real_data / "reports/ct_rate_validation_metadata.csv")
    first = rows[0]
    assert (first.case_id, first.shape) == ("valid_1_a_1", (251, 1024, 1024))
    assert first.spacing == (1.5, 0.341796875, 0.341796875)
    assert (first.sex, first.age_years, first.kernel) == ("M", 36, "YA")
    assert Counter(row.rescale_intercept for row in rows) == {-1024.0: 2189, -8192.0: 850}
    assert Counter(row.shape[1:] for row in rows) == {
        (512, 512): 1976,
        (1024, 1024): 938,
        (768, 768): 125,
    }
    assert (min(r.shape[0] for r in rows), max(r.shape[0] for r in rows)) == (100, 1617)
    assert sum(row.age_years is None for row in rows) == 2
    assert len({"valid_251_a_2"} & {row.case_id for row in rows}) == 1
    assert documented("ct_rate")["valid_251_a_2"] == "not_on_hub"


def test_1564_reports_join_1564_scans_without_an_orphan_on_either_side(real_data: Path) -> None:
    metadata, _ = read_metadata(real_data / "reports/ct_rate_validation_metadata.csv")
    reports = read_reports(real_data / "reports/ct_rate_validation_reports.csv")
    scans = {name.scan_id for row in metadata if (name := parse_id(row.case_id))}
    named = Counter(row.case_id for row in reports)
    assert len(reports) == 1564
    assert set(named.values()) == {1}
    assert named.keys() - scans == scans - named.keys() == set()
    texts = [Report(row.findings, row.impression) for row in reports]
    assert sum(text.is_empty for text in texts) == 0
    assert sum(not text.impression for text in texts) == 44  # "Not given."


@pytest.mark.slow
def test_the_real_validation_part_is_fetched_by_name_and_every_row_accounted_for(
    real_data: Path,
    dataset: Dataset,
    params: Params,
    fake: FakeHub,
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UVLM_WORKERS", "4")
    metadata, _ = read_metadata(real_data / "reports/ct_rate_validation_metadata.csv")
    reports = read_reports(real_data / "reports/ct_rate_validation_reports.csv")
    text_by_scan = {row.case_id: [["", "", row.findings, row.impression]] for row in reports}
    names = [name for row in metadata if (name := parse_id(row.case_id))]
    dataset.patients = [f"train_{number}" for number in range(1, 9)]
    dataset.reports = {k: v for k, v in dataset.reports.items() if k.startswith("train")}
    dataset.reports |= {name.case_id: text_by_scan[name.scan_id] for name in names}
    dataset.labels |= {name.case_id: [["1", *["0"] * 17]] for name in names}
    publish(dataset, fake)
    files = fake.others["ibrahimhamamci/CT-RATE"]
    there = [name for name in names if name.case_id != "valid_251_a_2"]
    files |= {name.volume.partition("/")[2]: name.case_id.encode() for name in there}

    settings = ALL | {"anatomy_masks": False, "findings_masks": False}
    CtRate(CtRateConfig(**settings), 0, hub).fetch(dataset.manifest, never)
    summary = index.build(params, dataset.manifest, dataset.index, dataset.root / "q.jsonl")
    assert summary.kept["test"] == 3038
    assert summary.refused == {"not_on_hub": 1}
    test = [case for case in read_index(dataset.index) if case.split == "test"]
    assert len({case.patient_id for case in test}) == 1304
    assert len({case.scan_id for case in test}) == 1564
    assert fake.counted("/tree/") == 0


def test_every_one_of_the_3623_marked_rows_of_abdomenatlas_is_accounted_for(
    real_data: Path,
) -> None:
    organs = ("liver", "kidney", "pancreas")
    path = real_data / "reports/abdomenatlas_radiologist_labels.csv"
    rows = [row.values for row in read_table(path, ("BDMAP ID", *organs)).rows]
    assert len(rows) == 3623
    assert len({row["BDMAP ID"] for row in rows}) == 3623
    assert all(is_id(row["BDMAP ID"].strip()) for row in rows)
    unmarked = [row for row in rows if not all(row[organ].strip() for organ in organs)]
    assert len(unmarked) == 823
    assert all(not row[organ].strip() for row in unmarked for organ in organs)
    assert [Counter(row[organ] for row in rows) for organ in organs] == [
        {"Y": 1222, "N": 1578, "": 823},
        {"Y": 1545, "Y ": 3, "N": 1252, "": 823},
        {"Y": 69, "N": 2731, "": 823},
    ]
    phases = {"Venous": 1066, "Arterial": 652, "Plain": 322, "Delay": 51, "": 1532}
    assert Counter(row["CT Phase"].strip() for row in rows) == phases
    assert sum(bool(row["Description"].strip()) for row in rows) == 22


def test_a_published_table_with_paths_among_its_labels_is_refused_with_row_and_column(
    real_data: Path,
) -> None:
    path = real_data / "bad/ct_rate_merged_with_broken_column.csv"
    with pytest.raises(DataError) as caught:
        read_labels(path)
    assert caught.value.exit_code == 3
    assert caught.value.fact == (
        "column Lymphadenopathy holds no 0 or 1: row 1 (line 2) has 'TODO_DATA_PATH/0'"
    )


def test_the_same_table_is_refused_as_a_persons_own(real_data: Path) -> None:
    config = FolderConfig(
        table="",
        id_column="series_id",
        findings_column="report",
        impression_column=None,
        file_column=None,
        patient_column=None,
        split_column=None,
        test_fraction=0.2,
    )
    with pytest.raises(DataError, match="column Lymphadenopathy holds no 0 or 1: row 1"):
        read_own_table(real_data / "bad/ct_rate_merged_with_broken_column.csv", config)


def test_a_published_table_that_is_cut_off_is_refused(real_data: Path) -> None:
    path = real_data / "bad/abdomen_truncated_in_a_quoted_field.csv"
    with pytest.raises(
        DataError, match=r"unexpected end of data\); the table is cut off"
    ) as caught:
        read_atlas(path, "structured")
    assert caught.value.exit_code == 3

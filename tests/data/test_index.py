"""The index: every volume ends as a case or as a named refusal, and no patient in two splits."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uvlm.config import Params
from uvlm.data import index
from uvlm.data.cases import Case, Split, read_index, write_index
from uvlm.data.index import IndexSummary
from uvlm.data.sets.ct_rate.cases import mask_path
from uvlm.data.splits import carve_validation, missing_positives
from uvlm.errors import DataError
from uvlm.files import store_root
from uvlm.tables import read_table
from uvlm.text.abnormalities import ABNORMALITIES

if TYPE_CHECKING:
    from tests.data.conftest import Dataset

REAL = os.environ.get("UVLM_REAL_DATA")
needs_real_data = pytest.mark.skipif(not REAL, reason="UVLM_REAL_DATA names no folder of real data")


def build(dataset: Dataset, params: Params) -> tuple[IndexSummary, list[Case], dict[str, str]]:
    """Write the data set and index it; the last is reason by refused case."""
    dataset.write()
    out, quarantine = dataset.root / "index.jsonl", dataset.root / "quarantine/index.jsonl"
    summary = index.build(params, dataset.manifest, out, quarantine)
    refused = [json.loads(line) for line in quarantine.read_text().splitlines() if line]
    assert summary.candidates == sum(summary.kept.values()) + sum(summary.refused.values())
    assert len(refused) == sum(summary.refused.values())
    return summary, read_index(out), {entry["case"]: entry["reason"] for entry in refused}


def test_a_clean_data_set_is_indexed_whole(dataset: Dataset, params: Params) -> None:
    summary, cases, refused = build(dataset, params)
    assert refused == {}
    assert summary.kept == {"train": 6, "val": 2, "test": 3}
    assert summary.annotated == 11
    assert summary.missing_positives == ()
    case = next(case for case in cases if case.case_id == "valid_1_a_1")
    assert (case.scan_id, case.patient_id, case.split) == ("valid_1_a", "valid_1", "test")
    assert case.report.text == "Findings: Finding 8."
    assert case.abnormalities == tuple(k % 2 for k in range(18))
    assert case.finding_categories == {"0": "2c", "1": "2d"}
    assert case.source == "hand:0"
    for path in (case.volume, case.findings_mask or "", mask_path(case, "total")):
        assert (store_root() / path).is_file()
    assert mask_path(case, "vessel") == "raw/hand/phantom_masks/vessel/valid_1_a_1.nii.gz"
    assert set(case.mask_sha256) == {"total", "airway", "vessel", "findings"}


def test_every_defect_is_refused_by_its_name(dataset: Dataset, params: Params) -> None:
    dataset.reports["train_1_a_1"] *= 2
    dataset.reports["train_2_a_1"] = [["", "", "  ", "Not given."]]
    dataset.reports["train_88_a_1"] = [["", "", "Clear lungs.", ""]]
    dataset.labels["train_88_a_1"] = dataset.labels["train_3_a_1"]
    dataset.labels["train_4_a_1"] = [["2", *["0"] * 17]]
    del dataset.labels["train_5_a_1"]
    del dataset.reports["valid_3_a_1"]
    dataset.no_chest.append("train_6_a_1")
    dataset.reports["train_head"] = dataset.reports["train_3_a_1"]
    summary, cases, refused = build(dataset, params)
    assert refused == {
        "train_1_a_1": "duplicate_id",
        "train_2_a_1": "empty_report",
        "train_4_a_1": "bad_label",
        "train_5_a_1": "no_labels",
        "train_6_a_1": "no_chest",
        "train_88_a_1": "missing_file",
        "train_head": "bad_id",
        "valid_3_a_1": "no_reports",
    }
    assert summary.kept["test"] == 2
    assert {case.case_id for case in cases} & set(refused) == set()
    accounts = {account.name: account for account in summary.accounts}
    reports = accounts["train_reports.csv"]
    assert (reports.rows, reports.kept) == (11, 3)
    assert reports.excluded["duplicate_id"] == 2  # both rows of one volume
    assert accounts["train_predicted_labels.csv"].rows == 8
    assert accounts["volume files"].rows == 11
    assert accounts["findings masks that teach"].excluded["test_patient"] == 2


def test_too_many_refusals_stop_the_run_but_lists_of_no_chest_do_not(
    dataset: Dataset, params: Params
) -> None:
    strict = params.index.model_copy(update={"max_quarantined_share": 0.0})
    params = params.model_copy(update={"index": strict})
    dataset.no_chest += ["train_1_a_1", "train_2_a_1"]
    build(dataset, params)
    dataset.reports["train_3_a_1"] *= 2
    with pytest.raises(DataError, match="1 of 11 cases were refused"):
        build(dataset, params)


def test_the_index_is_the_same_bytes_every_time(dataset: Dataset, params: Params) -> None:
    build(dataset, params)
    first = (dataset.root / "index.jsonl").read_bytes()
    build(dataset, params)
    assert (dataset.root / "index.jsonl").read_bytes() == first
    assert str(dataset.root).encode() not in first


def test_an_unknown_category_or_a_missing_table_breaks_the_data_set(
    dataset: Dataset, params: Params
) -> None:
    dataset.write()
    path = dataset.raw("rexgroundingct/dataset.json")
    path.write_text(path.read_text().replace("2c", "3a"))
    out = dataset.root / "index.jsonl"
    with pytest.raises(DataError, match="unknown categories 3a"):
        index.build(params, dataset.manifest, out, dataset.root / "q.jsonl")
    path.write_text("{}")
    with pytest.raises(DataError, match="no split train"):
        index.build(params, dataset.manifest, out, dataset.root / "q.jsonl")
    dataset.raw("ct_rate/dataset/radiology_text_reports/train_reports.csv").unlink()
    with pytest.raises(DataError, match="dvc repro -f -s download"):
        index.build(params, dataset.manifest, out, dataset.root / "q.jsonl")
    assert not out.exists()


def case(patient: str, split: Split = "train", flags: tuple[int, ...] = (1,) * 18) -> Case:
    return Case(
        case_id=f"{patient}_a_1",
        scan_id=f"{patient}_a",
        patient_id=patient,
        split=split,
        volume=f"{patient}.nii.gz",
        findings_mask=None,
        finding_categories={},
        abnormalities=flags,
        findings="Clear.",
        impression="",
    )


def test_a_case_survives_the_manifest(tmp_path: Path) -> None:
    full = replace(case("train_1"), findings_mask="m", finding_categories={"0": "2d"}, sha256="s")
    write_index(tmp_path / "i.jsonl", [full])
    assert read_index(tmp_path / "i.jsonl") == [full]
    text = (tmp_path / "i.jsonl").read_text().replace('"scan_id"', '"scan"')
    (tmp_path / "i.jsonl").write_text(text)
    with pytest.raises(DataError, match="not an index row"):
        read_index(tmp_path / "i.jsonl")


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(0, 9), st.floats(0.05, 0.6))
def test_validation_is_carved_by_patient_in_the_share_asked_for(
    num_patients: int, seed: int, fraction: float
) -> None:
    cases = [case(f"train_{i}") for i in range(num_patients)]
    cases += [replace(c, case_id=c.case_id[:-1] + "2") for c in cases] + [case("valid_1", "test")]
    carved = carve_validation(cases, seed, fraction)
    split_by_patient: dict[str, set[str]] = {}
    for c in carved:
        split_by_patient.setdefault(c.patient_id, set()).add(c.split)
    assert all(len(splits) == 1 for splits in split_by_patient.values())
    sizes = Counter(splits.copy().pop() for splits in split_by_patient.values())
    assert sizes["val"] == max(1, round(fraction * num_patients))
    assert sizes["test"] == 1
    assert [c.case_id for c in carved] == [c.case_id for c in cases]


def test_a_test_case_of_a_training_patient_stays_where_the_audit_finds_it() -> None:
    cases = [case(f"train_{i}") for i in range(6)]
    cases += [replace(c, case_id=f"{c.case_id}_again", split="test") for c in cases]
    carved = carve_validation(cases, 0, 0.5)
    assert [c.split for c in carved].count("val") == 3
    assert {c.split for c in carved[6:]} == {"test"}


def test_a_rare_abnormality_gets_positives_in_all_splits() -> None:
    rare = [tuple(int(k != 4 or i < 2) for k in range(18)) for i in range(40)]
    cases = [case(f"train_{i}", flags=flags) for i, flags in enumerate(rare)]
    cases.append(case("valid_1", "test"))
    for seed in range(5):
        assert missing_positives(carve_validation(cases, seed, 0.1)) == []


def test_an_abnormality_that_cannot_be_everywhere_is_named() -> None:
    flags = tuple(int(k != 4) for k in range(18))
    cases = [case(f"train_{i}", flags=flags) for i in range(4)] + [case("valid_1", "test")]
    name = ABNORMALITIES[4]
    assert missing_positives(carve_validation(cases, 0, 0.3)) == [
        f"{name} in train",
        f"{name} in val",
    ]


@pytest.mark.parametrize(
    ("cases", "split"),
    [
        ([case("train_1"), case("valid_1", "test")], "train"),
        ([case("train_1"), case("train_2")], "test"),
        ([case("valid_1", "test")], "train"),
    ],
)
def test_an_empty_split_is_refused(cases: list[Case], split: str) -> None:
    with pytest.raises(DataError, match=f"the {split} split is empty"):
        carve_validation(cases, 0, 0.1)


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b'a,b\n1,"2\n', r"begins on line 2 is damaged \(unexpected end of data\)"),
        (b"a,c\n1,2\n", "column b is missing"),
        (b"a,b,a\n1,2,3\n", "column a occurs twice"),
        (b"a,b\n1,2\n1\n1,2,3\n", r"\(line 3\) has 1 fields, the header 2; row 3 \(line 4\) has 3"),
        ("a,b\n1,ş\n".encode("cp1254"), "line 2, byte 3: 0xfe is not UTF-8"),
        (b"", "the table is empty"),
    ],
)
def test_a_broken_table_is_refused_with_all_its_errors(
    tmp_path: Path, content: bytes, fact: str
) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=fact):
        read_table(tmp_path / "t.csv", ("a", "b"))


def test_byte_order_marks_quotes_and_newlines_in_fields_are_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes('\ufeffa,b\r\n"x, ""y""\nz",ş\r\n'.encode())
    (row,) = read_table(tmp_path / "t.csv", ("a", "b")).rows
    assert row.values == {"a": 'x, "y"\nz', "b": "ş"}
    assert row.line == 2  # where it begins


def test_a_column_of_paths_among_the_labels_breaks_the_table(
    dataset: Dataset, params: Params
) -> None:
    for rows in dataset.labels.values():
        rows[0][6] = "TODO_DATA_PATH/0"
    with pytest.raises(DataError, match=r"column Lymphadenopathy holds no 0 or 1: row 1"):
        build(dataset, params)


@needs_real_data
def test_a_real_table_cut_inside_a_field_is_refused() -> None:
    with pytest.raises(DataError, match="unexpected end of data"):
        read_table(Path(REAL or "") / "bad/abdomen_truncated_in_a_quoted_field.csv", ())


@needs_real_data
def test_the_real_validation_tables_join_without_an_orphan() -> None:
    folder = Path(REAL or "") / "reports"
    metadata = read_table(folder / "ct_rate_validation_metadata.csv", ("VolumeName",)).rows
    reports = read_table(folder / "ct_rate_validation_reports.csv", ("Findings_EN",)).rows
    scans = {row.values["VolumeName"].rpartition("_")[0] for row in metadata}
    assert (len(metadata), len(scans), len(reports)) == (3039, 1564, 1564)

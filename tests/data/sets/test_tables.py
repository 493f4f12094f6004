"""Published tables as typed rows: what breaks a table, what is only a bad row, what is not a 0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.sets.conftest import METADATA, metadata_row
from uvlm.data.sets.abdomen_atlas.tables import read_ids
from uvlm.data.sets.ct_rate.layout import id_of, parse_id
from uvlm.data.sets.ct_rate.rexgrounding import read_grounding
from uvlm.data.sets.ct_rate.tables import read_labels, read_metadata, read_no_chest
from uvlm.errors import DataError
from uvlm.text.abnormalities import ABNORMALITIES

HEADER = ",".join(["VolumeName", *ABNORMALITIES])


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table"
    path.write_text(text, encoding="utf-8")
    return path


def labels(*cells: str) -> str:
    return ",".join([*cells, *["0"] * (18 - len(cells))])


def test_one_bad_cell_is_a_bad_row_and_one_bad_column_a_broken_table(tmp_path: Path) -> None:
    rows = [f"train_1_a_1.nii.gz,{labels('1')}", f"train_2_a_1.nii.gz,{labels('', 'x')}"]
    good, bad = read_labels(write(tmp_path, "\n".join([HEADER, *rows])))
    assert [(row.case_id, row.flags) for row in good] == [("train_1_a_1", (1, *[0] * 17))]
    assert [(row.case_id, row.reason) for row in bad] == [("train_2_a_1", "bad_label")]
    assert bad[0].fact == (
        "row 2 (line 3): Medical material is '', Arterial wall calcification is 'x', not 0 or 1"
    )
    broken = [f"train_1_a_1.nii.gz,{labels('nan', 'yes')}", f"train_2_a_1,{labels('', 'no')}"]
    with pytest.raises(DataError) as caught:
        read_labels(write(tmp_path, "\n".join([HEADER, *broken])))
    assert caught.value.fact == (
        "column Medical material holds no 0 or 1: row 1 (line 2) has 'nan'; "
        "column Arterial wall calcification holds no 0 or 1: row 1 (line 2) has 'yes'"
    )


def test_all_errors_of_a_table_are_in_one_message(tmp_path: Path) -> None:
    text = "VolumeName,Cardiomegaly,Cardiomegaly\na,1\nb,1,1,1\nc\n"
    with pytest.raises(DataError) as caught:
        read_labels(write(tmp_path, text))
    assert caught.value.fact.count("is missing") == 17
    for fact in ("Cardiomegaly occurs twice", "row 1 (line 2) has 2 fields", "and 2 more"):
        assert fact in caught.value.fact
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("z_spacing", ["", "nan", "NaN", "inf", "0", "-1.5", "1,5"])
def test_a_spacing_that_is_no_length_makes_a_bad_row(tmp_path: Path, z_spacing: str) -> None:
    rows = metadata_row("train_1_a_1") + metadata_row("train_1267_a_4", f'"{z_spacing}"')
    good, bad = read_metadata(write(tmp_path, METADATA + rows))
    assert [row.spacing for row in good] == [(8.0, 7.0, 7.0)]
    assert [(row.case_id, row.reason) for row in bad] == [("train_1267_a_4", "bad_metadata")]
    assert f"row 2 (line 3): ZSpacing is '{z_spacing}'" == bad[0].fact


def test_lists_of_head_and_neck_cts_are_read_by_the_name_of_the_file(tmp_path: Path) -> None:
    text = "train/train_10100/train_10100_a/train_10100_a_1.nii.gz\n\ntrain_3_a_2.nii.gz\r\n"
    assert read_no_chest(write(tmp_path, text)) == {"train_10100_a_1", "train_3_a_2"}


@pytest.mark.parametrize(
    "name", ["train_1_a", "train_01_a_1", "test_1_a_1", "train_1_A_1", "train_1_a_1_1", "", "a/b"]
)
def test_names_of_another_form_are_no_volumes(name: str) -> None:
    assert parse_id(name) is None


def test_a_name_taken_apart_gives_the_published_paths() -> None:
    name = parse_id(id_of("dataset/x/valid_53_a_1.nii.gz"))
    assert name is not None
    inside = "valid_fixed/valid_53/valid_53_a/valid_53_a_1.nii.gz"
    assert name.volume == f"ct_rate/dataset/{inside}"
    assert name.anatomy_mask == f"ct_rate/dataset/ts_seg/ts_total/{inside}"
    assert name.findings_mask == "rexgroundingct/segmentations/valid_53_a_1.nii.gz"
    assert (name.patient_id, name.scan_id, name.case_id) == (
        "valid_53",
        "valid_53_a",
        "valid_53_a_1",
    )


CARD = {
    "name": "train_1741_b_2.nii.gz",
    "findings": {"0": "Irregularly circumscribed nodular consolidation area"},
    "entity_counts": {"0": 1},
    "shape": [512, 512, 238],
    "pixels": {"0": 15571},
    "categories": {"0": "2b"},
    "protocol": "protocol1",
}


def grounding(tmp_path: Path, **splits: Any) -> Path:
    return write(tmp_path, json.dumps({"train": [], "val": [], "test": []} | splits))


def test_an_entry_of_rexgroundingct_is_read_as_on_its_card(tmp_path: Path) -> None:
    private = {"name": "valid_9_a_1.nii.gz"}
    one, other = read_grounding(grounding(tmp_path, train=[CARD], test=[private]))
    assert (one.case_id, one.split, one.categories) == ("train_1741_b_2", "train", {"0": "2b"})
    assert one.shape == (512, 512, 238)
    assert (other.case_id, other.split, other.categories) == ("valid_9_a_1", "test", {})


@pytest.mark.parametrize(
    ("entries", "fact"),
    [
        ([{"categories": {}}], r"train\[0\] has no name"),
        ([CARD | {"categories": None}], r"train\[0\] \(train_1741_b_2.nii.gz\) has no categories"),
        ([CARD | {"categories": {"1": "2b"}}], "categories has the channels"),
        ([CARD | {"findings": {"0": "a", "1": "b"}}], "findings has the channels"),
        ([CARD | {"categories": {"0": "9z"}}], "unknown categories 9z"),
        ([CARD, CARD], "train_1741_b_2 comes 2 times"),
        ([{}, 7], r"train\[0\] has no name; train\[1\] has no name"),
        ([None, [], "train_1_a_1.nii.gz"], r"train\[0\] has no name; .*; train\[2\] has no name"),
        ([CARD | {"name": ""}, CARD | {"name": 7}], r"train\[0\] has no name; train\[1\] has no"),
        ([CARD, CARD | {"findings": None}], r"train\[1\] .*: findings is null, not one text per"),
        ([CARD | {"findings": ["a"]}], r"findings is \[\"a\"\], not one text per channel"),
        ([CARD | {"findings": {"0": {"a": 1}}}], "findings is .*, not one text per channel"),
        ([CARD | {"categories": ["2b"]}], r"categories is \[\"2b\"\], not one text per channel"),
        ([CARD | {"categories": {"0": ["2b"]}}], "categories is .*, not one text per channel"),
        ([CARD | {"categories": {"0": None}}], "categories is .*, not one text per channel"),
        ([CARD | {"shape": None}], "shape is null, not three positive whole numbers"),
        ([CARD | {"shape": 512}], "shape is 512, not three positive whole numbers"),
        ([CARD | {"shape": [512, 512]}], r"shape is \[512, 512\], not three positive"),
        ([CARD | {"shape": [512, 512, "238"]}], "shape is .*, not three positive whole numbers"),
        ([CARD | {"shape": [512, 512, True]}], "shape is .*, not three positive whole numbers"),
    ],
)
def test_another_form_of_rexgroundingct_is_refused_whole(
    tmp_path: Path, entries: list[Any], fact: str
) -> None:
    with pytest.raises(DataError, match=fact):
        read_grounding(grounding(tmp_path, train=entries))


@pytest.mark.parametrize("withheld", [None, {}])
@pytest.mark.parametrize("keys", [("categories",), ("findings", "categories", "shape")])
@pytest.mark.parametrize("split", ["val", "test"])
def test_a_held_out_entry_may_withhold_what_is_drawn(
    tmp_path: Path, split: str, keys: tuple[str, ...], withheld: Any
) -> None:
    left_out = {key: value for key, value in CARD.items() if key not in keys}
    null = CARD | dict.fromkeys(keys, None)
    for entry in (left_out, null, left_out | {"categories": withheld}):
        (volume,) = read_grounding(grounding(tmp_path, **{split: [entry]}))
        assert (volume.case_id, volume.split, volume.categories) == ("train_1741_b_2", split, {})


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("changed", [{"categories": []}, {"findings": 3}, {"shape": "512"}])
def test_what_a_held_out_entry_does_say_must_be_well_formed(
    tmp_path: Path, split: str, changed: dict[str, Any]
) -> None:
    with pytest.raises(DataError, match=rf"{split}\[0\] \(train_1741_b_2.nii.gz\): .* is .*, not"):
        read_grounding(grounding(tmp_path, **{split: [CARD | changed]}))


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("", "not a ReXGroundingCT table"),
        ("[" * 100_000, "not a ReXGroundingCT table"),
        ("null", "null instead of splits"),
        ("[]", r"\[\] instead of splits"),
        ('{"train": []}', "there is no split val; there is no split test"),
        ('{"train": null, "val": {}, "test": []}', "train is null, not a list; val is {}, not a"),
    ],
)
def test_a_document_without_lists_of_entries_is_refused(
    tmp_path: Path, text: str, fact: str
) -> None:
    with pytest.raises(DataError, match=fact):
        read_grounding(write(tmp_path, text))


def test_a_list_of_the_split_with_another_id_is_refused(tmp_path: Path) -> None:
    assert read_ids(write(tmp_path, "BDMAP ID\nBDMAP_00000007\n")) == ["BDMAP_00000007"]
    with pytest.raises(DataError, match="'BDMAP_7' is not a BDMAP id; 'BDMAP_00009263' is no"):
        read_ids(write(tmp_path, "BDMAP ID\nBDMAP_7\nBDMAP_00009263\n"))

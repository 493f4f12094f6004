"""Reports in JSON are read like those of a table, or refused entry by entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from uvlm.errors import DataError
from uvlm.text.report_table import read_report_table

ENTRIES = [
    {"input_image_name": "valid_1_a_1", "report": "No nodule."},
    {"report": 'Lines\u2028and\n"quotes".', "input_image_name": "valid_2_a_1"},
]
CHALLENGE = {
    "name": "Generated reports",
    "type": "Report generation",
    "generated_reports": ENTRIES,
    "version": {"major": 1, "minor": 0},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "reports.json"


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(CHALLENGE),
        json.dumps(CHALLENGE, indent=2, ensure_ascii=False),
        "\ufeff\n" + json.dumps(CHALLENGE),
        json.dumps(ENTRIES),
        "\n".join(json.dumps(entry) for entry in ENTRIES),
        "\r\n".join(json.dumps(entry) for entry in ENTRIES) + "\r\n\r\n",
    ],
    ids=["challenge", "indented", "mark", "list", "lines", "lines of Windows"],
)
def test_every_usual_form_is_read(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8", newline="")
    table = read_report_table(file, ["report"])
    assert table.id_column == "input_image_name"
    assert table.ids == ("valid_1_a_1", "valid_2_a_1")
    assert table.texts == ("No nodule.", 'Lines\u2028and\n"quotes".')


def test_one_prediction_is_no_document_with_a_list(file: Path) -> None:
    entry = {"case_id": "a", "report": "Clear.", "boxes": [{"x": 1}], "probabilities": {"b": 0.5}}
    file.write_text(json.dumps(entry), encoding="utf-8")
    table = read_report_table(file, ["report"])
    assert (table.ids, table.texts) == (("a",), ("Clear.",))


@pytest.mark.parametrize(
    ("document", "fact"),
    [
        ([], "there is no entry"),
        ({"generated_reports": []}, "no entry has report; there are generated_reports"),
        ({"name": "x", "reports": {"a": "Clear."}}, "no entry has report; there are name, reports"),
        ([*ENTRIES, None, "text", 3], r"\[2\] is no object; \[3\] is no object; \[4\] is no"),
        ({"generated_reports": [*ENTRIES, []]}, r"generated_reports\[2\] is no object"),
        ([ENTRIES[0], {"input_image_name": "b"}], r"\[1\] has no report"),
        ([ENTRIES[0], {"input_image_name": "b", "report": None}], "report is null, not a text"),
        ([ENTRIES[0], {"input_image_name": "b", "report": ["a"]}], r'report is \["a"\], not a'),
        ([ENTRIES[0], {"report": "x"}], "entry 2, column input_image_name: the id is ''"),
        ([ENTRIES[0], ENTRIES[0]], "entry 2, column input_image_name: .* is already in entry 1"),
        ([ENTRIES[0] | {"report": " "}], "entry 1, column report: there is no text"),
        ({"a": ENTRIES, "b": ENTRIES}, "holds 2 lists of objects: a, b"),
    ],
)
def test_another_form_is_refused_with_its_place(file: Path, document: Any, fact: str) -> None:
    file.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(DataError, match=fact) as caught:
        read_report_table(file, ["report"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (json.dumps(CHALLENGE)[:-30], "is not JSON"),
        (json.dumps(CHALLENGE, indent=1)[:-9], "is not JSON"),
        (json.dumps(ENTRIES[0]) + "\n{oh no}", "line 2 is not JSON"),
        ("[" * 50_000, "is not JSON"),
    ],
    ids=["cut off", "cut off, indented", "a line", "deep"],
)
def test_broken_json_is_refused(file: Path, text: str, fact: str) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=fact):
        read_report_table(file, ["report"])

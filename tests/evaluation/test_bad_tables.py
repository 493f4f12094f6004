"""Thirty broken tables: each ends in a message that names the place, none in a number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from uvlm.errors import DataError, UvlmError
from uvlm.evaluation.score import ScoreRequest, score
from uvlm.text.abnormalities import ABNORMALITIES

GOOD = b"id,report\na,Heart is normal.\nb,No nodule.\n"
HEADER = ",".join(("id", *ABNORMALITIES))
ZEROS = ",".join("0" * len(ABNORMALITIES))
LABELS = f"{HEADER}\na,{ZEROS}\nb,{ZEROS}\n"

PROBABILITY = '{"case_id": "a", "report": "x", "probabilities": {"Emphysema": P}}'

PREDICTIONS = {
    "empty file": (b"", "the table is empty"),
    "header only": (b"id,report\n", "a header and no row"),
    "latin-1": ("id,report\na,Naïve.\nb,x\n".encode("latin-1"), r"line 2, byte 5: 0xef"),
    "utf-16": (GOOD.decode().encode("utf-16"), "the encoding is UTF-16"),
    "nul bytes": (b"id,report\na,x\0y\nb,x\n", "line 2 holds a NUL"),
    "open quote": (b'id,report\na,"Heart is normal.\nb,No nodule.\n', "line 2 is damaged"),
    "stray quote": (b'id,report\na,"Heart" is normal.\nb,x\n', "line 2 is damaged"),
    "unquoted comma": (b"id,report\na,Heart, normal.\nb,x\n", r"row 1 \(line 2\) has 3 fields"),
    "unquoted newline": (b"id,report\na,Heart\nis normal.\nb,x\n", r"row 2 \(line 3\) has 1 field"),
    "a field too few": (b"id,report\na\nb,x\n", r"row 1 \(line 2\) has 1 fields"),
    "semicolons": (b"id;report\na;x\nb;y\n", "id;report"),
    "nan text": (b"id,report\na,nan\nb,x\n", r"row 1 \(line 2\), column report: 'nan'"),
    "NaN after blanks": (b"id,report\na,x\nb, NaN \n", r"row 2 \(line 3\), column report: 'NaN'"),
    "None text": (b"id,report\na,x\nb,None\n", r"row 2 \(line 3\), column report: 'None'"),
    "empty id": (b"id,report\na,x\n,y\n", r"row 2 \(line 3\), column id: the id is ''"),
    "blank around id": (b"id,report\na,x\n b,y\n", r"row 2 \(line 3\), column id: the id ' b'"),
    "duplicate id": (b"id,report\na,x\nb,y\na,z\n", r"row 3 \(line 4\), column id: the id 'a'"),
    "duplicate by suffix": (b"id,report\na,x\na.nii.gz,y\n", "row 2, column id: the id 'a'"),
    "extra id": (b"id,report\na,x\nb,y\nc,z\n", "row 3, column id: 'c' is not among"),
    "column twice": (b"id,report,report\na,x,y\nb,x,y\n", "column report occurs twice"),
    "no report column": (b"id,words\na,x\nb,y\n", "which column holds the report.*id, words"),
    "nan id": (b"id,report\nnan,x\nb,y\n", r"row 1 \(line 2\), column id: the id is 'nan'"),
    "bom in the middle of a record": (
        b"id,report\n\xef\xbb\xbfa,x\nb,y\n",
        "row 1, column id: '\\\\ufeffa' is not among",
    ),
    "multi-line rows count as one": (
        b'id,report\na,"x\ny"\nb,nan\n',
        r"row 2 \(line 4\), column report: 'nan'",
    ),
}
LABEL_TABLES = {
    "text in a label": (LABELS.replace("b,0", "b,yes"), r"row 2 \(line 3\): Medical.*'yes'"),
    "nan in a label": (LABELS.replace("b,0", "b,nan"), r"row 2 \(line 3\): Medical.*'nan'"),
    "empty label": (LABELS.replace("b,0", "b,"), r"row 2 \(line 3\): Medical.*''"),
    "a probability": (LABELS.replace("b,0", "b,0.5"), r"row 2 \(line 3\): Medical.*'0.5'"),
    "minus one": (LABELS.replace("b,0", "b,-1"), r"row 2 \(line 3\): Medical.*'-1'"),
    "a path": (LABELS.replace("b,0", "b,DATA/0"), r"row 2 \(line 3\): Medical.*'DATA/0'"),
    "no row for a case": (f"{HEADER}\na,{ZEROS}\n", "column id: no row for 'b'"),
    "missing column": (LABELS.replace("Emphysema", "emphysema"), "column Emphysema is missing"),
    "label row twice": (LABELS + f"a,{ZEROS}\n", "row 3, column id: the id 'a'"),
}


@pytest.fixture
def good(tmp_path: Path) -> ScoreRequest:
    path = tmp_path / "good.csv"
    path.write_bytes(GOOD)
    return ScoreRequest(path, path, labeller="phantom", samples=0)


def test_there_are_thirty_and_the_good_ones_pass(good: ScoreRequest, tmp_path: Path) -> None:
    assert len(PREDICTIONS) + len(LABEL_TABLES) >= 30
    labels, marked = tmp_path / "labels.csv", tmp_path / "marked.csv"
    labels.write_text(LABELS, encoding="utf-8")
    marked.write_bytes(b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n"))
    assert score(replace(good, labels=labels, predictions=marked))["report"]["bleu_1"] > 0.99


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_broken_table_of_predictions_is_refused(
    good: ScoreRequest, tmp_path: Path, name: str
) -> None:
    content, message = PREDICTIONS[name]
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(UvlmError, match=message) as caught:
        score(replace(good, predictions=path))
    assert caught.value.subject == str(path)
    assert caught.value.exit_code in (2, 3)


@pytest.mark.parametrize("name", [name for name in PREDICTIONS if name != "extra id"])
def test_a_broken_table_of_references_is_refused(
    good: ScoreRequest, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(PREDICTIONS[name][0])
    with pytest.raises(UvlmError):
        score(replace(good, references=path))


@pytest.mark.parametrize("name", LABEL_TABLES)
def test_a_broken_table_of_labels_is_refused(good: ScoreRequest, tmp_path: Path, name: str) -> None:
    content, message = LABEL_TABLES[name]
    path = tmp_path / "labels.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        score(replace(good, labels=path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"case_id": "a", "report": 3}', "line 1"),
        ('{"case_id": "a"}', "line 1.*report"),
        ('{"case_id": "a", "report": "x"', "line 1"),
        (
            PROBABILITY.replace("P", "NaN"),
            "Emphysema is nan",
        ),
        (
            PROBABILITY.replace("P", "1.5"),
            "Emphysema is 1.5",
        ),
        (PROBABILITY.replace("P", "0.5"), "no probability"),
        ('{"case_id": "c", "report": "x"}', "line 1, case_id: 'c' is not among"),
        ('{"case_id": "a", "report": "x"}\n{"case_id": "a", "report": "y"}', "line 2: second"),
    ],
)
def test_broken_json_lines_are_refused(
    good: ScoreRequest, tmp_path: Path, line: str, message: str
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        score(replace(good, predictions=path))


@pytest.mark.parametrize(
    "name", ["ct_rate_merged_with_broken_column.csv", "abdomen_truncated_in_a_quoted_field.csv"]
)
def test_published_broken_tables_are_refused(
    good: ScoreRequest, real_data: Path, name: str
) -> None:
    with pytest.raises(UvlmError):
        score(replace(good, references=real_data / "bad" / name))

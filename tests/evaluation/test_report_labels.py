"""`uvlm label`: tables in, tables out, and nothing half-written."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from uvlm.cli import app
from uvlm.errors import ConfigError, DataError, UvlmError
from uvlm.text.abnormalities import ABDOMEN_LESIONS, ABNORMALITIES

TABLE = """scan,findings,impression
a_1,"No nodule, no effusion.",Cardiomegaly.
a_2,"A nodule of 4 mm
in the right lung.",
"a,3",Both main bronchi are open.,"""


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    path = tmp_path / "reports.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def label(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["label", *map(str, arguments)])


def error_of(result: Result) -> UvlmError:
    assert isinstance(result.exception, UvlmError)
    return result.exception


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def claims(row: dict[str, str]) -> set[str]:
    return {name for name, value in row.items() if value == "1"}


def test_labels_follow_the_ids_and_are_named_as_ct_rate_names_them(reports: Path) -> None:
    out = reports.with_name("labels.csv")
    columns = ("--text-column", "findings", "--text-column", "impression")
    result = label(reports, *columns, "--out", out)
    assert result.exit_code == 0, result.output
    rows = read(out)
    assert list(rows[0]) == ["scan", *ABNORMALITIES]
    assert [row["scan"] for row in rows] == ["a_1", "a_2", "a,3"]
    assert [claims(row) for row in rows] == [{"Cardiomegaly"}, {"Lung nodule"}, set()]
    assert {row[name] for row in rows for name in ABNORMALITIES} == {"0", "1"}
    words = "100 % of the words known"
    assert result.output == f"3 reports, 2 abnormalities, {words}; written to {out}\n"


def test_only_the_named_columns_are_read(reports: Path) -> None:
    out = reports.with_name("labels.csv")
    assert label(reports, "--text-column", "findings", "--out", out).exit_code == 0
    assert [claims(row) for row in read(out)] == [set(), {"Lung nodule"}, set()]


def test_predictions_in_json_are_labelled_too(reports: Path) -> None:
    out, document = reports.with_name("labels.csv"), reports.with_name("predictions.json")
    entries = [{"input_image_name": "valid_1_a_1", "report": "A nodule of 4 mm."}]
    document.write_text(json.dumps({"generated_reports": entries}), encoding="utf-8")
    assert label(document, "--text-column", "report", "--out", out).exit_code == 0
    assert [(row["input_image_name"], claims(row)) for row in read(out)] == [
        ("valid_1_a_1", {"Lung nodule"})
    ]


def test_the_summary_can_be_json(reports: Path) -> None:
    out = reports.with_name("labels.csv")
    result = label(reports, "--text-column", "findings", "--out", out, "--json")
    summary = json.loads(result.output)
    assert (summary["labeller"], summary["num_reports"]) == ("rules", 3)
    assert summary["num_positive"]["Lung nodule"] == 1


def test_the_abdomen_has_its_own_columns(reports: Path) -> None:
    reports.write_text("id,text\n1,A cyst in the left kidney.\n", encoding="utf-8")
    out = reports.with_name("labels.csv")
    label(reports, "--text-column", "text", "--out", out, "--label-set", "abdomen")
    assert read(out) == [{"id": "1", **dict.fromkeys(ABDOMEN_LESIONS, "0"), "Kidney lesion": "1"}]


def test_phantom_reports_have_their_own_labeller(reports: Path) -> None:
    reports.write_text("id,text\n1,Findings: Emphysema.\n", encoding="utf-8")
    out = reports.with_name("labels.csv")
    label(reports, "--text-column", "text", "--out", out, "--labeller", "phantom")
    assert claims(read(out)[0]) - {"1"} == {"id", "Emphysema"}


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        (
            "--labeller",
            "oracle",
            "there is no 'oracle'; use phantom, longtail, rules, radbert, llm",
        ),
        ("--label-set", "head", "there is no 'head'"),
        ("--id-column", "findings", "findings is both the id and a text"),
        ("--out", "reports.csv", "is the table that is read"),
        ("--out", "reports.csv/labels.csv", "cannot be written"),
    ],
)
def test_a_wrong_option_is_a_usage_error(
    option: str, value: str, message: str, reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reports.parent)
    options = {"--text-column": "findings", "--out": "labels.csv", option: value}
    result = label(reports, *(part for pair in options.items() for part in pair))
    assert isinstance(error_of(result), ConfigError)
    assert message in str(result.exception)
    assert reports.read_text(encoding="utf-8") == TABLE
    assert [path.name for path in reports.parent.iterdir()] == ["reports.csv"]


def test_the_chest_classifier_cannot_label_the_abdomen(reports: Path) -> None:
    options = ("--labeller", "radbert", "--label-set", "abdomen")
    result = label(reports, "--text-column", "findings", "--out", "labels.csv", *options)
    assert "18 abnormalities of CT-RATE only" in str(error_of(result))


def test_an_id_column_called_like_a_label_is_refused(reports: Path) -> None:
    reports.write_text("Emphysema,text\n1,Cardiomegaly.\n", encoding="utf-8")
    result = label(reports, "--text-column", "text", "--out", reports.with_name("labels.csv"))
    assert "Emphysema is also the name of a label" in str(error_of(result))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,text\na,ok\na,ok\n", "row 2 (line 3), column id: the id 'a' is already in row 1"),
        ("id,text\na,\n", "row 1 (line 2), column text: there is no text"),
        ("id,text\na,nan\n", "row 1 (line 2), column text: 'nan' instead of a text"),
        ("id,report\na,ok\n", "column text is missing"),
        ('id,text\na,"ok\n', "the row that begins on line 2 is damaged"),
    ],
)
def test_a_bad_table_leaves_nothing_behind(content: str, message: str, reports: Path) -> None:
    reports.write_text(content, encoding="utf-8")
    result = label(reports, "--text-column", "text", "--out", reports.with_name("labels.csv"))
    assert isinstance(error_of(result), DataError)
    assert message in str(result.exception)
    assert [path.name for path in reports.parent.iterdir()] == ["reports.csv"]


def test_a_row_without_text_can_be_allowed(reports: Path) -> None:
    reports.write_text("id,text\na,\n", encoding="utf-8")
    out = reports.with_name("labels.csv")
    assert label(reports, "--text-column", "text", "--out", out, "--allow-empty").exit_code == 0
    assert claims(read(out)[0]) == set()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("rules", 3), ("oracle", 2)])
def test_the_command_exits_with_one_line_and_the_right_code(
    name: str, code: int, tmp_path: Path, root: Path
) -> None:
    arguments = ["absent.csv", "--text-column", "a", "--out", "labels.csv", "--labeller", name]
    result = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "label", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == code
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
def test_published_tables_in_and_out(real_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    path = real_data / "reports" / "ct_rate_validation_reports.csv"
    columns = ("--text-column", "Findings_EN", "--text-column", "Impressions_EN")
    assert label(path, *columns, "--out", out).exit_code == 0
    rows = read(out)
    assert len(rows) == 1564
    assert next(iter(rows[0])) == "VolumeName"


# "her" is English too.
TURKISH = "Her iki ana bronş açıktır. Plevral efüzyon saptanmadı. Sağ akciğerde nodül izlendi."  # noqa: RUF001


@pytest.mark.parametrize("labeller", ["rules", "phantom"])
def test_a_report_in_another_language_stops_and_is_named(reports: Path, labeller: str) -> None:
    out = reports.with_name("labels.csv")
    reports.write_text(f"scan,text\na,No nodule.\nb,{TURKISH}\nc,Normal.\n", encoding="utf-8")
    result = label(reports, "--text-column", "text", "--out", out, "--labeller", labeller)
    error = error_of(result)
    assert error.exit_code == 3
    assert "row 2 (line 3), scan b: 1 of 12 words are known" in str(error)
    assert not out.exists()


def test_an_empty_report_is_no_other_language(reports: Path) -> None:
    out = reports.with_name("labels.csv")
    reports.write_text("scan,text\na,No nodule.\nb,\n", encoding="utf-8")
    arguments = (reports, "--text-column", "text", "--out", out, "--allow-empty", "--json")
    assert json.loads(label(*arguments).output)["known_share"] == 1.0


@pytest.mark.parametrize("text", ["FINDINGS:\nIMPRESSION:", "LUNGS:\nHEART:\n", "Technique: CT.\n"])
def test_headings_without_a_finding_are_no_report(reports: Path, text: str) -> None:
    reports.write_text(f'scan,text\na,"{text}\nImpression:"\n', encoding="utf-8")
    result = label(reports, "--text-column", "text", "--out", reports.with_name("labels.csv"))
    assert "row 1 (line 2), column text: there are headings" in str(error_of(result))

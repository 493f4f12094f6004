"""`predict --dicom`: objects beside every draft of a DICOM series, and the reason for any other."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from benchmarks.dicom_series import write_series
from tests.dicom.conftest import HEADERS, problems, tagged
from tests.inference.conftest import _one_thread as _one_thread
from tests.inference.conftest import body, lps
from tests.inference.conftest import params as params
from tests.inference.conftest import report_folder as report_folder
from uvlm.cli import app
from uvlm.data.ct.io import write_volume
from uvlm.dicom.place import FOLDER
from uvlm.drafts.batch import Options, predict
from uvlm.errors import ConfigError
from uvlm.text.draft import Draft

pytestmark = pytest.mark.usefixtures("blank_pictures")


@pytest.fixture
def series(tmp_path: Path) -> Path:
    write_series(tmp_path / "series äö ü", lps(body()), edit=tagged())
    return tmp_path / "series äö ü"


@pytest.mark.slow
def test_a_draft_of_a_series_has_its_objects_and_they_say_what_it_says(
    series: Path, report_folder: Path, tmp_path: Path
) -> None:
    (outcome,) = predict([series], report_folder, tmp_path / "out", Options(dicom=True))
    assert outcome.no_dicom == ""
    files = {file.name: file for file in (tmp_path / "out" / FOLDER).iterdir()}
    assert {"report.dcm", "pdf.dcm"} <= files.keys()
    draft = Draft.load(tmp_path / "out" / "report.json")
    report = files["report.dcm"].read_bytes().decode("utf-8", "replace")
    for sentence in draft.sentences:
        assert sentence.text in report
    assert draft.disclaimer in report
    for file in files.values():
        assert problems(file) == []
        assert dcmread(file).StudyInstanceUID == HEADERS["StudyInstanceUID"]
    # Without --dicom, what is left of an older draft would pass for that of the new one.
    predict([series], report_folder, tmp_path / "out")
    assert not (tmp_path / "out" / FOLDER).exists()


@pytest.mark.slow
def test_a_batch_goes_on_and_says_which_draft_has_no_objects_and_why(
    series: Path, report_folder: Path, tmp_path: Path
) -> None:
    write_volume(tmp_path / "b.nii.gz", lps(body(1)))
    told: list[str] = []
    cts = [tmp_path / "b.nii.gz", series]
    options = Options(dicom=True, batch=True)
    first, second = predict(cts, report_folder, tmp_path / "out", options, told.append)
    assert (first.status, second.status, second.no_dicom) == ("drafted", "drafted", "")
    assert "NO DICOM: is no DICOM" in told[0]
    assert (first.ct.folder / "report.json").exists()
    assert not (first.ct.folder / FOLDER).exists()
    assert (second.ct.folder / FOLDER / "report.dcm").exists()


def test_the_command_ends_with_3_where_the_objects_asked_for_cannot_be_made(
    report_folder: Path, tmp_path: Path
) -> None:
    write_volume(tmp_path / "b.nii.gz", lps(body()))
    words = ["predict", str(tmp_path / "b.nii.gz"), "--model", str(report_folder)]
    out = ["--out", str(tmp_path / "out"), "--dicom"]
    result = CliRunner().invoke(app, [*words, *out])
    assert result.exit_code == 3
    assert "without its patient and study" in result.output
    assert (tmp_path / "out" / "report.json").exists()


def test_objects_are_never_written_into_an_input(report_folder: Path, tmp_path: Path) -> None:
    series = tmp_path / "out" / FOLDER
    write_series(series, lps(body()), edit=tagged())
    (series / "report.dcm").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="is an input"):
        predict([series], report_folder, tmp_path / "out", Options(dicom=True))
    assert (series / "report.dcm").read_bytes() == b"mine"

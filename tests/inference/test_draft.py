"""What a draft says of its CT and of its model, and what is known before any work is done."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.good_files import WRITERS
from tests.inference.conftest import body, forget, lps
from uvlm.data.ct.io import read_volume, write_volume
from uvlm.drafts.batch import Options, predict
from uvlm.drafts.build import DraftMaker
from uvlm.drafts.folder import FILES, check_places
from uvlm.drafts.inputs import inputs_of
from uvlm.errors import ConfigError, DataError, SetupError, UvlmError
from uvlm.inference.decoding import Ended
from uvlm.inference.predictor import Predictor
from uvlm.text.abnormalities import ABNORMALITIES


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    path = tmp_path / "cts" / "p01.nii.gz"
    write_volume(path, lps(body()))
    return path


def document(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "report.json").read_text(encoding="utf-8")))


def text(folder: Path) -> str:
    return (folder / "report.txt").read_text(encoding="utf-8")


def test_masks_of_an_untrained_decoder_are_neither_written_nor_left_from_before(
    ct: Path, report_folder: Path, tmp_path: Path
) -> None:
    out, told = tmp_path / "out", list[str]()
    predict([ct], report_folder, out)
    assert {path.name for path in out.iterdir()} == set(FILES)
    forget(report_folder, "segmentation")
    predict([ct], report_folder, out, tell=told.append)
    assert {path.name for path in out.iterdir()} == {"evidence.html", "report.txt", "report.json"}
    assert document(out)["not_trained"] == ["segmentation"]
    assert list(document(out)["probabilities"]) == list(ABNORMALITIES)
    assert document(out)["report"]
    assert "Segmentation was not trained: there are no masks." in text(out)
    assert told[0] == "Segmentation was not trained: there are no masks."


def test_probabilities_and_reports_are_not_made_up_either(
    ct: Path, report_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    forget(report_folder, "classifier")
    predict([ct], report_folder, out)
    assert document(out)["probabilities"] == {}
    assert document(out)["report"]
    assert "classifier was not trained" in text(out)
    forget(report_folder, "language")
    predict([ct], report_folder, out)
    assert (document(out)["report"], document(out)["findings"]) == ("", "")
    assert "The language decoder was not trained: there is no report." in text(out)
    assert "wrote nothing" not in text(out)
    assert (out / "segmentation.nii.gz").exists()


def test_a_folder_that_does_not_say_is_judged_by_its_weights_and_the_draft_says_that(
    ct: Path, report_folder: Path, tmp_path: Path
) -> None:
    """The fixture's U-Net has the weights of its seed; its other parts were moved away from it."""
    predict([ct], report_folder, tmp_path / "recorded")
    assert "weights were looked at" not in text(tmp_path / "recorded")
    config = json.loads((report_folder / "config.json").read_text(encoding="utf-8"))
    del config["trained"]
    (report_folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    out = tmp_path / "out"
    predict([ct], report_folder, out)
    assert document(out)["not_trained"] == ["encoder", "segmentation"]
    assert not (out / "segmentation.nii.gz").exists()
    assert "does not say which of its parts were trained" in document(out)["disclaimer"]


def test_a_draft_says_which_file_was_read_and_names_it_only_if_asked(
    report_folder: Path, tmp_path: Path
) -> None:
    ct, out, told = tmp_path / "cts" / "DOE^JOHN" / "ct.nrrd", tmp_path / "out", list[str]()
    ct.parent.mkdir(parents=True)
    WRITERS["nrrd, gzip"](ct.parent, lps(body())).rename(ct)
    (ct.parent / "notes of Dr Roe.txt").write_text("as dictated")
    predict([ct.parent], report_folder, out / "0", tell=told.append)
    read = document(out / "0")["provenance"]["read"]
    assert (read["kind"], read["files"], read["slices"]) == ("file", 1, 10)
    assert read["spacing_mm"] == pytest.approx([5.0, 2.0, 1.5])
    assert [part["files"] for part in read["left_out"]] == [1]
    for said in (json.dumps(read), text(out / "0").partition("Read: ")[2], told[-1]):
        assert read["id"] in said
        assert "Roe" not in said
    assert "10 slices" in text(out / "0")
    assert "10 slices" in told[-1]
    predict([ct], report_folder, out / "1", Options(names=True))
    assert document(out / "1")["provenance"]["read"]["name"] == "ct.nrrd"
    assert "ct.nrrd" in text(out / "1")


def test_a_draft_of_a_dicom_folder_names_series_and_what_was_left_out(
    report_folder: Path, tmp_path: Path
) -> None:
    folder = WRITERS["DICOM, jpeg_lossless"](tmp_path, lps(body()))
    (folder / "key image.jpg").write_bytes(b"\xff\xd8\xff")
    out = tmp_path / "out"
    predict([folder], report_folder, out)
    read = document(out)["provenance"]["read"]
    assert (read["kind"], read["slices"], read["files"]) == ("series", 10, 10)
    (left,) = read["left_out"]
    assert (left["files"], ".jpg" in left["what"], ".jpg" in text(out)) == (1, True, True)
    assert "2.25." not in json.dumps(read)  # its UID


def test_what_the_grid_cuts_off_is_said(report_folder: Path, tmp_path: Path) -> None:
    """A grid of 8 voxels of 2.5 mm covers 20 of 50 mm along z."""
    predictor = Predictor.load(report_folder)
    cut = {"resize": "resample_pad", "spacing_mm": (2.5, 2.0, 1.5), "grid": (8, 16, 16)}
    cutting = replace(predictor, preprocess=predictor.preprocess.model_copy(update=cut))
    prediction = cutting.predict_volume(lps(body()))
    assert prediction.grid_notes[0] == "60% of the CT along z lies outside the grid"


@pytest.mark.parametrize(
    ("ended", "note"),
    [("limit", "CUT SHORT"), ("loop", "repeat the same words"), ("held", "written again")],
)
def test_a_draft_says_how_its_report_ended(
    report_folder: Path, ct: Path, ended: Ended, note: str
) -> None:
    volume = read_volume(ct)
    prediction = Predictor.load(report_folder).predict_volume(volume)
    maker = DraftMaker(Predictor.load(report_folder), report_folder, names=False)
    as_ever, other = (
        maker.make("case", volume, replace(prediction, ended=each), "", packed=False).draft.notes
        for each in ("eos", ended)
    )
    assert not any(note in line for line in as_ever)
    assert [line for line in other if line not in as_ever] == [next(n for n in other if note in n)]


def test_what_cannot_be_written_is_known_before_the_model_is_read(ct: Path, tmp_path: Path) -> None:
    """The model folder does not exist, so a later complaint would be about it."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "taken" / "report.json").mkdir(parents=True)
    wrong: list[tuple[Path, type[UvlmError], str]] = [
        (tmp_path / "file", ConfigError, "is a file, not a folder"),
        (tmp_path / "file" / "below", SetupError, r"cannot be written \(Not a directory\)"),
        (tmp_path / "loop", ConfigError, "is a file, not a folder"),
        (tmp_path / "taken", ConfigError, r"--out: report\.json: is a folder"),
        (tmp_path / ("a" * 300), SetupError, "File name too long"),
        (tmp_path / ("a" * 300) / "b", SetupError, "File name too long"),
        (Path("/proc/drafts"), SetupError, "cannot be written"),
        (Path("/proc/1/drafts/deep"), SetupError, "cannot be written"),
    ]
    for out, kind, words in wrong:
        with pytest.raises(kind, match=words) as error:
            predict([ct], tmp_path / "no model", out)
        assert "\n" not in str(error.value)
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cts", "file", "loop", "taken"]


_UNPRIVILEGED = """
import os, sys
from pathlib import Path
from uvlm.errors import DataError, SetupError
from uvlm.drafts.folder import check_places
from uvlm.drafts.inputs import inputs_of
from uvlm.inference.draft_folder import filling
from uvlm.model.folder import read_config, read_contract
os.setuid(65534)
ct, locked, shared = map(Path, sys.argv[1:])
for out in (locked, locked / "new", locked / "new" / "deeper"):
    try:
        check_places(inputs_of([ct], out, names=True, batch=False))
    except SetupError as error:
        print(error.fact)
check_places(inputs_of([ct], shared, names=True, batch=False))
with filling(shared) as folder:
    (folder / "report.txt").write_text("draft")
print(sorted(path.name for path in shared.iterdir()))
model = ct.parent / "model"
for reading in (lambda: read_config(model, ["report"]), lambda: read_contract(model)):
    try:
        reading()
    except DataError as error:
        print(error.fact)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_files_are_refused_and_a_shared_folder_is_all_that_must_be_writable(
    ct: Path, report_folder: Path, tmp_path: Path
) -> None:
    model = report_folder.rename(ct.parent / "model")
    for name in ("config.json", "contract.json"):
        (model / name).chmod(0o600)
    locked, shared = tmp_path / "locked", tmp_path / "locked" / "shared"
    shared.mkdir(parents=True)
    for folder in (*list(tmp_path.parents)[:3], tmp_path, ct.parent, locked):
        folder.chmod(0o755)
    shared.chmod(0o777)
    run = subprocess.run(
        [sys.executable, "-c", _UNPRIVILEGED, str(ct), str(locked), str(shared)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    unwritable, unreadable = (
        f"cannot be {what} (Permission denied)" for what in ("written", "read")
    )
    assert run.stdout.splitlines() == [unwritable] * 3 + ["['report.txt']"] + [unreadable] * 2


def test_a_disk_that_fills_up_is_one_line_and_leaves_the_older_draft(
    ct: Path, report_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict([ct], report_folder, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limit[1]))
    try:
        with pytest.raises(SetupError, match=r"cannot be written \(File too large\)") as error:
            predict([ct], report_folder, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "\n" not in str(error.value)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_one_ct_under_two_names_or_two_cts_under_one_are_refused_before_any_work(
    ct: Path, tmp_path: Path
) -> None:
    twin = ct.with_name("p01.mha")
    twin.write_bytes(b"another format of the same stem")
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="CT 2: has the case id of CT 1"):
        inputs_of([ct, twin], out, names=True, batch=False)
    assert len({each.folder for each in inputs_of([ct, twin], out, names=False, batch=False)}) == 2
    with pytest.raises(ConfigError, match="CT 2: is the same as CT 1"):
        inputs_of([ct, ct.parent / ".." / "cts" / ct.name], out, names=False, batch=False)
    with pytest.raises(DataError, match=r"cannot be read \(File name too long\)"):
        check_places(inputs_of([ct.with_name("a" * 300)], out, names=False, batch=False))

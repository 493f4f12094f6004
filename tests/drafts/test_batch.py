"""Many CTs: resumed, a bad one among them, tables and zips, exit codes, all 48 orientations."""

from __future__ import annotations

import csv
import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks.good_files import ORDERS, WRITERS
from tests.inference.conftest import GRID, body, forget, lps
from uvlm.data.ct.grid import Geometry
from uvlm.data.ct.io import write_volume
from uvlm.data.ct.volume import Volume
from uvlm.drafts.batch import CASES, Options, Outcome, predict
from uvlm.drafts.folder import write_draft
from uvlm.drafts.inputs import inputs_of
from uvlm.errors import ConfigError, DataError, SetupError, UvlmError
from uvlm.inference.evidence.nearest import write_index
from uvlm.inference.predictor import Predictor
from uvlm.inference.segment import Segmenter
from uvlm.text.draft import Draft

nib: Any = nibabel  # has no types for what is used here


@pytest.fixture
def cts(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "the cts äöü"
    paths = [folder / name for name in ("a.nii.gz", "b c.nii.gz", "d.nii.gz")]
    for seed, path in enumerate(paths):
        write_volume(path, lps(body(seed)))
    return paths


def statuses(out: Path) -> list[str]:
    with (out / CASES).open(encoding="utf-8", newline="") as file:
        return [row["status"] for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_second_run_keeps_what_is_there_and_makes_the_rest(
    cts: list[Path], report_folder: Path, tmp_path: Path
) -> None:
    out, told = tmp_path / "out", list[str]()
    first = predict(cts[:2], report_folder, out, Options(batch=True))
    before = {each.ct.case_id: (each.ct.folder / "report.json").read_bytes() for each in first}
    again = predict(cts, report_folder, out, Options(batch=True), told.append)
    assert [each.status for each in again] == ["kept", "kept", "drafted"] == statuses(out)
    for case_id, content in before.items():
        assert (out / case_id / "report.json").read_bytes() == content
    assert [line.partition("  ")[0] for line in told] == ["1/3", "2/3", "3/3"]


@pytest.mark.slow
def test_what_changed_is_made_again(cts: list[Path], report_folder: Path, tmp_path: Path) -> None:
    """Another model, a changed CT, a missing file, a damaged draft, another option."""
    out, options = tmp_path / "out", Options(batch=True)

    def run(options: Options = options) -> list[str]:
        return [each.status for each in predict(cts[:2], report_folder, out, options)]

    assert run() == ["drafted", "drafted"]
    assert run() == ["kept", "kept"]
    write_volume(cts[0], lps(body(3)))
    os.utime(cts[0], ns=(1, 1))
    assert run() == ["drafted", "kept"]
    folder = inputs_of(cts[:2], out, names=False, batch=True)[1].folder
    (folder / "segmentation.nii.gz").unlink()
    assert run() == ["kept", "drafted"]
    (folder / "report.json").write_text('{"format_version": 2')
    assert run() == ["kept", "drafted"]
    assert run(Options(batch=True, unlike_training=True)) == ["drafted", "drafted"]
    forget(report_folder, "segmentation")
    assert run() == ["drafted", "drafted"]
    assert run() == ["kept", "kept"]  # although there are no masks


@pytest.mark.slow
@pytest.mark.parametrize("name", ["map_trust.json", "nearest.json"])
def test_a_draft_is_kept_only_with_what_its_evidence_was_made_from(
    cts: list[Path], report_folder: Path, tmp_path: Path, name: str
) -> None:
    def statuses_now() -> list[str]:
        found = predict(cts[:1], report_folder, tmp_path / "out", Options(batch=True))
        return [each.status for each in found]

    assert statuses_now() == ["drafted"]
    assert statuses_now() == ["kept"]
    model = Predictor.load(report_folder).model
    if name == "nearest.json":
        size = model.classifier.embed(torch.zeros(1, 4 * 4 * 2, 8)).shape[1]
        write_index(report_folder, model.sha256, [("a", "Report a.")], torch.ones(1, size))
    else:
        removal = {"here": 0.9, "elsewhere": 0.0, "count": 200}
        record = {"model_sha256": model.sha256, "planted": removal, "maps": {}}
        (report_folder / name).write_text(json.dumps(record), encoding="utf-8")
    assert statuses_now() == ["drafted"]
    assert statuses_now() == ["kept"]
    page = (tmp_path / "out").glob("*/evidence.html")
    assert ("Report a." in next(page).read_text(encoding="utf-8")) == (name == "nearest.json")


def test_one_ct_is_made_again_every_time(
    cts: list[Path], report_folder: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        (outcome,) = predict(cts[:1], report_folder, tmp_path / "out")
        assert (outcome.status, outcome.ct.folder) == ("drafted", tmp_path / "out")
    assert not (tmp_path / "out" / CASES).exists()


@pytest.mark.slow
def test_an_interrupted_run_says_what_it_did_and_goes_on_from_there(
    cts: list[Path], report_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    done: list[int] = []

    def interrupted(*args: object) -> None:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(1)
        write_draft(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("uvlm.drafts.batch.write_draft", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(cts, report_folder, out)
    assert statuses(out) == ["drafted"]
    monkeypatch.setattr("uvlm.drafts.batch.write_draft", write_draft)
    assert [each.status for each in predict(cts, report_folder, out)] == [
        *("kept", "drafted", "drafted")
    ]


@pytest.mark.slow
def test_a_table_names_cts_beside_it_and_their_ids(
    cts: list[Path], report_folder: Path, tmp_path: Path
) -> None:
    table = cts[0].parent / "list.csv"
    table.write_text('id,ct,note\np1,a.nii.gz,\np2,"b c.nii.gz",x\n', encoding="utf-8")
    named = predict([table], report_folder, tmp_path / "named", Options(names=True))
    assert [each.ct.case_id for each in named] == ["p1", "p2"]
    hidden = predict([table, cts[2]], report_folder, tmp_path / "hidden")
    assert all(each.ct.case_id.startswith("ct-") for each in hidden)
    assert len(hidden) == 3


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("", DataError, "the table is empty"),
        ("ct\n", DataError, "names no CT"),
        ("ct,id\n,1\n", DataError, "has no path in column 'ct': row 1"),
        ("id,ct\n../x,a.nii.gz\n", ConfigError, "CT 1: has an id that cannot name a folder"),
        ("id,ct\n..,a.nii.gz\n", ConfigError, "CT 1: has an id that cannot name a folder"),
        ("ct\na.nii.gz\n./a.nii.gz\n", ConfigError, "CT 2: is the same as CT 1"),
        ("id,ct\n1,a.nii.gz\n1,d.nii.gz\n", ConfigError, "CT 2: has the case id of CT 1"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_before_any_work(
    text: str, kind: type[UvlmError], words: str, cts: list[Path], tmp_path: Path
) -> None:
    table = cts[0].parent / "list.csv"
    table.write_text(text, encoding="utf-8")
    with pytest.raises(kind, match=words):
        predict([table], tmp_path / "no model", tmp_path / "out", Options(names=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_zip_of_a_ct_gives_the_draft_of_the_ct(report_folder: Path, tmp_path: Path) -> None:
    folder = WRITERS["DICOM, jpeg_lossless"](tmp_path, lps(body()))
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as file:
        for path in sorted(folder.iterdir()):
            file.write(path, f"DOE JANE/{path.name}")
    reports = []
    for name in (folder.name, "study.zip"):
        predict([tmp_path / name], report_folder, tmp_path / "out" / name)
        reports.append(Draft.load(tmp_path / "out" / name / "report.json"))
    loose, packed = reports
    assert packed.provenance.voxels_sha256 == loose.provenance.voxels_sha256
    assert packed.report == loose.report
    assert (loose.provenance.read.packed, packed.provenance.read.packed) == (False, True)
    assert packed.provenance.read.id == loose.provenance.read.id  # of the series


@pytest.mark.slow
def test_bad_cases_do_not_stop_the_others_and_the_worst_gives_the_exit_code(
    cts: list[Path], report_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = cts[0].with_name("cut.nii.gz")
    cut.write_bytes(cts[0].read_bytes()[:-40])
    missing = cts[0].with_name("missing.nii.gz")
    out = tmp_path / "out"
    with pytest.raises(DataError, match="2 of 5 CTs were refused") as refused:
        predict([missing, cts[0], cut, *cts[1:]], report_folder, out)
    assert refused.value.exit_code == 3
    assert statuses(out) == ["refused", "drafted", "refused", "drafted", "drafted"]

    def full(self: Predictor, *args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    def bug(self: Predictor, *args: object, **options: object) -> None:
        raise KeyError("Mrs Doe")

    for broken, kind, code in ((full, SetupError, 4), (bug, UvlmError, 70)):
        monkeypatch.setattr(Predictor, "predict_volume", broken)
        with pytest.raises(kind) as error:
            predict([cts[0], cut], report_folder, tmp_path / broken.__name__)
        assert error.value.exit_code == code
        assert "Doe" not in str(error.value) + error.value.details
        assert "\n" not in str(error.value)
    with pytest.raises(UvlmError) as error:
        predict([cts[0], cut], report_folder, tmp_path / "named", Options(names=True))
    assert "Traceback" in error.value.details


class BoneFinder(Segmenter):
    """Class 7 where the window shows more than 500 HU."""

    def labels(self, voxels: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        return np.where(voxels > 0.5, 7, 0).astype(np.uint8)


@pytest.mark.slow
def test_a_known_mask_comes_back_exactly_in_all_48_orientations(
    report_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bone at random voxels, found on the network's grid and compared by nibabel in the files."""
    forget(report_folder, "language")
    predictor = Predictor.load(report_folder)
    rng = np.random.default_rng(1)
    bone = rng.random(GRID) < 0.2
    soft = rng.integers(-60, 60, GRID) + np.where(np.indices(GRID)[0] < 2, -950, 0)
    hu = np.where(bone, 900, soft).astype(np.int16)
    finder = BoneFinder(predictor.segmenter.unet, GRID, predictor.segmenter.device)
    predictor = replace(predictor, segmenter=finder)
    monkeypatch.setattr(Predictor, "load", lambda directory, claim_more, spans: predictor)
    codes = set()
    for number, order in enumerate(ORDERS):
        affine = order.stored_affine(lps(hu).affine, hu.shape)
        path, out = tmp_path / f"{number}.nii.gz", tmp_path / "out" / str(number)
        write_volume(path, Volume(order.backward(hu), affine))
        predict([path], report_folder, out)
        mask, ct = nib.load(out / "segmentation.nii.gz"), nib.load(path)
        codes.add(nib.aff2axcodes(ct.affine))
        np.testing.assert_array_equal(np.asarray(mask.dataobj) == 7, np.asarray(ct.dataobj) == 900)
        np.testing.assert_allclose(mask.affine, ct.affine, atol=1e-4)
    assert len(codes) == len(ORDERS) == 48


def test_a_mask_of_whole_grid_voxels_has_dice_1_on_a_finer_ct_in_all_48_orientations() -> None:
    """Each voxel of the grid is 2 x 2 x 2 of the CT's."""
    ids = np.random.default_rng(2).integers(0, 9, GRID).astype(np.uint8)
    whole = ids.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    canonical = lps(whole.astype(np.int16)).affine
    for order in ORDERS:
        stored = order.backward(whole)
        affine = order.stored_affine(canonical, whole.shape)
        z, y, x = stored.shape
        back = Geometry((z, y, x), affine, GRID, (2.0, 2.0, 2.0)).labels_to_native(ids)
        np.testing.assert_array_equal(back.array, stored)
        np.testing.assert_array_equal(back.affine, affine)


def test_every_output_says_what_it_is_worth(
    cts: list[Path], report_folder: Path, tmp_path: Path
) -> None:
    (outcome,) = predict(cts[:1], report_folder, tmp_path / "out")
    assert isinstance(outcome, Outcome)
    document = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    for text in (document["disclaimer"], (tmp_path / "out" / "report.txt").read_text("utf-8")):
        assert "UNREVIEWED RESEARCH DRAFT" in text
        assert "Not a medical device" in text

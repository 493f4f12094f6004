"""`predict`: files in, drafts out, nothing half-written, the input untouched."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest

from tests.inference.conftest import NAMES, body, lps
from uvlm.config import Params
from uvlm.data.contract import contract_sha256
from uvlm.data.ct.io import read_volume, write_volume
from uvlm.data.ct.origin import salted_id
from uvlm.drafts.batch import Options, predict
from uvlm.drafts.folder import disclaimer_of
from uvlm.drafts.inputs import case_id_of
from uvlm.errors import ConfigError, DataError, SetupError, UvlmError
from uvlm.files import file_sha256
from uvlm.inference import draft_folder
from uvlm.inference.predictor import Predictor
from uvlm.inference.report_writer import printable
from uvlm.inference.segment import Segmenter
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.draft import Draft

nib: Any = nibabel  # has no types for what is used here
FILES = [
    *("evidence.html", "report.json", "report.txt"),
    *("segmentation.json", "segmentation.nii.gz"),
]


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    path = tmp_path / "cts" / "valid_1_a_1.nii.gz"
    write_volume(path, lps(body()))
    return path


def everything_below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def document(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "report.json").read_text(encoding="utf-8")))


def test_one_ct_gives_a_report_its_numbers_and_a_segmentation(
    ct: Path, report_folder: Path, tmp_path: Path, params: Params
) -> None:
    before = hashlib.sha256(ct.read_bytes()).hexdigest()
    out = tmp_path / "new" / "out"
    (outcome,) = predict([ct], report_folder, out)
    assert (outcome.ct.folder, outcome.status) == (out, "drafted")
    assert everything_below(out) == FILES
    assert hashlib.sha256(ct.read_bytes()).hexdigest() == before
    assert everything_below(ct.parent) == [ct.name]
    found = document(out)
    assert found == Draft.load(out / "report.json").model_dump(mode="json")
    assert found["case_id"] == f"ct-{salted_id(str(ct.resolve()), digits=12)}"
    assert list(found["probabilities"]) == list(ABNORMALITIES)
    assert all(0 <= p <= 1 for p in found["probabilities"].values())
    assert found["provenance"]["model_sha256"] == file_sha256(report_folder / "config.json")
    assert found["provenance"]["contract_sha256"] == contract_sha256(params.preprocess)
    assert found["findings"] in found["report"]
    steps = ["read", "prepare", "segment", "compare", "describe", "check"]
    assert sorted(found["provenance"]["seconds"]) == sorted(steps)
    assert (
        " ".join(s["text"] for s in found["sentences"] if s["part"] == "findings")
        == (found["findings"])
    )
    names = json.loads((out / "segmentation.json").read_text(encoding="utf-8"))
    assert [names[str(i)] for i in range(len(NAMES))] == list(NAMES)


def test_every_draft_says_what_it_is_worth(ct: Path, report_folder: Path, tmp_path: Path) -> None:
    predict([ct], report_folder, tmp_path / "out")
    found = document(tmp_path / "out")
    text = (tmp_path / "out" / "report.txt").read_text(encoding="utf-8")
    assert text.startswith(found["disclaimer"])
    assert found["findings"] in text
    for words in ("UNREVIEWED RESEARCH DRAFT", "Not a medical device", "synthetic phantoms only"):
        assert words in text


def test_only_a_model_that_says_it_knows_patients_loses_the_warning_about_phantoms() -> None:
    real = disclaimer_of({"download": {"source": "ct_rate"}})
    assert "medical device" in real
    assert "phantom" not in real
    assert "does not say" in disclaimer_of({})


class BoneFinder(Segmenter):
    """Class 7 where the window shows more than 500 HU."""

    def labels(self, voxels: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        return np.where(voxels > 0.5, 7, 0).astype(np.uint8)


@pytest.mark.parametrize("codes", ["LPS", "RAS", "SRP", "PIR"])
def test_the_segmentation_lies_on_the_ct_in_its_own_axes(
    codes: str, report_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_volume(tmp_path / "lps.nii.gz", lps(body(shape=(8, 16, 16))))
    image: Any = nib.load(tmp_path / "lps.nii.gz")
    there = nib.orientations.io_orientation(image.affine)
    wanted = nib.orientations.axcodes2ornt(tuple(codes))
    turned = image.as_reoriented(nib.orientations.ornt_transform(there, wanted))
    nib.save(turned, tmp_path / "turned.nii.gz")
    segmenter = BoneFinder(None, (8, 8, 8), Predictor.load(report_folder).writer.device)
    monkeypatch.setattr(Segmenter, "of", lambda *_: segmenter)
    predict([tmp_path / "turned.nii.gz"], report_folder, tmp_path / "out")
    mask: Any = nib.load(tmp_path / "out" / "segmentation.nii.gz")
    assert mask.get_data_dtype() == np.uint8
    assert nib.aff2axcodes(mask.affine) == tuple(codes)
    np.testing.assert_allclose(mask.affine, turned.affine, atol=1e-4)
    bone = np.asarray(turned.dataobj) > 500
    assert bone.any()
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.where(bone, 7, 0))


def test_orientation_of_the_file_does_not_change_the_report(
    report_folder: Path, tmp_path: Path
) -> None:
    write_volume(tmp_path / "a.nii.gz", lps(body()))
    image: Any = nib.load(tmp_path / "a.nii.gz")
    nib.save(nib.as_closest_canonical(image), tmp_path / "b.nii.gz")
    assert read_volume(tmp_path / "b.nii.gz").orientation() == "RAS"
    predictor = Predictor.load(str(report_folder))
    first, second = (predictor.predict(str(tmp_path / name)) for name in ("a.nii.gz", "b.nii.gz"))
    assert first.report == second.report
    assert first.probabilities == second.probabilities
    assert first.report.text


def test_predicting_does_not_change_the_volume(report_folder: Path) -> None:
    volume = lps(body())
    copy = volume.array.copy()
    Predictor.load(report_folder).predict_volume(volume)
    np.testing.assert_array_equal(volume.array, copy)


def test_several_cts_get_a_folder_each_and_a_bad_one_does_not_stop_the_others(
    ct: Path, report_folder: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cts" / "cut.nii.gz"
    cut.write_bytes(ct.read_bytes()[:-40])
    last = tmp_path / "cts" / "z.nii.gz"
    write_volume(last, lps(body(3)))
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"1 of 3 CTs were refused: .*cut\.nii\.gz") as error:
        predict([ct, cut, last], report_folder, out, Options(names=True))
    assert "\n" not in str(error.value)
    written = [f"{c}/{f}" for c in ("valid_1_a_1", "z") for f in FILES]
    assert everything_below(out) == sorted(["cases.csv", *written])
    assert document(out / "z")["case_id"] == "z"


def test_other_files_in_the_folder_stay_and_older_drafts_are_replaced(
    ct: Path, report_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "report.txt").write_text("old")
    predict([ct], report_folder, out)
    assert everything_below(out) == sorted([*FILES, "notes.txt"])
    assert (out / "notes.txt").read_text() == "mine"
    assert "old" not in (out / "report.txt").read_text()


def test_a_failed_write_leaves_nothing_behind(
    ct: Path, report_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(draft_folder, "write_label_map", full)
    before = everything_below(tmp_path)
    with pytest.raises(SetupError, match="No space left"):
        predict([ct], report_folder, tmp_path / "out")
    assert everything_below(tmp_path) == before
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".tmp")]


def damage_weights(folder: Path) -> None:
    path = folder / "decoder.safetensors"
    payload = bytearray(path.read_bytes())
    payload[-1] ^= 1
    path.write_bytes(payload)


def edit_contract(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "contract.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def remove_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (damage_weights, r"decoder\.safetensors: sha256 is"),
        (edit_contract(window_hu=[-500, 500]), r"contract\.json: window_hu is \[-500, 500\]"),
        (edit_contract(grid=[8, 8, 8]), r"contract\.json: grid is \[8, 8, 8\]"),
        (edit_contract(version=99), "version is 99"),
        (edit_contract(spacing="1mm"), "spacing: Extra inputs"),
        (edit_contract(label_names=["background"]), "label_names"),
        (remove_tokenizer, r"tokenizer\.json: no such file"),
    ],
)
def test_a_spoilt_model_folder_is_refused_in_one_line_before_anything_is_written(
    spoil: Callable[[Path], None], words: str, ct: Path, report_folder: Path, tmp_path: Path
) -> None:
    spoil(report_folder)
    with pytest.raises(DataError, match=words) as error:
        predict([ct], report_folder, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_another_kind_of_model_is_refused(ct: Path, seg_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds a seg model, expected report"):
        predict([ct], seg_folder, tmp_path / "out")
    with pytest.raises(DataError, match="nowhere: no such folder"):
        predict([ct], tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unusable_cts_and_places_are_refused_in_one_line(
    ct: Path, report_folder: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.nii.gz"
    empty.write_bytes(b"")
    twin = tmp_path / "twin" / ct.name
    write_volume(twin, lps(body()))
    write_volume(twin.with_name("valid_1_a_2.nii.gz"), lps(body()))
    taken = tmp_path / "segmentation.nii.gz"
    write_volume(taken, lps(body()))
    payload = taken.read_bytes()
    wrong: list[tuple[list[Path], Path, type[UvlmError], str]] = [
        ([tmp_path / "none.nii.gz"], tmp_path / "out", DataError, "no such file"),
        ([empty], tmp_path / "out", DataError, "is empty"),
        ([tmp_path], tmp_path / "out", ConfigError, "lies inside an input"),
        ([twin.parent], tmp_path / "out", DataError, "pass the one that is meant"),
        ([ct, twin], tmp_path / "out", ConfigError, "has the case id of CT 1"),
        ([taken], tmp_path, ConfigError, "is an input"),
        ([ct], empty, ConfigError, "is a file"),
    ]
    for cts, out, kind, words in wrong:
        with pytest.raises(kind, match=words) as error:
            predict(cts, report_folder, out, Options(names=True))
        assert "\n" not in str(error.value)
    assert taken.read_bytes() == payload
    assert not (tmp_path / "out").exists()


def test_a_draft_for_a_model_that_windows_its_ct_covers_the_whole_ct(
    report_folder: Path, ct: Path
) -> None:
    """Grid 8x16x16 is four patches of 8x8x8; half of that patch forces windows."""
    predictor = Predictor.load(report_folder)
    assert predictor.segmenter.patch == (8, 8, 8)
    windowed = replace(predictor, segmenter=replace(predictor.segmenter, patch=(4, 8, 8)))
    whole, parts = predictor.predict(ct).label_map, windowed.predict(ct).label_map
    assert whole is not None
    assert parts is not None
    assert whole.array.shape == parts.array.shape == (10, 20, 24)
    assert len(np.unique(parts.array)) > 1


@pytest.mark.parametrize(
    ("name", "case_id"),
    [
        ("a.nii.gz", "a"),
        ("a.b.nii", "a.b"),
        ("A.NII.GZ", "A"),
        ("series", "series"),
        ("a.nrrd", "a"),
        ("a.2.MHA", "a.2"),
        ("study.v2.zip", "study.v2"),
    ],
)
def test_case_ids_carry_no_ending(name: str, case_id: str) -> None:
    assert case_id_of(Path("folder") / name) == case_id


def test_generated_text_cannot_steer_a_terminal() -> None:
    assert printable("No\x1b[2J effusion.\u202e\n") == "No [2J effusion.  "


@pytest.mark.slow
def test_a_real_ct_gets_a_segmentation_on_its_own_grid(
    real_data: Path, report_folder: Path, tmp_path: Path
) -> None:
    ct = real_data / "ct" / "chest_abdomen_3mm.nii.gz"
    predict([ct], report_folder, tmp_path / "out")
    image: Any = nib.load(ct)
    mask: Any = nib.load(tmp_path / "out" / "segmentation.nii.gz")
    assert mask.shape == image.shape == (122, 101, 112)
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)
    with pytest.raises(DataError, match="not a CT in Hounsfield units"):
        predict([real_data / "bad" / "mr_not_ct.nii.gz"], report_folder, tmp_path / "mr")
    assert not (tmp_path / "mr").exists()

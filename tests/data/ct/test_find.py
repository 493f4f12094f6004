"""A folder is the one CT anywhere below it, whatever else people and machines leave there."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.dicom_series import write_series
from tests.data.ct.formats.conftest import refusal
from uvlm.data.ct.check import check_ct
from uvlm.data.ct.find import find_ct, without_suffix
from uvlm.data.ct.io import read_volume, write_volume
from uvlm.data.ct.origin import salt_file, salted_id
from uvlm.data.ct.volume import Volume


@pytest.fixture
def ct(volume: Volume) -> Volume:
    """A CT that DICOM files can hold, ten slices of 12 x 14."""
    return Volume(np.maximum(volume.array, -1024), np.abs(volume.affine))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "p01").mkdir()
    return tmp_path / "p01"


@pytest.mark.parametrize("name", ["p01.nii.gz", "ct.nii", "a/b/x.v2.NII.GZ"])
def test_a_folder_with_one_nifti_is_that_ct(folder: Path, ct: Volume, name: str) -> None:
    write_volume(folder.with_name("ct.nii.gz"), ct)
    packed = folder.with_name("ct.nii.gz").read_bytes()
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(gzip.decompress(packed) if name.endswith("nii") else packed)
    read = read_volume(folder)
    np.testing.assert_array_equal(read.array, ct.array)
    assert read.origin
    assert (read.origin.kind, read.origin.slices) == ("file", 10)
    assert read.origin.paths == (folder / name,)
    assert read.origin.spacing_mm == pytest.approx((3.0, 0.7, 0.8))


def test_several_niftis_are_named_and_refused(folder: Path, ct: Volume) -> None:
    for name in ("ct.nii.gz", "seg.nii.gz"):
        write_volume(folder / name, ct)
    error = refusal(folder)
    assert (error.reason, "ct.nii.gz and seg.nii.gz" in error.fact) == ("several_cts", True)


def test_a_nifti_beside_dicom_slices_is_ambiguous_and_beside_a_report_object_it_is_not(
    folder: Path, ct: Volume
) -> None:
    write_volume(folder / "ct.nii.gz", ct)
    write_series(folder / "D", ct)
    assert "ct.nii.gz and 10 DICOM slices" in refusal(folder).fact
    for path in (folder / "D").iterdir():
        path.unlink()

    def structured_report(dataset: object, number: int) -> bool:
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.22"  # type: ignore[attr-defined]
        return number == 0

    write_series(folder / "D", ct, edit=structured_report)
    origin = find_ct(folder).origin
    assert origin.paths == (folder / "ct.nii.gz",)
    assert [part.what for part in origin.left_out] == ["Enhanced SR Storage (CT)"]


def test_a_note_without_suffix_may_lie_beside_slices_and_a_damaged_slice_may_not(
    folder: Path, ct: Volume
) -> None:
    write_series(folder, ct)
    (folder / "remarks").write_text("Für Anna:\r\nsecond reading\n", encoding="utf-8")
    assert [part.reason for part in find_ct(folder).origin.left_out] == ["not DICOM"]
    (folder / "IM").write_bytes(b"\0" * 200)
    error = refusal(folder)
    assert (error.reason, error.subject) == ("not_dicom", str(folder / "IM"))


def test_a_packed_folder_is_to_be_unpacked(folder: Path) -> None:
    (folder / "study.zip").write_bytes(b"PK\3\4")
    assert refusal(folder).remedy == "unpack it"


def test_hidden_files_and_folders_are_not_looked_at(folder: Path, ct: Volume) -> None:
    write_series(folder / "SE1", ct)
    write_series(folder / ".trash", ct, series="2")
    for name in (".DS_Store", "SE1/._00013_1", "SE1/.hidden.nii.gz"):
        (folder / name).write_bytes(b"\0" * 300)
    assert find_ct(folder).origin.left_out == ()


def test_links_are_followed_once_and_never_in_circles(folder: Path, ct: Volume) -> None:
    archive = folder.with_name("archive")
    write_series(archive, ct)
    (folder / "DICOM").symlink_to(archive)
    (folder / "again").symlink_to(archive)
    (archive / "up").symlink_to(folder)
    assert len(find_ct(folder).origin.paths) == 10
    np.testing.assert_array_equal(read_volume(folder).array, ct.array)


def test_a_slice_that_is_a_link_to_nothing_is_missed(folder: Path, ct: Volume) -> None:
    write_series(folder, ct)
    last = sorted(folder.iterdir())[-1]
    last.unlink()
    last.symlink_to(folder / "gone")
    error = refusal(folder)
    assert (error.reason, error.subject) == ("unreadable", str(last))


def test_a_pipe_is_not_waited_for(folder: Path, ct: Volume) -> None:
    write_series(folder, ct)
    os.mkfifo(folder / "pipe")
    assert [part.what for part in find_ct(folder).origin.left_out] == ["other"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_listed_is_refused_and_not_skipped(
    folder: Path, ct: Volume
) -> None:
    write_series(folder / "a", ct)
    write_series(folder / "b", ct, series="2")
    (folder / "b").chmod(0)
    try:
        assert "cannot be listed" in refusal(folder).fact
    finally:
        (folder / "b").chmod(0o700)


def test_names_of_files_are_told_only_if_asked_for(folder: Path, ct: Volume) -> None:
    write_series(folder / "Doe^Jane", ct)
    (folder / "Doe.txt").write_text("a note")
    check = check_ct(folder, None)
    assert "Doe" not in f"{check.to_json()['source']}"
    assert "Doe" not in check.to_text()
    assert "2.25.1" not in check.to_text()
    assert "2.25.1 'Chest 1'" in check.to_text(names=True)
    assert "Doe^Jane" in f"{check.to_json(names=True)['source']}"


def test_files_of_one_name_in_two_folders_have_two_ids(folder: Path, ct: Volume) -> None:
    ids = []
    for name in ("p01", "p02"):
        (folder / name).mkdir()
        write_volume(folder / name / "ct.nii.gz", ct)
        by_folder, by_file = find_ct(folder / name), find_ct(folder / name / "ct.nii.gz")
        assert by_folder.origin.salted_id == by_file.origin.salted_id
        ids.append(by_file.origin.salted_id)
    assert ids[0] != ids[1]


def test_an_id_is_the_same_for_one_salt_and_tells_nothing_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = []
    for salt in ("one", "two", "one"):
        monkeypatch.setenv("UVLM_SALT", salt)
        ids.append(salted_id("1.2.3"))
    assert ids[0] == ids[2] != ids[1]
    assert salted_id("1.2.4") != ids[0]
    assert salted_id("1.2.3", digits=12).startswith(salted_id("1.2.3"))


def test_without_a_salt_each_user_gets_a_random_one_that_nobody_else_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UVLM_SALT")
    ids = []
    for home in ("one", "two", "one"):
        monkeypatch.setenv("HOME", str(tmp_path / home))
        ids.append(salted_id("1.2.3"))
    assert ids[0] == ids[2] != ids[1]
    assert salt_file().stat().st_mode & 0o777 == 0o600
    assert len(salt_file().read_text().strip()) == 64
    assert [path.name for path in salt_file().parent.iterdir()] == ["salt"]
    monkeypatch.setenv("HOME", "/proc/nobody")  # cannot be written
    assert salted_id("1.2.3") == salted_id("1.2.3") not in ids


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NRRD", ".nhdr", ".mha", ".mhd"])
def test_the_suffix_of_an_image_is_no_part_of_its_name(suffix: str) -> None:
    assert without_suffix(f"p01.v2{suffix}") == "p01.v2"

"""Zips: one CT comes out as it went in, and everything else is refused by name, leaving nothing."""

from __future__ import annotations

import stat
import struct
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from uvlm.data.ct import archive
from uvlm.data.ct.archive import is_zip, unpacked
from uvlm.errors import ReadError


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary files of Ümlaut"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def packed(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, payload in entries:
            file.writestr(name, payload)
    return path


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


def test_what_was_packed_is_there_for_as_long_as_it_is_read(
    tmp_path: Path, temporary: Path
) -> None:
    files = {"a b/ü.dcm": b"\0" * 300, "a b/c/2.dcm": b"DICM", "ct.nii.gz": b"\x1f\x8b123"}
    path = packed(tmp_path / "ct.ZIP", *files.items())
    assert is_zip(path)
    with unpacked(path) as folder:
        found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
        assert {name: p.read_bytes() for name, p in found.items()} == files
        assert folder.parent == temporary
        assert folder.stat().st_mode & 0o077 == 0
    assert list(temporary.iterdir()) == []


def test_an_error_of_the_reader_is_not_taken_for_one_of_the_zip(
    tmp_path: Path, temporary: Path
) -> None:
    path = packed(tmp_path / "ct.zip", ("a", b"a"))
    with pytest.raises(ValueError, match="mine"), unpacked(path):
        raise ValueError("mine")
    assert list(temporary.iterdir()) == []


WRONG = {
    "path_traversal": [
        *("../evil", "a/../../evil", "/etc/evil", "C:/evil", "a\\..\\evil", "a\x1b[2J", "a" * 300),
    ],
    "nested_archive": ["a.zip", "b/a.TAR", "a.tar.gz", "a.7z", "x.rar", "slices.gz"],
}


@pytest.mark.parametrize(("reason", "name"), [(r, n) for r, names in WRONG.items() for n in names])
def test_a_bad_name_is_refused_before_anything_is_written(
    reason: str, name: str, tmp_path: Path, temporary: Path
) -> None:
    path = packed(tmp_path / "ct.zip", ("good", b"good"), (name, b"x"))
    with pytest.raises(ReadError, match="entry 2") as error, unpacked(path):
        raise AssertionError("it was unpacked")
    assert error.value.reason == reason
    assert name not in str(error.value)
    assert "\n" not in error.value.named
    assert sorted(tmp_path.rglob("*evil*")) == []
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x1f\x8b\x08", b"7z\xbc\xaf\x27\x1c", b"BZh9"])
def test_an_archive_under_another_name_is_refused_too(start: bytes, tmp_path: Path) -> None:
    path = packed(tmp_path / "ct.zip", ("1.dcm", start + b"\0" * 100))
    with pytest.raises(ReadError, match="entry 1 is an archive itself") as error, unpacked(path):
        raise AssertionError("it was unpacked")
    assert error.value.reason == "nested_archive"


def test_links_and_pipes_are_refused(tmp_path: Path) -> None:
    pipe = zipfile.ZipInfo("pipe")
    pipe.create_system, pipe.external_attr = 3, (stat.S_IFIFO | 0o777) << 16
    for info, reason in ((link("ct"), "symlink"), (pipe, "special_file")):
        path = packed(tmp_path / "ct.zip", (info, b"/etc/passwd"))
        with pytest.raises(ReadError) as error, unpacked(path):
            raise AssertionError("it was unpacked")
        assert error.value.reason == reason


@pytest.mark.slow
def test_bombs_are_refused_by_their_list_of_contents(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a GB of zeros; many files; and a list that says a file is shorter than it is."""
    bomb = tmp_path / "zeros.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file, file.open("0", "w") as zeros:
        for _ in range(320):
            zeros.write(bytes(1 << 20))
    assert bomb.stat().st_size < 1 << 20
    monkeypatch.setattr(archive, "_MOST_FILES", 50)
    many = packed(tmp_path / "many.zip", *((str(i), b"") for i in range(51)))
    for path in (bomb, many):
        with pytest.raises(ReadError, match="more than any CT has") as error, unpacked(path):
            raise AssertionError("it was unpacked")
        assert error.value.reason == "zip_bomb"
    assert list(temporary.iterdir()) == []


def test_a_file_that_is_longer_than_it_says_is_never_written_whole(
    tmp_path: Path, temporary: Path
) -> None:
    path = packed(tmp_path / "ct.zip", ("a", bytes(100_000)))
    payload = bytearray(path.read_bytes())
    size = struct.pack("<I", 100_000)
    assert payload.count(size) == 2  # of the file and of the list
    path.write_bytes(payload.replace(size, struct.pack("<I", 10)))
    with pytest.raises(ReadError) as error, unpacked(path):
        raise AssertionError("it was unpacked")
    assert error.value.reason in ("zip_bomb", "damaged_zip")
    assert list(temporary.iterdir()) == []


def test_damage_is_refused_or_harmless(tmp_path: Path, temporary: Path) -> None:
    whole = packed(tmp_path / "ct.zip", ("a", bytes(range(256)) * 400)).read_bytes()
    for place in range(0, len(whole), 7):
        for spoilt in (whole[:place], whole[:place] + b"\xff" + whole[place + 1 :]):
            (tmp_path / "bad.zip").write_bytes(spoilt)
            # A byte that nothing depends on does no harm; any other error than this fails the test.
            with suppress(ReadError), unpacked(tmp_path / "bad.zip") as folder:
                for file in folder.iterdir():
                    assert file.read_bytes() == bytes(range(256)) * 400
            assert list(temporary.iterdir()) == []


def test_a_password_and_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "twice.zip", ("a.dcm", b"1"), ("A.dcm", b"2"))
    with pytest.raises(ReadError, match="entry 2 has the name of another"), unpacked(path):
        raise AssertionError("it was unpacked")
    locked = bytearray(packed(tmp_path / "locked.zip", ("a.dcm", b"1")).read_bytes())
    locked[6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    with pytest.raises(ReadError) as error, unpacked(tmp_path / "locked.zip"):
        raise AssertionError("it was unpacked")
    assert error.value.reason == "encrypted_zip"

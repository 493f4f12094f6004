"""Uploads as another library writes them, cut anywhere, and all that is no upload."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx2
import numpy as np
import pytest

from uvlm.serve.received import ENDINGS, Upload, UploadRefused, receive

GZIP = b"\x1f\x8b" + bytes(range(256)) * 5
GOOD = {
    ".nii.gz": GZIP,
    ".nii": (348).to_bytes(4, "big") + bytes(600),
    ".nrrd": b"NRRD0004\ntype: short\n",
    ".mha": b"ObjectType = Image\nNDims = 3\n",
    ".zip": b"PK\x03\x04" + bytes(40),
}
LARGEST = 1 << 16
File = tuple[str, bytes]


def form(files: list[tuple[str, File]], fields: dict[str, str] | None = None) -> tuple[bytes, str]:
    request = httpx2.Request("POST", "http://127.0.0.1/", files=files, data=fields or {})
    return request.read(), request.headers["content-type"]


def take(body: bytes, content_type: str, folder: Path, size: int = 1 << 20) -> Upload:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    folder.mkdir(exist_ok=True)
    return asyncio.run(receive(chunks(), content_type, folder, LARGEST))


def refusal(body: bytes, content_type: str, folder: Path) -> int:
    with pytest.raises(UploadRefused) as caught:
        take(body, content_type, folder)
    assert "patient" not in caught.value.line.lower()
    return caught.value.status


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_arrives_byte_by_byte_and_is_called_by_its_type(ending: str, tmp_path: Path) -> None:
    name = f'../..\\Pätient "Ä" Müller{ending.upper()}'
    body, kind = form([("ct", (name, GOOD[ending]))], {"unlike_training": "yes"})
    for size in (1, 7, 64, len(body)):
        folder = tmp_path / str(size)
        upload = take(body, kind, folder, size)
        assert upload.path == folder / f"ct{ending}"
        assert upload.path.read_bytes() == GOOD[ending]
        assert upload.fields == {"unlike_training": "yes"}
        assert [path.name for path in folder.iterdir()] == [f"ct{ending}"]


def test_no_more_is_written_than_may_be(tmp_path: Path) -> None:
    exact = GZIP + bytes(LARGEST - len(GZIP))
    assert take(*form([("ct", ("a.nii.gz", exact))]), tmp_path / "a").path is not None
    assert refusal(*form([("ct", ("a.nii.gz", exact + b"1"))]), tmp_path / "b") == 413
    written = tmp_path / "b" / "ct.nii.gz"
    assert written.stat().st_size <= LARGEST


@pytest.mark.parametrize("name", ["a.dcm", "a.gz", "a.exe", "a", ".nii.gz.exe", "a.nii.gz\0.png"])
def test_other_types_are_refused(name: str, tmp_path: Path) -> None:
    assert refusal(*form([("ct", (f"patient {name}", GZIP))]), tmp_path) == 415
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("content", [b"", b"MZ\x90", b"<html>", b"\0" * 600, b"\x89PNG\r\n"])
def test_a_name_that_lies_is_refused(ending: str, content: bytes, tmp_path: Path) -> None:
    assert refusal(*form([("ct", (f"patient{ending}", content))]), tmp_path) == 415


def test_what_is_no_form_with_one_file_is_refused(tmp_path: Path) -> None:
    one = ("ct", ("a.nii.gz", GZIP))
    forms = {
        "none": form([], {"unlike_training": "yes"}),
        "two": form([one, one]),
        "another": form([("other", ("a.nii.gz", GZIP))]),
        "nameless": form([("ct", ("", GZIP))]),
        "long field": form([one], {"unlike_training": "y" * 65}),
        "many parts": form([one], {str(number): "y" for number in range(9)}),
        "json": (b"{}", "application/json"),
        "text": (b"", ""),
        "no boundary": (b"", "multipart/form-data"),
        "long boundary": (b"", f"multipart/form-data; boundary={'b' * 999}"),
        "long header": (b"--b\r\n" + b"x" * 9999, "multipart/form-data; boundary=b"),
    }  # fmt: skip
    for number, (what, (body, kind)) in enumerate(forms.items()):
        assert refusal(body, kind, tmp_path / str(number)) in (400, 415), what


def test_an_upload_that_is_cut_or_changed_anywhere_is_taken_whole_or_refused(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    body, kind = form([("ct", ("a.nii.gz", GZIP))])
    for number in range(300):
        damaged = bytearray(body[: rng.integers(len(body))] if number % 2 else body)
        if damaged:
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        folder = tmp_path / str(number)
        with suppress(UploadRefused):
            upload = take(bytes(damaged), kind, folder)
            assert upload.path is not None
            assert upload.path.parent == folder
            assert upload.path.stat().st_size == len(GZIP)

"""Receiving one upload: a form with one CT, written to a file as it comes, within its limits.

A form is refused at the first byte that is too many, so that nothing has to be kept to refuse it.
The name of a file is read for its ending only, and then forgotten.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO, Final

ENDINGS: Final = (".nii.gz", ".nii", ".nrrd", ".mha", ".zip")
FILE_FIELD: Final = "ct"
_MOST_PARTS: Final = 4
_MOST_HEADERS: Final = 4096  # bytes, of a part
_MOST_TEXT: Final = 64  # bytes, of a field that is no file
_FIRST_BYTES: Final = 512
_STARTS: Final = {".nii.gz": (b"\x1f\x8b",), ".zip": (b"PK\x03\x04",), ".nrrd": (b"NRRD000",)}
_NIFTI_SIZES: Final = (348, 540)  # of a header, its first number


class UploadRefused(Exception):
    """An upload that is not taken: HTTP status, and a line for the user that quotes nothing."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status
        self.line = line


class Upload:
    """A form while it is read: `path` is the file once it has come, `fields` are the others.

    Args:
        folder: where the file is written.
        most_bytes: of the file.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder = folder
        self.path: Path | None = None
        self.fields: dict[str, str] = {}
        self._left = most_bytes
        self._parts = 0
        self._ended = False
        self._file: BinaryIO | None = None
        self._headers: dict[str, bytes] = {}
        self._name, self._value = bytearray(), bytearray()
        self._field, self._text = "", bytearray()

    def callbacks(self) -> Any:
        """Return what the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._grow(self._name, data[start:end]),
            "on_header_value": lambda data, start, end: self._grow(self._value, data[start:end]),
            "on_header_end": self._header,
            "on_headers_finished": self._opened,
            "on_part_data": lambda data, start, end: self._data(data[start:end]),
            "on_part_end": self._close,
            "on_end": self._end,
        }

    def finish(self) -> Path:
        """Return the file, whole and of a type that its first bytes confirm.

        Raises:
            UploadRefused: it is none of these.
        """
        self.abort()
        if not self._ended:
            raise UploadRefused(400, "The upload ended early.")
        if self.path is None:
            raise UploadRefused(400, "No file was chosen.")
        with self.path.open("rb") as file:
            start = file.read(_FIRST_BYTES)
        if not _is_like(start, self.path.name.removeprefix(FILE_FIELD)):
            raise UploadRefused(415, "The file is not what its name says.")
        return self.path

    def abort(self) -> None:
        """Close what is open."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _grow(self, text: bytearray, data: bytes) -> None:
        if len(text) + len(data) > _MOST_HEADERS:
            raise UploadRefused(400, "A header of the upload is too long.")
        text += data

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise UploadRefused(400, "The upload has too many parts.")
        self._headers = {}

    def _header(self) -> None:
        if len(self._headers) >= _MOST_PARTS:
            raise UploadRefused(400, "A part of the upload has too many headers.")
        self._headers[self._name.decode("latin-1").lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _opened(self) -> None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        self._text = bytearray()
        if b"filename" not in options:
            return
        name = options[b"filename"].decode("utf-8", "replace").lower()
        if not name:
            raise UploadRefused(400, "No file was chosen.")
        if self._field != FILE_FIELD or self.path is not None:
            raise UploadRefused(400, "An upload is of one file.")
        ending = next((each for each in ENDINGS if name.endswith(each)), None)
        if ending is None:
            known = ", ".join(ENDINGS)
            raise UploadRefused(415, f"Only {known} are read; zip a DICOM folder.")
        self.path = self.folder / f"{FILE_FIELD}{ending}"
        self._file = self.path.open("xb")

    def _data(self, data: bytes) -> None:
        if self._file is None:
            self._text += data
            if len(self._text) > _MOST_TEXT:
                raise UploadRefused(400, "A field of the upload is too long.")
            return
        self._left -= len(data)
        if self._left < 0:
            raise UploadRefused(413, "The file is larger than this page takes (--limit-mb).")
        self._file.write(data)

    def _close(self) -> None:
        if self._file is None:
            self.fields[self._field] = self._text.decode("utf-8", "replace")
        self.abort()

    def _end(self) -> None:
        self._ended = True


async def receive(
    chunks: AsyncIterator[bytes], content_type: str, folder: Path, most_bytes: int
) -> Upload:
    """Read a form to its end.

    Args:
        chunks: its body.
        content_type: its header, which names the boundary between parts.
        folder: where the file is written.
        most_bytes: of the file.

    Raises:
        UploadRefused: too large, of another type, or no form.
    """
    from python_multipart.exceptions import MultipartParseError
    from python_multipart.multipart import MultipartParser, parse_options_header

    kind, options = parse_options_header(content_type.encode("latin-1", "replace"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary or len(boundary) > _MOST_TEXT * 4:
        raise UploadRefused(415, "Upload a file with the form of this page.")
    upload = Upload(folder, most_bytes)
    parser: Any = MultipartParser(boundary, upload.callbacks())
    try:
        async for chunk in chunks:
            parser.write(chunk)
    except MultipartParseError:
        raise UploadRefused(400, "The upload is damaged.") from None
    finally:
        upload.abort()
    upload.finish()
    return upload


def _is_like(start: bytes, ending: str) -> bool:
    """Whether the first bytes of a file are those of its type."""
    if ending == ".nii":
        sizes = (int.from_bytes(start[:4], order) for order in ("little", "big"))
        return any(size in _NIFTI_SIZES for size in sizes)
    if ending == ".mha":
        return b"=" in start and start[:1].isalpha() and b"\0" not in start.partition(b"\n")[0]
    return start.startswith(_STARTS[ending])

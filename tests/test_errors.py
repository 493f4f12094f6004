"""What other libraries raise is told in one line."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from uvlm import errors
from uvlm.errors import DataError, SetupError, UvlmError, as_known, first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("\nsize mismatch for a:\n\tcopying a param"), "size mismatch for a:"),
        (OSError("one\u2028two"), "one"),
        (ValueError(" \n "), "ValueError"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_the_first_line_of_an_error_is_its_words_or_else_its_class(
    error: Exception, line: str
) -> None:
    assert first_line(error) == line


def refusal(attempt: Callable[[], object]) -> UvlmError | None:
    """What is told of the error of an attempt."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any error
        attempt()
    return as_known(caught.value)


def test_what_the_system_refuses_is_told_by_the_name_that_was_given(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    attempts: dict[str, Callable[[], object]] = {
        "gone": (tmp_path / "gone").read_bytes,
        "file/x": (tmp_path / "file" / "x").read_bytes,
        "": tmp_path.read_bytes,
        "file": (tmp_path / "file").mkdir,
        "x" * 300: (tmp_path / ("x" * 300)).touch,
        "new/name": lambda: (tmp_path / "file").rename(tmp_path / "new" / "name"),
    }
    for name, attempt in attempts.items():
        known = refusal(attempt)
        assert isinstance(known, DataError), name
        assert known.subject == str(tmp_path / name).rstrip("/")
        assert "\n" not in str(known)


def test_where_no_temporary_file_can_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile._os, "open", refuse)  # type: ignore[attr-defined]
    with pytest.raises(FileNotFoundError) as caught:
        tempfile.gettempdir()
    known = as_known(caught.value)
    assert isinstance(known, SetupError)
    assert str(known).startswith("TMPDIR: no folder for temporary files can be written; free")


def test_a_disk_is_told_of_with_and_without_a_file() -> None:
    for error in (OSError(errno.ENOSPC, "x"), RuntimeError("Error: I/O (os error 28)")):
        known = as_known(error)
        assert isinstance(known, SetupError)
        assert str(known).startswith("the disk: no space left on device; free some space")


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: Path(errors.__file__).with_name("gone.json").read_bytes(),
        lambda: Path(json.__file__).with_name("gone.py").read_bytes(),
        lambda: os.read(-1, 1),
        lambda: dict[str, int]()["key"],
        lambda: int("x"),
        lambda: "\u20ac".encode("ascii"),
    ],
    ids=["our file", "python's file", "bad descriptor", "key", "value", "encoding"],
)
def test_a_mistake_of_ours_is_not_told_away(attempt: Callable[[], object]) -> None:
    assert refusal(attempt) is None


def test_a_name_in_no_encoding_is_quoted() -> None:
    name = os.fsdecode(b"first\nname m\xfc")
    known = refusal(name.encode)
    assert isinstance(known, DataError)
    assert str(known).startswith("'name m\\udcfc': holds a byte that is not UTF-8")

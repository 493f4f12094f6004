"""Files and folders appear whole or not at all, as readable as the umask says."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from uvlm.files import (
    copy_stream,
    file_sha256,
    files_sha256,
    filling_file,
    filling_folder,
    remove_left,
    write_bytes_atomic,
    write_text_atomic,
)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_who_may_read_a_file_is_what_the_umask_says(
    tmp_path: Path, mask: int, expected: int
) -> None:
    with umask(mask):
        write_text_atomic(tmp_path / "report.json", "{}")
        with filling_folder(tmp_path / "model") as folder:
            save_file({"a": torch.zeros(2)}, folder / "unet.safetensors")  # writes 0600 itself
            (folder / "deeper").mkdir()
            (folder / "deeper/config.json").write_text("{}")
    written = ("report.json", "model/unet.safetensors", "model/deeper/config.json")
    assert {mode(tmp_path / name) for name in written} == {expected}


def test_a_folder_takes_the_place_of_the_older_one_as_a_whole(tmp_path: Path) -> None:
    place = tmp_path / "models/seg"
    for name in ("old", "new"):
        with filling_folder(place) as folder:
            (folder / name).write_text(name)
            assert not (place / name).exists()
    assert names(place) == ["new"]
    assert names(place.parent) == ["seg"]


def test_files_of_other_names_stay_where_that_is_asked_for(tmp_path: Path) -> None:
    place = tmp_path / "out"
    place.mkdir()
    (place / "notes.txt").write_text("mine")
    (place / "report.txt").write_text("old")
    with filling_folder(place, keep_others=True) as folder:
        (folder / "report.txt").write_text("new")
    assert {name: (place / name).read_text() for name in names(place)} == {
        "notes.txt": "mine",
        "report.txt": "new",
    }


@pytest.mark.parametrize("keep_others", [False, True])
def test_an_error_leaves_the_old_folder_and_no_rubbish(tmp_path: Path, keep_others: bool) -> None:
    place = tmp_path / "seg"
    place.mkdir()
    (place / "a").write_text("old")

    def fill() -> None:
        with filling_folder(place, keep_others=keep_others) as folder:
            (folder / "a").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill()
    assert (place / "a").read_text() == "old"
    assert names(tmp_path) == ["seg"]


def test_an_error_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    write_text_atomic(tmp_path / "a", "old")

    def fill() -> None:
        with filling_file(tmp_path / "a") as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill()
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


_KILLED = """
import os, signal, sys
from pathlib import Path
from uvlm.files import filling_folder
with filling_folder(Path(sys.argv[1])) as folder:
    (folder / "a").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_leaves_goes_with_the_next_write(tmp_path: Path) -> None:
    place = tmp_path / "seg"
    with filling_folder(place) as folder:
        (folder / "a").write_text("old")
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(place)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (place / "a").read_text() == "old"
    assert len(names(tmp_path)) == 2
    with filling_folder(place) as folder:
        (folder / "a").write_text("new")
        with filling_folder(place) as other:  # a living writer's folder is left alone
            (other / "a").write_text("other")
    assert (place / "a").read_text() == "new"
    assert names(tmp_path) == ["seg"]


def test_only_names_with_the_pid_of_a_gone_process_are_swept_up(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          check=True, capture_output=True, text=True).stdout.strip()  # fmt: skip
    kept = [f"a-{os.getpid()}-x", f"a-{gone}", f"a-{gone}x", "a-notes", f"b-{gone}-x", "a-"]
    for name in [*kept, f"a-{gone}-x", f"a-{gone}.y"]:
        (tmp_path / name).write_text("mine")
    remove_left(tmp_path, "a-")
    assert names(tmp_path) == sorted(kept)


def test_many_writers_of_one_file_leave_one_of_their_contents(tmp_path: Path) -> None:
    contents = [bytes([number]) * 100_000 for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda c: write_bytes_atomic(tmp_path / "a", c, durable=False), contents))
    assert (tmp_path / "a").read_bytes() in contents
    assert names(tmp_path) == ["a"]


def test_a_digest_follows_names_contents_and_order(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, content in (("in/a", b"1"), ("b", b"2"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    one, two = (hashlib.sha256(content).hexdigest() for content in (b"1", b"2"))
    assert file_sha256(tmp_path / "b") == file_sha256(tmp_path / "c") == two
    text = f"in/a {one}\nb {two}\n"
    assert files_sha256(tmp_path, ["in/a", Path("b")]) == hashlib.sha256(text.encode()).hexdigest()
    digests = {files_sha256(tmp_path, n) for n in (["in/a", "b"], ["b", "in/a"], ["in/a", "c"])}
    assert len(digests) == 3


def test_a_copied_stream_is_the_same_and_so_is_its_digest() -> None:
    content, copy = os.urandom(3 * 2**20 + 1), io.BytesIO()
    assert copy_stream(io.BytesIO(content), copy) == hashlib.sha256(content).hexdigest()
    assert copy.getvalue() == content

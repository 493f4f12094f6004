"""The node without an archive: what it takes, what it refuses, and its limits."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread, uid
from pynetdicom import AE

from benchmarks.dicom_series import write_series
from tests.dicom.conftest import body, lps, tagged
from tests.node.conftest import free_port
from uvlm.drafts.private import private_folder
from uvlm.errors import ConfigError, SetupError
from uvlm.node import inbox as inbox_module
from uvlm.node.inbox import Inbox
from uvlm.node.listen import Node, listen
from uvlm.node.peer import Peer

PEER = Peer("ARCHIVE", "127.0.0.1", 104)


@contextmanager
def running(answer: Callable[..., Any], told: list[str]) -> Iterator[int]:
    """Run a node that calls a study complete after half a second."""
    port, stop = free_port(), threading.Event()
    node = Node("UVLM", port, PEER, 0.5)
    args = (node, answer, told.append, lambda: not stop.is_set())
    thread = threading.Thread(target=listen, args=args)
    thread.start()
    try:
        while not told:
            thread.join(0.05)
        yield port
    finally:
        stop.set()
        thread.join(60)


def associate(port: int, sop_class: uid.UID, own: str = "ARCHIVE", called: str = "UVLM") -> Any:
    node = AE(ae_title=own)
    node.add_requested_context(sop_class, [uid.ExplicitVRLittleEndian])
    return node.associate("127.0.0.1", port, ae_title=called)


@pytest.mark.slow
def test_only_its_archive_and_only_under_its_name(tmp_path: Path) -> None:
    with running(lambda *_: [], []) as port:
        assert not associate(port, uid.CTImageStorage, own="OTHER").is_established
        assert not associate(port, uid.CTImageStorage, called="OTHER").is_established
        link = associate(port, uid.CTImageStorage)
        assert link.is_established
        link.release()


@pytest.mark.slow
@pytest.mark.parametrize(
    "sop_class", [uid.SegmentationStorage, uid.ComprehensiveSRStorage, uid.MRImageStorage]
)
def test_what_is_no_ct_image_is_not_taken_so_answers_never_come_back(sop_class: uid.UID) -> None:
    with running(lambda *_: [], []) as port:
        assert not associate(port, sop_class).is_established


@pytest.mark.slow
def test_it_listens_on_the_loopback_address_only() -> None:
    with running(lambda *_: [], []) as port:
        others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), port)}
        for address in others - {"127.0.0.1", "127.0.1.1", "::1"}:
            with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
                socket.create_connection((str(address), port), timeout=2)


@pytest.mark.slow
def test_two_studies_at_once_are_answered_one_after_the_other(tmp_path: Path) -> None:
    told: list[str] = []
    counts: list[int] = []
    both = threading.Event()

    def answer(study: Path, out: Path) -> list[Path]:
        counts.append(len({dcmread(f).StudyInstanceUID for f in study.iterdir()}))
        if len(counts) == 2:
            both.set()
        return []

    for number in (1, 2):
        edit = tagged(StudyInstanceUID=f"2.25.70{number}")
        write_series(tmp_path / f"{number}", lps(body()), edit=edit, series=f"{number}")
    with running(answer, told) as port:
        link = associate(port, uid.CTImageStorage)
        for pair in zip(*(sorted((tmp_path / n).iterdir()) for n in "12"), strict=True):
            for file in pair:
                assert link.send_c_store(dcmread(file)).Status == 0
        link.release()
        assert both.wait(60)
    assert counts == [1, 1]


@pytest.mark.slow
def test_a_bug_in_an_answer_stops_nothing_and_tells_no_content(tmp_path: Path) -> None:
    told: list[str] = []

    def answer(study: Path, out: Path) -> list[Path]:
        raise ValueError("Muster^Änne")

    write_series(tmp_path / "a", lps(body()), edit=tagged())
    with running(answer, told) as port:
        for number in (2, 3):
            link = associate(port, uid.CTImageStorage)
            assert link.send_c_store(dcmread(next((tmp_path / "a").iterdir()))).Status == 0
            link.release()
            for _ in range(600):
                if len(told) == number:
                    break
                threading.Event().wait(0.1)
    assert told[1:] == [
        "study 1: 1 files received, no answer: a bug (ValueError)",
        "study 2: 1 files received, no answer: a bug (ValueError)",
    ]


def test_a_study_is_complete_when_nothing_more_comes_and_is_never_mixed(tmp_path: Path) -> None:
    now = [0.0]
    inbox = Inbox(tmp_path, lambda: now[0])
    assert inbox.keep("a", "../../etc/passwd", b"1")
    assert inbox.keep("b", "1", b"2")
    now[0] = 4.0
    assert inbox.keep("a", "2", b"3")
    assert inbox.keep("a", "2", b"33")
    now[0] = 5.0
    first = inbox.take(5.0)
    assert first is not None
    assert [file.read_bytes() for file in first.iterdir()] == [b"2"]
    assert inbox.take(5.0) is None
    now[0] = 9.0
    second = inbox.take(5.0)
    assert second is not None
    assert {file.read_bytes() for file in second.iterdir()} == {b"1", b"33"}
    assert inbox.keep("a", "3", b"4")  # sent again while it is worked on
    now[0] = 99.0
    third = inbox.take(5.0)
    assert third is not None
    assert third != second
    assert {path.parent for path in (first, second, third)} == {tmp_path}


def test_the_inbox_has_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "MAX_STUDIES", 2)
    monkeypatch.setattr(inbox_module, "MAX_FILES", 2)
    monkeypatch.setattr(inbox_module, "MAX_BYTES", 10)
    inbox = Inbox(tmp_path)
    assert inbox.keep("a", "1", b"12345")
    assert inbox.keep("a", "2", b"12345")
    assert not inbox.keep("a", "3", b"")
    assert not inbox.keep("a", "2", b"123456")
    assert inbox.keep("b", "1", b"")
    assert not inbox.keep("c", "1", b"")
    assert inbox.take(0.0) is not None
    assert inbox.keep("c", "1", b"")


def test_what_a_killed_node_left_is_removed_and_what_a_living_one_has_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = subprocess.Popen(["true"])
    ended.wait()
    for pid in (ended.pid, os.getpid()):
        folder = tmp_path / f"uvlm-node-{socket.gethostname()}-{pid}-abc"
        folder.mkdir()
        (folder / "patient.dcm").write_bytes(b"1")
    with private_folder("node") as root:
        assert root.stat().st_mode & 0o077 == 0
        assert {path.name.split("-")[-2] for path in tmp_path.iterdir()} == {str(os.getpid())}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "text",
    ["", "ARCHIVE", "ARCHIVE@127.0.0.1", "A@127.0.0.1:0", "A@127.0.0.1:70000", "A@pacs:104",
     "A@10.0.0.1:104", "A" * 17 + "@127.0.0.1:104", "A\\B@127.0.0.1:104", "A@0.0.0.0:104"],
)  # fmt: skip
def test_a_peer_is_a_title_and_a_port_of_this_computer(text: str) -> None:
    with pytest.raises(ConfigError):
        Peer.parse(text)
    assert Peer.parse("PACS_1@127.0.0.1:4242") == Peer("PACS_1", "127.0.0.1", 4242)


def test_a_port_that_is_taken_is_told_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SetupError, match="cannot be listened on"):
            listen(Node("UVLM", port, PEER, 1.0), lambda *_: [])

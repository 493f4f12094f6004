"""A real archive takes the objects and gives them back; the node answers a study it is sent."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from benchmarks.dicom_series import write_series
from tests.dicom.conftest import HEADERS, body, lps, tagged, written
from tests.inference.conftest import _one_thread as _one_thread
from tests.inference.conftest import body as model_body
from tests.inference.conftest import lps as model_lps
from tests.inference.conftest import params as params
from tests.inference.conftest import report_folder as report_folder
from tests.node.conftest import Orthanc, free_port
from uvlm.errors import DataError, SetupError
from uvlm.node.listen import Node, listen
from uvlm.node.peer import Peer, send

pytestmark = pytest.mark.slow
STUDY = HEADERS["StudyInstanceUID"]


@pytest.fixture
def series(tmp_path: Path) -> Path:
    write_series(tmp_path / "series", lps(body()), edit=tagged())
    return tmp_path / "series"


@pytest.fixture
def objects(series: Path, tmp_path: Path) -> tuple[Path, ...]:
    return written(series, tmp_path / "objects").files


def upload(orthanc: Orthanc, files: Sequence[Path]) -> None:
    for file in files:
        orthanc.ask("instances", file.read_bytes(), {"Content-Type": "application/dicom"})


def same(sent: Dataset, back: Dataset) -> None:
    assert sent == back
    if "PixelData" in sent:
        np.testing.assert_array_equal(sent.pixel_array, back.pixel_array)


def part_of(answer: bytes, boundary: str) -> bytes:
    """Take the one file out of a multipart answer."""
    head = f"Content-Type: multipart/related; boundary={boundary}\r\n\r\n".encode()
    (part,) = list(email.message_from_bytes(head + answer).walk())[1:]
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


def test_objects_come_back_equal_by_c_store_and_twice_is_once(
    orthanc: Orthanc, series: Path, objects: tuple[Path, ...]
) -> None:
    upload(orthanc, sorted(series.iterdir()))
    peer = Peer("ORTHANC", "127.0.0.1", orthanc.dicom)
    for _ in range(2):
        send(objects, peer, "UVLM")
        assert orthanc.series(STUDY) == {"CT": 12, "SEG": 1, "SR": 1, "OT": 1, "DOC": 1}
    for file in objects:
        sent = dcmread(file)
        same(sent, dcmread(BytesIO(orthanc.file(sent.SOPInstanceUID))))


def test_objects_come_back_equal_by_dicomweb(orthanc: Orthanc, objects: tuple[Path, ...]) -> None:
    for file in objects:
        sent, edge = dcmread(file), "uvlm-boundary"
        message = b"--%b\r\nContent-Type: application/dicom\r\n\r\n%b\r\n--%b--\r\n" % (
            edge.encode(), file.read_bytes(), edge.encode(),
        )  # fmt: skip
        kind = f'multipart/related; type="application/dicom"; boundary={edge}'
        orthanc.ask("dicom-web/studies", message, {"Content-Type": kind})
        place = f"studies/{STUDY}/series/{sent.SeriesInstanceUID}/instances/{sent.SOPInstanceUID}"
        accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
        answer = orthanc.ask(f"dicom-web/{place}", headers=accept)
        boundary = answer.split(b"\r\n", 2)[0] or answer.split(b"\r\n", 2)[1]
        same(sent, dcmread(BytesIO(part_of(answer, boundary[2:].decode()))))
    listed = orthanc.json(f"dicom-web/studies/{STUDY}/series")
    assert {one["00080060"]["Value"][0] for one in listed} == {"SEG", "SR", "OT", "DOC"}


def test_the_node_answers_a_study_with_its_objects_and_keeps_nothing(
    orthanc: Orthanc, series: Path, tmp_path: Path
) -> None:
    upload(orthanc, sorted(series.iterdir()))
    told: list[str] = []
    seen: list[Path] = []

    def answer(study: Path, out: Path) -> Sequence[Path]:
        seen.append(study)
        return written(study, out).files

    def go_on() -> bool:
        return len(told) < 2

    node = Node("UVLM", orthanc.node, Peer("ORTHANC", "127.0.0.1", orthanc.dicom), 2.0)
    thread = threading.Thread(target=listen, args=(node, answer, told.append, go_on))
    thread.start()
    try:
        while not told:
            thread.join(0.1)
            assert thread.is_alive()
        (study,) = orthanc.json("studies")
        assert orthanc.json("modalities/uvlm/echo", b"{}") == {}
        orthanc.json("modalities/uvlm/store", study.encode())
    finally:
        thread.join(240)
    assert told[1:] == ["study 1: 12 files received, 4 objects sent"]
    assert orthanc.series(STUDY) == {"CT": 12, "SEG": 1, "SR": 1, "OT": 1, "DOC": 1}
    assert not seen[0].exists()
    assert "4711" not in " ".join(told)


def test_the_command_answers_with_the_drafts_of_a_model_and_leaves_nothing(
    orthanc: Orthanc, report_folder: Path, tmp_path: Path
) -> None:
    write_series(tmp_path / "ct", model_lps(model_body()), edit=tagged())
    upload(orthanc, sorted((tmp_path / "ct").iterdir()))
    (tmp_path / "tmp").mkdir()
    peer = f"ORTHANC@127.0.0.1:{orthanc.dicom}"
    words = ["listen", "--model", str(report_folder), "--peer", peer, "--quiet", "2"]
    command = [sys.executable, "-m", "pipeline.cli", *words, "--port", str(orthanc.node)]
    surroundings = os.environ | {"TMPDIR": str(tmp_path / "tmp"), "PYTHONUNBUFFERED": "1"}
    surroundings |= {"PYTHONPATH": str(Path(__file__).parents[2])}
    node = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=surroundings,
        cwd=tmp_path,
    )  # fmt: skip
    assert node.stdout is not None
    try:
        assert "UVLM listens on 127.0.0.1" in node.stdout.readline()
        (study,) = orthanc.json("studies")
        orthanc.json("modalities/uvlm/store", study.encode())
        told = node.stdout.readline()
    finally:
        node.terminate()
    rest, _ = node.communicate(timeout=120)
    assert told.startswith("study 1: 10 files received, "), told + rest
    assert told.endswith(" objects sent\n")
    assert rest == "stopped; nothing that was received is left\n"
    assert node.returncode == 0
    found = orthanc.series(STUDY)
    assert (found["CT"], found["SR"], found["DOC"]) == (10, 1, 1)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_study_that_is_refused_is_told_in_a_line_without_names(
    orthanc: Orthanc, series: Path
) -> None:
    upload(orthanc, sorted(series.iterdir())[:9])
    told: list[str] = []

    def answer(study: Path, out: Path) -> Sequence[Path]:
        raise DataError(study / "MRN 4711", "slices are missing", "send all")

    node = Node("UVLM", orthanc.node, Peer("ORTHANC", "127.0.0.1", orthanc.dicom), 1.0)
    args = (node, answer, told.append, lambda: len(told) < 2)
    thread = threading.Thread(target=listen, args=args)
    thread.start()
    try:
        while not told:
            thread.join(0.1)
        (study,) = orthanc.json("studies")
        orthanc.json("modalities/uvlm/store", study.encode())
    finally:
        thread.join(240)
    assert told[1:] == ["study 1: 9 files received, no answer: slices are missing"]


# pynetdicom drops the socket of a refused connection without closing it.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_archive_that_is_away_is_told(
    objects: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uvlm.node.peer._WAITS_S", (0.0, 0.1))
    with pytest.raises(SetupError, match="did not take 4 of 4 objects"):
        send(objects, Peer("ORTHANC", "127.0.0.1", free_port()), "UVLM")

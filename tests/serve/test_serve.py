"""`uvlm serve` as a user meets it, and 10,000 requests that it has to survive."""

from __future__ import annotations

import gzip
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.inference.conftest import body, lps
from tests.serve.conftest import Answer, Server, serving
from uvlm.data.ct.io import write_volume
from uvlm.serve.jobs import MOST_KEPT, Jobs

NAME = "Zzyzx Öster 1961"


def ct_bytes(tmp_path: Path, seed: int = 0) -> bytes:
    path = tmp_path / f"{seed}.nii.gz"
    write_volume(path, lps(body(seed)))
    return path.read_bytes()


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*")]


@pytest.mark.slow
def test_a_ct_becomes_a_draft_that_is_removed_and_named_by_nobody(
    server: Server, tmp_path: Path
) -> None:
    told = server.upload(f"{NAME}.nii.gz", ct_bytes(tmp_path), unlike_training="yes")
    assert told.status == 303
    place = told.headers["location"]
    found = server.wait(place)
    assert found["state"] == "drafted", found
    assert all(step["is_done"] for step in found["steps"])
    assert {"evidence.html", "report.json", "report.txt"} <= set(found["files"])
    assert not [name for name in left_in(server.temporary) if name.startswith("ct.")]
    page = server.ask(f"{place}/evidence.html")
    assert page.headers["content-security-policy"].startswith("sandbox allow-scripts;")
    assert b"<html" in page.body
    shown = [server.ask(path).body for path in ("/", place, f"{place}/report.json")]
    assert not [text for text in (*shown, page.body) if NAME.encode() in text]
    for name in ("../model", "%2e%2e/report.json", "ct.nii.gz", "", "report.json/", "%00"):
        assert server.ask(f"{place}/{name}").status == 404, name
    removed = server.ask(f"{place}/remove", "POST")
    assert (removed.status, removed.headers["location"]) == (303, "/")
    assert server.ask(place).status == 404
    assert not [name for name in left_in(server.temporary) if name.endswith((".json", ".html"))]
    assert server.stop() == 0
    assert left_in(server.temporary) == []
    assert NAME not in server.said
    assert re.search(r"CT 1: drafted, [\d.]+ s", server.said)


@pytest.mark.slow
def test_one_is_worked_on_one_waits_and_no_third_is_taken(server: Server, tmp_path: Path) -> None:
    places = [server.upload("a.nii.gz", ct_bytes(tmp_path, seed)) for seed in (0, 1)]
    third = server.upload("a.nii.gz", ct_bytes(tmp_path, 2))
    assert [each.status for each in (*places, third)] == [303, 303, 503]
    assert int(third.headers["retry-after"]) > 0
    first, second = (each.headers["location"] for each in places)
    page = server.ask(first)
    assert int(page.headers["refresh"]) > 0
    assert server.ask(f"{first}/remove", "POST").status == 303  # while it is worked on
    assert server.wait(second)["state"] == "drafted"
    assert server.ask(first).status == 404
    assert server.stop() == 0
    assert left_in(server.temporary) == []
    assert "CT 1: removed" in server.said


@pytest.mark.slow
def test_a_file_that_is_no_ct_is_refused_in_a_line_and_the_page_goes_on(
    server: Server, tmp_path: Path
) -> None:
    place = server.upload(f"{NAME}.nii.gz", gzip.compress(b"no CT")).headers["location"]
    found = server.wait(place)
    assert found["state"] == "refused"
    assert found["files"] == []
    assert NAME not in found["line"]
    assert str(server.temporary) not in found["line"]
    assert server.ask().status == 200


@pytest.mark.slow
def test_a_killed_reader_is_told_and_the_next_ct_is_read(server: Server, tmp_path: Path) -> None:
    place = server.upload("a.nii.gz", ct_bytes(tmp_path)).headers["location"]
    children = Path(f"/proc/{server.process.pid}/task")
    end, found = time.monotonic() + 60, list[str]()
    while not found and time.monotonic() < end:
        found = [n for task in children.iterdir() for n in (task / "children").read_text().split()]
    os.kill(int(found[0]), signal.SIGKILL)
    assert server.wait(place)["state"] == "failed"
    again = server.upload("a.nii.gz", ct_bytes(tmp_path)).headers["location"]
    assert server.wait(again)["state"] == "drafted"


@pytest.mark.slow
def test_nothing_stays_of_a_killed_server(report_folder: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    with serving(report_folder, temporary) as killed:
        killed.upload("a.nii.gz", ct_bytes(tmp_path))
        killed.stop(signal.SIGKILL)
        assert left_in(temporary)
    with serving(report_folder, temporary) as server:
        assert not [name for name in left_in(temporary) if name.startswith("ct.")]
        assert server.stop() == 0
    assert left_in(temporary) == []


@pytest.mark.slow
def test_it_listens_on_the_loopback_address_only(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5):
        pass
    listening = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    rows = [line.split() for line in listening]
    places = [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{server.port:04X}")]
    assert places == [f"0100007F:{server.port:04X}"]
    assert f":{server.port:04X}" not in Path("/proc/net/tcp6").read_text(encoding="ascii")


@pytest.mark.parametrize(
    "count", [300, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_no_request_ends_it(server: Server, tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(count)
    good, seen = ct_bytes(tmp_path), set[int]()
    for _ in range(count):
        answer = strange(server, rng, good)
        if answer is not None:
            seen.add(answer)
    assert server.process.poll() is None
    assert {200, 400, 403, 404, 405, 413, 415, 421} <= seen
    assert 500 not in seen
    assert server.ask().status == 200
    assert server.stop() == 0
    assert left_in(server.temporary) == []
    assert re.fullmatch(r"(CT \d+: \w+, [\d.]+ s\n)*stopped; nothing .* left\n", server.said)


def strange(server: Server, rng: np.random.Generator, good: bytes) -> int | None:
    """Send one request that is wrong in some way, or right; returns the status, if any."""
    number = int(rng.integers(256))
    damaged = bytearray(good)
    damaged[2 + number] ^= 255
    junk, kind = rng.bytes(200), "multipart/form-data; boundary=b"
    asks: tuple[Callable[[], Answer], ...] = (
        lambda: server.ask(),
        lambda: server.ask(f"/cts/{junk[:9].hex()}"),
        lambda: server.ask(f"/{'../' * (number % 9)}etc/passwd"),
        lambda: server.ask(host="evil.example"),
        lambda: server.ask(x_uvlm_key="wrong"),
        lambda: server.ask(method=("PUT", "DELETE", "TRACE", "OPTIONS")[number % 4]),
        lambda: server.upload("a.nii.gz", junk[: number % 99]),
        lambda: server.upload("a.exe", good),
        lambda: server.upload("a.nii.gz", b"\x1f\x8b" + bytes((1 << 20) + 1)),
        lambda: server.upload("a.nii.gz", bytes(damaged)),
        lambda: server.ask("/cts", "POST", junk, content_type=kind),
    )
    choice = int(rng.integers(len(asks) + 1))
    if choice < len(asks):
        return asks[choice]().status
    raw(server, rng)
    return None


def raw(server: Server, rng: np.random.Generator) -> None:
    """Send bytes that are no request, or the beginning of an upload, and hang up."""
    head = f"POST /cts HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nX-UVLM-Key: {server.key}\r\n"
    began = b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 999\r\n\r\n--b\r\n"
    choices = (rng.bytes(300), b"GET / HTTP/9.9\r\n\r\n", b"A" * 70_000, head.encode() + began)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        try:
            connection.sendall(choices[int(rng.integers(len(choices)))])
        except OSError:
            return  # it hung up first


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_draft_is_kept_as_long_as_asked_and_not_a_second_longer(tmp_path: Path) -> None:
    clock = Clock()
    jobs = Jobs(tmp_path, tmp_path / "model", keep_s=60, clock=clock)
    job = jobs.reserve()
    assert job is not None
    clock.now = 10_000  # an upload that still comes is not swept
    assert jobs.find(job.key) is job
    job.ended = clock.now
    for later, minutes in ((0, 1), (59.9, 0)):
        clock.now = 10_000 + later
        assert jobs.find(job.key) is job
        assert jobs.minutes_left(job) == minutes
    clock.now = 10_060
    assert jobs.find(job.key) is None
    assert not job.folder.exists()


def test_drafts_that_are_kept_have_a_limit(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, tmp_path / "model", keep_s=60, clock=Clock())
    count = 0
    while (job := jobs.reserve()) is not None:
        job.state, job.ended, count = "drafted", 0.0, count + 1
    assert count == MOST_KEPT + 2
    assert jobs.remove(jobs.all()[0].key)
    assert jobs.reserve() is not None

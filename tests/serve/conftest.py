"""The command itself in a process of its own, with a tiny model, and a client that has its key."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.inference.conftest import _one_thread as _one_thread
from tests.inference.conftest import params as params
from tests.inference.conftest import report_folder as report_folder

ROOT = Path(__file__).parents[2]
END_S = 120


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Server:
    process: subprocess.Popen[str]
    port: int
    key: str
    temporary: Path
    said: str = ""

    def ask(
        self, path: str = "/", method: str = "GET", body: bytes | None = None, **headers: str
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, {"x-uvlm-key": self.key} | named)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def upload(self, name: str, content: bytes, **fields: str) -> Answer:
        files = [("ct", (name, content))]
        request = httpx2.Request("POST", "http://127.0.0.1/", files=files, data=fields)
        kind = request.headers["content-type"]
        return self.ask("/cts", "POST", request.read(), content_type=kind)

    def look(self, place: str) -> Any:
        return json.loads(self.ask(place, accept="application/json").body)

    def wait(self, place: str) -> Any:
        end = time.monotonic() + END_S
        while time.monotonic() < end:
            if (found := self.look(place))["state"] not in ("receiving", "waiting", "running"):
                return found
            time.sleep(0.2)
        raise AssertionError(found)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        self.said += self.process.communicate(timeout=60)[0]
        return self.process.returncode


@contextmanager
def serving(model: Path, temporary: Path, *options: str) -> Iterator[Server]:
    temporary.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    added = {"TMPDIR": str(temporary), "PYTHONPATH": path, "UVLM_THREADS": "1"}
    command = [sys.executable, "-m", "pipeline.cli", "serve", "--model", str(model), "--port", "0"]
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | added, cwd=temporary,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/\?key=(\S+) ", line)
        assert found is not None, line + process.stdout.read()
        yield Server(process, int(found[1]), found[2], temporary)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def server(report_folder: Path, tmp_path: Path) -> Iterator[Server]:
    with serving(report_folder, tmp_path / "tmp", "--limit-mb", "1") as found:
        yield found

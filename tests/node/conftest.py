"""A real Orthanc on free ports of this computer, with its DICOMweb plugin."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

_PLUGINS: Final = (
    *(Path("/usr/share/orthanc/plugins").glob("libOrthancDicomWeb.so*")),
    *(Path("/usr/lib/orthanc").glob("libOrthancDicomWeb.so*")),
)
_STARTS_S: Final = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Orthanc:
    http: int
    dicom: int
    node: int  # where it expects our node

    def ask(
        self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> bytes:
        url = f"http://127.0.0.1:{self.http}/{path}"
        request = urllib.request.Request(url, data=body, headers=headers or {})
        with urllib.request.urlopen(request, timeout=120) as answer:
            content: bytes = answer.read()
            return content

    def json(self, path: str, body: bytes | None = None) -> Any:
        return json.loads(self.ask(path, body, {"Accept": "application/json"}))

    def file(self, instance_uid: str) -> bytes:
        (found,) = self.json("tools/lookup", instance_uid.encode())
        return self.ask(found["Path"].lstrip("/") + "/file")

    def series(self, study_uid: str) -> dict[str, int]:
        """How many instances each kind of series of a study has, by its modality."""
        (found,) = self.json("tools/lookup", study_uid.encode())
        listed = self.json(found["Path"].lstrip("/") + "/series")
        return {s["MainDicomTags"]["Modality"]: len(s["Instances"]) for s in listed}


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None or not _PLUGINS:
        pytest.skip("Orthanc with its DICOMweb plugin is not installed")
    at = Orthanc(free_port(), free_port(), free_port())
    settings = {
        "Name": "test", "DicomAet": "ORTHANC", "DicomPort": at.dicom, "HttpPort": at.http,
        "StorageDirectory": str(tmp_path / "orthanc"), "IndexDirectory": str(tmp_path / "orthanc"),
        "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "OverwriteInstances": False,
        "DicomModalities": {"uvlm": ["UVLM", "127.0.0.1", at.node]},
        "Plugins": [str(_PLUGINS[0])], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (tmp_path / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
    with (tmp_path / "orthanc.log").open("wb") as log:
        process = subprocess.Popen(
            [program, str(tmp_path / "orthanc.json")], stdout=log, stderr=log, cwd=tmp_path
        )
        try:
            _wait_for(at, process, tmp_path / "orthanc.log")
            yield at
        finally:
            process.terminate()
            process.wait(60)


def _wait_for(at: Orthanc, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _STARTS_S
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        try:
            at.json("system")
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise AssertionError(log.read_text(errors="replace")[-2000:])

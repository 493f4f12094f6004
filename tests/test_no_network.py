"""No connection is opened but by a download: real commands and stages under Python's audit hook."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden" / "before_the_moves"
CT = json.loads((GOLDEN / "numbers.json").read_text(encoding="utf-8"))["ct"]
WATCH = """
import sys

def watch(event, arguments):
    is_call = event in ("socket.connect", "socket.sendto", "socket.sendmsg")
    is_remote = is_call and isinstance(arguments[1], tuple)  # of a Unix socket it is a path
    if is_remote or event == "socket.getaddrinfo":
        print("opened", event, arguments[1:], flush=True)

sys.addaudithook(watch)
"""
COMMANDS = f"""
from pipeline.cli import app
for line in '''
    predict {CT} --model data/models/report --out draft
    check-ct {CT}
    label reports.csv --text-column report --out labels.csv
    score --references reports.csv --predictions reports.csv --bootstrap-samples 10
    info
    store verify
'''.strip().splitlines():
    app(line.split(), standalone_mode=False)
"""
STAGES = """
from pipeline import tokenizer, train_seg
from pipeline.shares import make_cases
from pipeline.stage import execute
from uvlm.data.preprocess import Volumes
assert execute("preprocess", lambda stage: make_cases(stage, Volumes.of)) == 0
assert execute("tokenizer", tokenizer.tokenizer) == 0
assert execute("train_seg", train_seg.segment, live=True) == 0
"""


@pytest.fixture
def project(old_project: Path) -> Path:
    """A small project with trained models and a tracking store, and somebody's reports."""
    reports = "case_id,report\na,Findings: Emphysema is seen.\nb,Findings: No nodule.\n"
    (old_project / "reports.csv").write_text(reports, encoding="utf-8")
    return old_project


def said(project: Path, work: str) -> list[str]:
    """Lines on stdout of a process that works in the project and is watched."""
    command = [sys.executable, "-c", f"{WATCH}{work}\nprint('watched to the end')"]
    return subprocess.run(
        command, cwd=project, capture_output=True, text=True, check=True
    ).stdout.splitlines()


@pytest.mark.slow
def test_commands_open_no_connection(project: Path) -> None:
    lines = said(project, COMMANDS)
    assert [line for line in lines if line.startswith("opened")] == []
    assert lines[-1] == "watched to the end"
    assert (project / "draft" / "report.txt").exists()


@pytest.mark.slow
def test_stages_and_their_tracking_open_no_connection(project: Path) -> None:
    lines = said(project, STAGES)
    assert [line for line in lines if line.startswith("opened")] == []
    assert lines[-1] == "watched to the end"
    assert (project / "reports" / "train_seg" / "metrics.json").exists()


def test_a_connection_would_be_seen(project: Path) -> None:
    attempt = "import socket\nsocket.socket(type=socket.SOCK_DGRAM).connect(('127.0.0.1', 9))"
    assert said(project, attempt)[0].startswith("opened socket.connect")

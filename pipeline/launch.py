"""UVLM_DEVICES: several processes for one training, one for each GPU of this computer.

They get the variables that torchrun sets. A signal reaches all of them, and the exit code is that
of the first one to fail, which torchrun would turn into 1.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from uvlm import environment
from uvlm.errors import UvlmError
from uvlm.processes import place

_GRACE_S = 60.0
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


def run_crew(name: str) -> None:
    """Run this very command in UVLM_DEVICES processes and exit with their code.

    Returns at once where one process is wanted, or where this is already one of several.
    """
    try:
        size = environment.DEVICES.read()
        is_alone = place().world_size == 1 and environment.RANK.read() is None
    except UvlmError as error:
        sys.stderr.write(f"{name}: {error}\n")
        sys.exit(error.exit_code)
    if size > 1 and is_alone:
        sys.exit(_run(sys.orig_argv[1:], size))


def _run(arguments: Sequence[str], size: int) -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    crew: list[subprocess.Popen[bytes]] = []

    def forward(number: int, frame: FrameType | None) -> None:
        for process in crew:
            process.send_signal(number)

    for number in _SIGNALS:
        signal.signal(number, forward)
    for rank in range(size):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        crew.append(
            subprocess.Popen(
                [sys.executable, *arguments], env=environment.inherited() | shared | own
            )
        )
    return _wait(crew)


def _wait(crew: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait for all; after the first failure the others get a minute, then are ended."""
    code, failed_at = 0, 0.0
    while None in (codes := [process.poll() for process in crew]):
        time.sleep(0.05)
        failed = [found for found in codes if found]
        if failed and not code:
            code, failed_at = failed[0], time.monotonic()
        if code and time.monotonic() > failed_at + _GRACE_S:
            for process in crew:
                process.kill()
    code = code or next((found for found in codes if found), 0)
    return code if code >= 0 else 128 - code  # as a shell tells of a process that was killed

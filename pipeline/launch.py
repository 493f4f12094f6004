"""UVLM_DEVICES: several processes for one training, one for each GPU of this computer.

They get the variables that torchrun sets. Signals are passed on to all of them, and the exit code
is that of the first to fail, which torchrun would turn into 1.
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
from uvlm.processes import place

_GRACE_S = 60.0


def run_processes() -> None:
    """Run this very command in UVLM_DEVICES processes and exit with their code.

    Returns at once if one process is wanted, or if this is already one of several.
    """
    size = environment.DEVICES.read()
    if size > 1 and place().world_size == 1 and environment.RANK.read() is None:
        sys.exit(_run(sys.orig_argv[1:], size))


def _run(arguments: Sequence[str], size: int) -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = environment.inherited() | {
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    processes: list[subprocess.Popen[bytes]] = []

    def forward(number: int, frame: FrameType | None) -> None:
        for process in processes:
            process.send_signal(number)

    # Before the first process starts, so that none can be left behind by a signal.
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, forward)
    for rank in range(size):
        own = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        processes.append(subprocess.Popen([sys.executable, *arguments], env=own))
    return _wait(processes)


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait for all; after the first failure the others get a minute before they are killed."""
    code, failed_at = 0, 0.0
    while None in (codes := [process.poll() for process in processes]):
        time.sleep(0.05)
        failed = [found for found in codes if found]
        if failed and not code:
            code, failed_at = failed[0], time.monotonic()
        if code and time.monotonic() > failed_at + _GRACE_S:
            for process in processes:
                process.kill()
    code = code or next((found for found in codes if found), 0)
    return code if code >= 0 else 128 - code  # as a shell reports a killed process

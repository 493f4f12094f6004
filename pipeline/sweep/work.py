"""One worker: runs the stages of a task in its slot with DVC, one after another.

It is started by the sweep in a process group of its own. When the sweep ends, however it ends, the
pipe to this process closes; then the running stage is asked to save its state and to stop.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Final

from pipeline.sweep.finish import finish
from pipeline.sweep.slots import Slot, Task
from uvlm.errors import Interrupted, tell

GRACE_S: Final = 180.0


class Leash:
    """Stops the group of this process when the process that holds the other end is gone."""

    def __init__(self) -> None:
        self.pulled = False
        self._pipe = os.dup(0)
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a device
            os.dup2(nothing.fileno(), 0)
        signal.signal(signal.SIGTERM, self._pull)
        signal.signal(signal.SIGINT, self._pull)
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        os.read(self._pipe, 1)
        self.pulled = True
        os.killpg(0, signal.SIGTERM)  # DVC waits for the stage, and this process for DVC
        time.sleep(GRACE_S)
        os.killpg(0, signal.SIGKILL)

    def _pull(self, number: int, frame: FrameType | None) -> None:
        self.pulled = True


def work(slot: Slot, task: Task) -> int:
    """Run the stages and end the trial if it ends here; return the exit code."""
    from dvc.cli import main as dvc

    leash = Leash()
    task.group = os.getpgrp()
    slot.save(task)
    for stage in task.stages:
        if leash.pulled:
            return Interrupted.exit_code
        # `repro` leaves a stage out of the run cache if it has an output that git keeps.
        if dvc(["repro", stage]) or dvc(["commit", "--quiet", "--force", "--no-relink", stage]):
            return 1
        task.done.append(stage)
        slot.save(task)
    if task.is_last and not leash.pulled:
        finish(slot, task)
    return Interrupted.exit_code if leash.pulled else 0


def main() -> int:
    """Do what the file beside this folder says; return the exit code."""
    folder = Path.cwd()
    task = Slot(folder, folder).task()
    assert task is not None
    try:
        return work(Slot(Path(task.project), folder), task)
    except Exception as error:
        return tell(error)


if __name__ == "__main__":
    sys.exit(main())

"""What a killed sweep or worker leaves in a slot: processes, and finished stages unknown to DVC."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from pipeline.dvc_yaml import digest, read_causes, read_declarations
from pipeline.paths import PARAMS
from pipeline.runs.records import find_record
from pipeline.sweep.slots import Slot
from pipeline.sweep.work import GRACE_S


def clear(project: Path, folder: Path) -> list[str]:
    """Take over what a killed sweep left: end its processes, let DVC note finished stages.

    Returns:
        The stages that had finished.
    """
    settled: list[str] = []
    for slot in _slots_of(project, folder):
        end_left(slot)
        settled += settle(slot)
        slot.remove()
    return settled


def end_left(slot: Slot) -> None:
    """Wait for what a dead sweep or worker left in a slot to save and stop; in the end, kill it."""
    left = _processes_in(slot)
    if left and not _has_worker(slot, left):  # a worker that lives has asked them itself
        _send(left, signal.SIGTERM)
    psutil.wait_procs(left, GRACE_S)
    left = _processes_in(slot)
    _send(left, signal.SIGKILL)
    psutil.wait_procs(left, 10.0)


def settle(slot: Slot) -> list[str]:
    """Let DVC note the stage that had finished in a slot when its worker was killed; return it.

    Its inputs may be those of the trial before, if they had not been exchanged yet: then it is one
    that DVC knows already.
    """
    task = slot.task()
    if task is None or not (slot.folder / PARAMS).is_file():
        return []
    for left in (".dvc/tmp/rwlock", ".dvc/tmp/lock", ".git/index.lock"):  # nothing runs there now
        (slot.folder / left).unlink(missing_ok=True)
    stage = next((name for name in task.stages if name not in task.done), "")
    return [stage] if stage and _has_finished(slot, stage) and _commit(slot, stage) else []


def _has_finished(slot: Slot, stage: str) -> bool:
    """Whether a stage ended well and its outputs are whole, though DVC may not know."""
    declaration = read_declarations(slot.folder)[stage]
    record = find_record(stage, read_causes(slot.folder, declaration).fingerprint)
    found = {out: digest(slot.folder / out) for out in declaration.outs}
    return record is not None and record.status == "FINISHED" and record.outputs == found


def _commit(slot: Slot, stage: str) -> bool:
    """Put the outputs of a stage into DVC's cache and run cache."""
    command = [sys.executable, "-m", "dvc", "commit", "--quiet", "--force", stage]
    return subprocess.run(command, cwd=slot.folder, check=False).returncode == 0


def _slots_of(project: Path, folder: Path) -> list[Slot]:
    return [Slot(project, path) for path in sorted(folder.glob("*")) if path.is_dir()]


def _has_worker(slot: Slot, processes: list[psutil.Process]) -> bool:
    task = slot.task()
    return task is not None and task.group in {process.pid for process in processes}


def _send(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)


def _processes_in(slot: Slot) -> list[psutil.Process]:
    """Find the processes of a slot's worker: of its group, and with the slot as their folder."""
    task, found = slot.task(), list[psutil.Process]()
    if task is None or not task.group:
        return found
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getpgid(process.pid) == task.group and process.cwd() == str(slot.folder):
                found.append(process)
    return found

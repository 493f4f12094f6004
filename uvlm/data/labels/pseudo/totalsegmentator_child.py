"""The process in which TotalSegmentator runs; `totalsegmentator` starts it and says why.

Before the package is imported, connections are forbidden, its home is a folder of this process
alone, and its telemetry is off. Its downloader is replaced, because it would also remove folders of
older releases; models stay loaded from one CT to the next.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pkgutil
import shutil
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TextIO

Label = Callable[[str], Any]


class LoadError(Exception):
    """A model file cannot be loaded."""


def main(arguments: list[str]) -> None:
    """Label the CTs that stdin names, one JSON object per line, until it ends."""
    stdin, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the package prints goes to the log, not among the answers
    sys.stdin = open(os.devnull)  # noqa: PTH123, SIM115 - nnU-Net's forks close it, and would wait
    sys.addaudithook(refuse_connections)
    home = Path(tempfile.mkdtemp(prefix="uvlm_totalsegmentator_"))
    requests = _requests(stdin, home)
    prepare_home(home)
    try:
        label = load(arguments[0], fast="--fast" in arguments)
    except Exception as error:
        _say(answers, _setup(error))
        return
    _say(answers, {"ready": str(home)})
    while True:
        request = requests.get()
        _say(answers, _labelled(label, request["ct"], request["out"]))


def refuse_connections(event: str, arguments: tuple[Any, ...]) -> None:
    """Forbid all connections but those within this machine; an audit hook cannot be removed."""
    is_remote = event == "socket.getaddrinfo"
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        is_remote = isinstance(arguments[1], tuple)  # a Unix socket has a path instead
    if is_remote:
        raise PermissionError("TotalSegmentator runs without a network here")


def prepare_home(home: Path) -> None:
    """Set up a home without telemetry for the package, with everything temporary in it."""
    settings = {"totalseg_id": "", "send_usage_stats": False, "prediction_counter": 0}
    settings["statistics_disclaimer_shown"] = True
    (home / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    names = ("HOME", "TMPDIR", "TOTALSEG_HOME_DIR", "MPLCONFIGDIR")
    os.environ.update(dict.fromkeys(names, str(home)))
    tempfile.tempdir = str(home)


def load(task: str, *, fast: bool) -> Label:
    """Import the package; return a function from a CT's path to an image of its labels."""
    import torch
    from totalsegmentator import python_api

    from uvlm.device import choose_device_of_published

    warnings.simplefilter("ignore")
    device = str(choose_device_of_published()).replace("cuda", "gpu")
    threads = torch.get_num_threads()
    multiprocessing.cpu_count = lambda: threads  # nnU-Net would take every core of the machine
    one_thread = {"nr_thr_resamp": 1, "nr_thr_saving": 1}

    def already_checked(task_id: object) -> None:
        """Stand in for the downloader."""

    def label(ct: str) -> Any:
        return python_api.totalsegmentator(
            Path(ct), None, ml=True, task=task, fast=fast, device=device, quiet=True, **one_thread
        )

    python_api.download_pretrained_weights = already_checked
    _skip_trainers_that_cannot_be_imported()
    _keep_models_loaded()
    return label


def _skip_trainers_that_cannot_be_imported() -> None:
    """Find a model's trainer although others need torchvision, which is not installed here.

    nnU-Net imports its trainers one by one until it meets the name, and fails at the first that
    lacks a package.
    """
    from nnunetv2.inference import predict_from_raw_data
    from nnunetv2.training import nnUNetTrainer as trainers
    from totalsegmentator.nnunet import custom_trainers

    def find(name: str) -> Any:
        if name in custom_trainers:
            return custom_trainers[name]
        prefix = f"{trainers.__name__}."
        for found in pkgutil.walk_packages(trainers.__path__, prefix, onerror=lambda _: None):
            with suppress(ImportError):
                if trainer := getattr(import_module(found.name), name, None):
                    return trainer
        raise LoadError(f"nnU-Net has no trainer {name}")

    predict_from_raw_data.recursive_find_trainer_class_by_name = find


def _keep_models_loaded() -> None:
    """Let nnU-Net's predictors reuse what an earlier one has loaded of the same model."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    load_model = nnUNetPredictor.initialize_from_trained_model_folder
    loaded: dict[str, dict[str, Any]] = {}

    def initialize(self: Any, folder: str, use_folds: Any, checkpoint_name: str) -> None:
        key = f"{folder} {use_folds} {checkpoint_name}"
        if key not in loaded:
            before = dict(vars(self))
            try:
                load_model(self, folder, use_folds, checkpoint_name)
            except Exception as error:
                raise LoadError(f"{folder}: {error}") from error
            # Loading is known only by the attributes it sets; the others belong to one predictor.
            new = {n: v for n, v in vars(self).items() if n not in before or v is not before[n]}
            loaded[key] = new
            sys.stderr.write(f"loaded {Path(folder).parent.name}\n")
        vars(self).update(loaded[key])

    nnUNetPredictor.initialize_from_trained_model_folder = initialize


def _labelled(label: Label, ct: str, out: str) -> dict[str, str]:
    """Label one CT; return the answer."""
    import numpy as np
    from nibabel.loadsave import save
    from nibabel.nifti1 import Nifti1Image

    try:
        image = label(ct)
        ids = np.asanyarray(image.dataobj).astype(np.uint8)
        make_image: Any = Nifti1Image
        save(make_image(ids, image.affine), out)
    except LoadError as error:
        return _setup(error)
    except (Exception, SystemExit) as error:
        return {"refused": _one_line(error)}
    return {"done": out}


def _setup(error: Exception) -> dict[str, str]:
    """Describe what is wrong with the environment, in the words of a SetupError."""
    return {
        "setup": getattr(error, "fact", _one_line(error)),
        "subject": getattr(error, "subject", "totalsegmentator"),
        "remedy": getattr(error, "remedy", "install the package or download its weights again"),
    }


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _requests(lines: TextIO, home: Path) -> SimpleQueue[dict[str, str]]:
    """Read requests in a thread; when they end, sweep up and end everything."""
    queue: SimpleQueue[dict[str, str]] = SimpleQueue()

    def read() -> None:
        for line in lines:
            queue.put(json.loads(line))
        shutil.rmtree(home, ignore_errors=True)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # including all that nnU-Net has started
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return queue


def _say(answers: TextIO, answer: dict[str, str]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main(sys.argv[1:])

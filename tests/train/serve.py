"""A process that has imported everything and forks one training for every line it is sent.

    {"name": "seg", "stop": [7, "optimizer"], "changes": {...}}

A training that comes to its stop says `here` and waits: for the signal that ends it, or for a line
that lets it go on with a signal received. The server says the pid, then how the process ended.

    forward     in the middle of the forward pass of that step
    optimizer   the weights are new, nothing else is
    step        the step is done and shown, not yet validated or saved
    rename      that many renames in the state folder are done, the next one is about to be

The digest of the weights after every step goes to digests.txt, one line a step.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning_fabric  # noqa: F401  imported before the first fork
import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.train.chain import Chain
from uvlm.config import load_params
from uvlm.errors import UvlmError


def say(text: object) -> None:
    """Print a line at once."""
    os.write(1, f"{text}\n".encode())


class Stop:
    """Waits at one place of the training; also the progress bar that counts its steps."""

    def __init__(self, at: int, where: str, digests: Path) -> None:
        self.at, self.where, self.digests = at, where, digests
        self.done = self.renames = 0
        register_module_forward_pre_hook(self._forward)
        register_optimizer_step_post_hook(self._optimizer)
        sys.addaudithook(self._audit)

    def update(self, step: int, total: int, loss: float | None = None) -> None:
        """Count a step."""
        self.done += 1
        self._reach("step", self.done)

    def _forward(self, module: torch.nn.Module, inputs: Any) -> None:
        if module.training and isinstance(module, torch.nn.Linear | torch.nn.Conv3d):
            self._reach("forward", self.done + 1)

    def _optimizer(self, optimizer: torch.optim.Optimizer, *arguments: object) -> None:
        whole = hashlib.sha256()
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                whole.update(parameter.detach().contiguous().numpy().data)
        with self.digests.open("a") as file:
            file.write(f"{whole.hexdigest()}\n")
        self._reach("optimizer", self.done + 1)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and ".uvlm/state" in str(arguments[1]):
            self._reach("rename", self.renames)
            self.renames += 1

    def _reach(self, where: str, count: int) -> None:
        if (where, count) == (self.where, self.at):
            self.where = ""
            say("here")
            sys.stdin.readline()


def train(chain: Chain, order: dict[str, Any]) -> int:
    """Run one training; returns its exit code."""
    at, where = order.get("stop", (0, ""))
    stop = Stop(at, where, chain.project.root / "digests.txt")
    if order.get("file_limit"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_limit"],) * 2)
    try:
        getattr(chain, order["name"])(progress=stop, **order.get("changes", {}))
    except UvlmError as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        return error.exit_code
    return 0


def project_of(root: Path) -> SimpleNamespace:
    """The project that another process laid out in this folder."""
    data = root / "data"
    return SimpleNamespace(
        root=root,
        index=data / "manifests" / "index.jsonl",
        preprocess=data / "manifests" / "preprocess.jsonl",
        label_maps=data / "manifests" / "label_maps.jsonl",
        tokenizer=data / "models" / "tokenizer",
    )


def main(root: Path) -> None:
    """Serve until stdin is closed."""
    chain = Chain(load_params(root / "params.yaml"), project_of(root))
    while line := sys.stdin.readline():
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os._exit(train(chain, order))
        say(pid)
        status = os.waitpid(pid, 0)[1]
        say(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

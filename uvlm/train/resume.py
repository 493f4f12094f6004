"""State of an unfinished training, outside the outputs of the pipeline.

    <project>/.uvlm/state/<stage>-<fingerprint>/
        lock                 held while a process trains
        state.safetensors    weights, optimiser, best weights; step and scores in its header
        bad_batch.json       only after a loss that is not finite

The fingerprint covers parameters and inputs, so a changed number never continues an old run.
Batches, augmentation, dropout and learning rate depend on (seed, step) alone: nothing else is kept.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from uvlm.config import Params
from uvlm.errors import DataError, SetupError
from uvlm.model.weights import load_weights, weights_of
from uvlm.store import key_of, write_bytes_atomic


@dataclass(frozen=True, eq=False)
class Best:
    """The best validation so far; weights are contiguous copies on the CPU."""

    step: int
    score: float
    metrics: dict[str, float]
    weights: dict[str, Tensor]


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Copy the weights to the CPU, contiguous and free of shared memory."""
    return {name: _copied(tensor) for name, tensor in weights_of(model).items()}


def fingerprint(stage: str, params: Params, sections: set[str], inputs: Iterable[Path]) -> str:
    """Digest of everything that decides a training's result: parameters and input files."""
    digests = {}
    for path in inputs:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            with file.open("rb") as stream:
                name = file.relative_to(path.parent).as_posix()
                digests[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    numbers = params.model_dump(mode="json", include={"seed", *sections})
    return key_of(stage, numbers, digests)


class ResumeFolder:
    """The state folder of one training; a context that locks it and removes it on success."""

    def __init__(self, stage: str, digest: str) -> None:
        root = Path(os.environ.get("DVC_ROOT") or Path.cwd())
        self.stage = stage
        self.folder = root / ".uvlm" / "state" / f"{stage}-{digest}"
        self.path = self.folder / "state.safetensors"
        self._lock: TextIOWrapper | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = (self.folder / "lock").open("w", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise SetupError(
                self.folder, f"another process is running {self.stage}", "wait for it or stop it"
            ) from None
        self._lock = lock
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            shutil.rmtree(self.folder)
        if self._lock is not None:
            self._lock.close()

    def exists(self) -> bool:
        """Whether there is a state to continue from."""
        return self.path.exists()

    def save(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, best: Best | None
    ) -> None:
        """Replace the state in one move; `step` is the number of finished steps."""
        from safetensors.torch import save

        tensors = {f"model.{name}": value for name, value in snapshot(model).items()}
        for index, slots in optimizer.state_dict()["state"].items():
            for name, value in slots.items():
                if value is not None:
                    tensors[f"optimizer.{index}.{name}"] = _copied(torch.as_tensor(value))
        header: dict[str, Any] = {"step": step}
        if best is not None:
            tensors |= {f"best.{name}": value for name, value in best.weights.items()}
            header["best"] = {"step": best.step, "score": best.score, "metrics": best.metrics}
        write_bytes_atomic(self.path, save(tensors, {"uvlm": json.dumps(header)}))

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, Best | None]:
        """Put weights and optimiser back; returns finished steps and the best so far."""
        if not self.exists():
            return 0, None
        header, tensors = self._read()
        load_weights(model, _under("model.", tensors), self.path)
        _load_optimizer(optimizer, _under("optimizer.", tensors))
        best = header.get("best")
        if best is not None:
            best = Best(weights=_under("best.", tensors), **best)
        return int(header["step"]), best

    def _read(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                header = json.loads(file.metadata()["uvlm"])
                return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise DataError(
                self.path, f"damaged training state ({error})", "delete its folder and run again"
            ) from None


def _load_optimizer(optimizer: torch.optim.Optimizer, slots: Mapping[str, Tensor]) -> None:
    """Fill the optimiser's slots, each laid out in memory as its parameter is."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in slots.items():
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        if value.shape == parameter.shape and value.ndim:
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

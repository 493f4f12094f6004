"""State of an unfinished training, kept outside the outputs of the pipeline.

    <project>/.uvlm/state/<stage>-<fingerprint>/
        lock                   held while a process trains
        state.safetensors      weights, optimiser, best weights; step, scores, digest in its header
        previous.safetensors   the state before, used if the other is damaged
        bad_batch.*            only after a loss that is not finite, see faults.py

The fingerprint covers code, parameters and inputs, so a changed training never continues an old
run; its last three parts show which of the three changed.
Batches, augmentation, dropout and learning rate depend only on (seed, step), so no state of theirs
is kept. The first process writes and all of them read; sharded weights are put together for it.
A step that ends with a validation is saved before and after it; the header says which.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from uvlm.environment import project_root
from uvlm.errors import DataError, SetupError
from uvlm.model.weights import load_weights
from uvlm.processes import place
from uvlm.train.loop.sharding import laid_out_as, spread, whole_copy, whole_weights


@dataclass(frozen=True, eq=False)
class Best:
    """The best validation so far; weights are contiguous copies on the CPU."""

    step: int
    score: float
    metrics: dict[str, float]
    weights: dict[str, Tensor]

    def put_into(self, model: nn.Module) -> dict[str, float]:
        """Load the weights into `model`; return their metrics and `best_step`."""
        load_weights(model, spread(self.weights, model), "the best weights")
        return {**self.metrics, "best_step": float(self.step)}


class Reached(NamedTuple):
    """How far a training has come; not validated, it owes the validation after `step`."""

    step: int = 0
    best: Best | None = None
    is_validated: bool = True


class Snapshot(NamedTuple):
    """A state in the computer's memory, which training no longer changes."""

    header: dict[str, Any]
    tensors: dict[str, Tensor]


class ResumeFolder:
    """The state folder of one training: a context that locks it, and removes it on success."""

    def __init__(self, stage: str, fingerprint: str) -> None:
        self.stage = stage
        self.folder = project_root() / ".uvlm" / "state" / f"{stage}-{fingerprint}"
        self.path = self.folder / "state.safetensors"
        self.previous = self.folder / "previous.safetensors"
        self._lock: TextIOWrapper | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        if place().is_first:
            self._lock = self._locked()
            for unfinished in [*self.folder.glob(".*"), *self.folder.glob("next.*")]:
                unfinished.unlink()  # a killed process was writing it
            if not self.exists():
                self._tell_of_another()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._lock is not None:
            if kind is None:  # after an error or a signal the state stays
                shutil.rmtree(self.folder)
            self._lock.close()

    def exists(self) -> bool:
        """Tell whether there is a state to continue from."""
        return self.path.exists() or self.previous.exists()

    def snapshot(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        step: int,
        best: Best | None,
        is_validated: bool = True,
    ) -> Snapshot | None:
        """Copy the state after `step` finished steps; all but the first process get None."""
        tensors = {f"model.{name}": value for name, value in whole_weights(model).items()}
        for index, slots in optimizer.state_dict()["state"].items():
            for name, value in slots.items():
                if value is not None:
                    tensors[f"optimizer.{index}.{name}"] = whole_copy(torch.as_tensor(value))
        # Only now may the others leave: putting sharded weights together takes all processes.
        if not place().is_first:
            return None
        header: dict[str, Any] = {"step": step, "is_validated": is_validated}
        header["processes"] = place().world_size
        if best is not None:  # copies too, and nobody changes them
            tensors |= {f"best.{name}": value for name, value in best.weights.items()}
            header["best"] = {"step": best.step, "score": best.score, "metrics": best.metrics}
        return Snapshot(header, tensors)

    def write(self, snapshot: Snapshot) -> None:
        """Write the new state beside the old one, then swap; a whole state exists at any moment."""
        header, tensors = snapshot
        written = self.folder / "next.safetensors"
        sha256 = _digest(header, tensors)
        _write_state(written, {**header, "sha256": sha256}, tensors)
        # Killed between these two renames, the next run reads `previous`.
        if self.path.exists():
            self.path.replace(self.previous)
        written.replace(self.path)

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Reached:
        """Restore weights and optimiser; return the finished steps and the best so far."""
        if not self.exists():
            return Reached()
        header, tensors = self._read()
        saved, size = header["processes"], place().world_size
        if saved != size:
            fact = f"{saved} processes saved it and {size} would go on, with other batches a step"
            remedy = f"start {saved}, or delete {self.folder} to train from the start"
            raise SetupError(self.path, fact, remedy)
        load_weights(model, spread(_under("model.", tensors), model), self.path)
        _load_optimizer(optimizer, _under("optimizer.", tensors))
        best = header.get("best")
        if best is not None:
            best = Best(weights=_under("best.", tensors), **best)
        return Reached(int(header["step"]), best, bool(header.get("is_validated", True)))

    def _tell_of_another(self) -> None:
        """Say why this training starts afresh although another one has left a state."""
        states = self.folder.parent.glob(f"{self.stage}-*/{self.path.name}")
        if latest := max(states, key=lambda path: path.stat().st_mtime, default=None):
            own, other = (path.name.split("-")[2:] for path in (self.folder, latest.parent))
            causes = zip(("code", "parameters", "inputs"), own, other, strict=False)
            what = " and ".join(name for name, one, two in causes if one != two)
            sys.stderr.write(
                f"{self.stage}: starts at step 0; {latest.parent} holds an unfinished one with "
                f"other {what or 'code, parameters or inputs'}; delete it if nobody needs it\n"
            )

    def _locked(self) -> TextIOWrapper:
        lock = (self.folder / "lock").open("w", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            fact = f"another process is running {self.stage}"
            raise SetupError(self.folder, fact, "wait for it or stop it") from None
        return lock

    def _read(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Read the state, or the one before if it is damaged; both lead to the same result."""
        problems = []
        for path in (self.path, self.previous):
            try:
                header, tensors = _read_state(path)
            except FileNotFoundError:
                continue
            except ValueError as error:
                problems.append(str(error))
                continue
            if problems and place().is_first:
                sys.stderr.write(
                    f"{self.path}: damaged training state ({problems[0]}); "
                    f"continuing from step {header['step']}, saved in {path.name}\n"
                )
            return header, tensors
        remedy = f"delete {self.folder} and run again to train from the start"
        raise DataError(self.path, f"damaged training state ({'; '.join(problems)})", remedy)


def _write_state(path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write one file, from the memory of the tensors, and wait for the disk."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path, {"uvlm": json.dumps(header)})
        with path.open("rb") as file:
            os.fsync(file.fileno())  # else a power cut may leave a name without content
    except (OSError, SafetensorError) as error:
        if path.is_file():
            path.unlink()
        reason = str(error).rpartition("I/O error: ")[2].partition(" (os error")[0]
        size = sum(tensor.nbytes for tensor in tensors.values())
        fact = f"{size:,} bytes of training state cannot be written ({reason})"
        remedy = "make room and run the same command; it continues from the state before"
        raise SetupError(path.parent, fact, remedy) from None


def _read_state(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read and verify one file; a ValueError says what is wrong with it."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["uvlm"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(str(error)) from None
    if header.pop("sha256", None) != _digest(header, tensors):
        raise ValueError("its content is not what was written")
    return header, tensors


def _digest(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Compute the sha256 of everything in a state."""
    whole = hashlib.sha256(json.dumps(header, sort_keys=True).encode("utf-8"))
    for name, tensor in sorted(tensors.items()):
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        whole.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()


def _load_optimizer(optimizer: torch.optim.Optimizer, slots: Mapping[str, Tensor]) -> None:
    """Fill the optimiser's slots."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in slots.items():
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        # Kernels may sum in another order in another memory layout; the last digit must not differ.
        if value.shape == parameter.shape and value.ndim:
            value = laid_out_as(value, parameter.detach())
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

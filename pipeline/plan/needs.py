"""What a profile requires of this computer, asked of whoever will need it; nothing is downloaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from uvlm.config import LABEL_KINDS, Params
from uvlm.data.labels.pseudo.backends import choose_backend
from uvlm.errors import SetupError, UvlmError
from uvlm.estimates.check import ON_DEVICE, compared, refuse_if_larger
from uvlm.estimates.stages import Estimate
from uvlm.evaluation.labeller import get_labeller
from uvlm.memory import Memory, usable_memory
from uvlm.text.abnormalities import abnormality_names


def missing_parts(params: Params) -> list[UvlmError]:
    """Ask every part that brings weights, a package or a program whether it is all there."""
    return _refusals(_parts(params))


def missing_memory(found: Iterable[Estimate], gpu: Memory | None) -> list[UvlmError]:
    """Find the stages that will not fit.

    Args:
        found: the estimates.
        gpu: memory of the GPU to plan for; None takes the device that is here.
    """
    return _refusals(partial(_refuse_memory, each, gpu) for each in found)


def missing_disk(needed: Sequence[tuple[str, int]], folder: Path) -> list[UvlmError]:
    """Add up all kinds of files, less what the folder already holds, and compare with the disk."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free, held = shutil.disk_usage(there).free, _bytes_below(folder)
    total = sum(num_bytes for _, num_bytes in needed)
    if total <= free + held:
        return []
    parts = ", ".join(f"{name} {num_bytes / 1e9:,.1f}" for name, num_bytes in needed if num_bytes)
    fact = f"{total / 1e9:,.1f} GB are needed in all ({parts})"
    fact += f", {held / 1e9:,.1f} GB are there and {free / 1e9:,.1f} GB free"
    remedy = "set UVLM_DATA_ROOT to a larger disk, keep fewer raw volumes, or choose fewer patients"
    return [SetupError(folder, fact, remedy)]


def _parts(params: Params) -> Iterator[Callable[[], object]]:
    for kind in LABEL_KINDS:
        backend = choose_backend(kind, getattr(params.pseudo_label, kind))
        yield backend.provenance
    yield partial(get_labeller, params.evaluate.labeller, abnormality_names(params))
    if params.tokenizer.kind == "qwen3" or params.decoder.kind != "scratch":
        from uvlm.qwen_folder import qwen_file, qwen_weights
        from uvlm.text.tokenizer import FILE_NAME

        yield partial(qwen_file, FILE_NAME)
        if params.decoder.kind != "scratch":
            yield qwen_weights
    if params.train_seg.initial_weights is not None:
        from uvlm.environment import INITIAL_WEIGHTS

        yield partial(INITIAL_WEIGHTS.needed, "set it to what `uvlm import-nnunet` wrote")


def _refuse_memory(found: Estimate, gpu: Memory | None) -> None:
    needed, there = compared(found, usable_memory())
    if gpu is not None and found.stage in ON_DEVICE:
        needed, there = found.on_device, gpu
    refuse_if_larger(found, needed, there)


def _refusals(checks: Iterable[Callable[[], object]]) -> list[UvlmError]:
    """Run checks to the end, and collect what they refuse; the same refusal counts once."""
    refused: dict[str, UvlmError] = {}
    for check in checks:
        try:
            check()
        except UvlmError as error:
            refused.setdefault(str(error), error)
    return list(refused.values())


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

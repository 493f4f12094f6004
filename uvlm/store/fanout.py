"""One function over many cases, on all cores or on a cluster; results in the order of the items."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

from uvlm.environment import EXECUTOR, WORKERS, allowed_cores
from uvlm.errors import ConfigError, SetupError
from uvlm.memory import peak_resident

Item = TypeVar("Item")
Result = TypeVar("Result")
CaseProgress = Callable[[str, int, int], None]  # description, cases done, cases in all
_MOST_PER_TASK: Final = 16
_PATIENCE_S: Final = 10
_SHOWN: Final = 80  # characters of what is not a case
_LARGEST: Final = [0]  # bytes; of all workers so far


@dataclass(frozen=True)
class Shard:
    """Share `index` of `count`, counted from 1; each item belongs to exactly one."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "2/8"."""
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError("--shard", f"is {text!r}", "pass i/n with i from 1 to n, such as 2/8")
        return cls(int(match[1]), int(match[2]))

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Take every `count`-th item."""
        return items[self.index - 1 :: self.count]


def in_batches(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Cut items into batches; the last may be smaller."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def map_cases(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None = None,
    description: str = "",
    progress: CaseProgress | None = None,
) -> list[Result]:
    """Apply a picklable function to every item.

    Args:
        function: raises only what should end the stage; refusals are results.
        items: one per case.
        workers: processes on this machine; None reads the environment.
        description: what the cases are made into, for `progress`.
        progress: called after every batch.
    """
    with _executor(workers) as (workers, options), TemporaryDirectory() as notes:
        # Small enough that no worker idles at the end, large enough to hide what sending costs.
        size = max(1, min(_MOST_PER_TASK, len(items) // (4 * workers)))
        batches = [items[start : start + size] for start in range(0, len(items), size)]
        results: list[Result] = []
        work = partial(_each, function=function, notes=Path(notes))
        try:
            for done, peak in _finished(work, batches, workers, options):
                results.extend(done)
                _LARGEST[0] = max(_LARGEST[0], peak)
                if progress is not None:
                    progress(description, len(results), len(items))
        except BrokenExecutor as error:
            raise _worker_died(description, Path(notes), workers) from error
    return results


def largest_worker() -> int:
    """Return the largest memory that a worker of this process has had, in bytes."""
    return _LARGEST[0]


def _finished(
    work: Callable[[Any], Any], batches: Sequence[Any], workers: int, options: Any
) -> Any:
    """Yield the results of each batch as it ends, in order."""
    is_local = options["backend"] == "loky"
    if is_local and (workers == 1 or len(batches) < 2 * workers):
        # Starting workers takes longer than so few batches.
        return map(work, batches)
    from joblib import Parallel, delayed, parallel_config

    with parallel_config(**options):
        pool = Parallel(n_jobs=workers, return_as="generator", batch_size=1)
        return pool(delayed(work)(batch) for batch in batches)


def _each(
    batch: Sequence[Item], function: Callable[[Item], Result], notes: Path
) -> tuple[list[Result], int]:
    """Do a batch in this process, noting the case at hand; also return the memory it has taken."""
    note, results = notes / str(os.getpid()), []
    for item in batch:
        with suppress(OSError):  # on another machine there is no such folder
            note.write_text(str(getattr(item, "case_id", item))[:_SHOWN], encoding="utf-8")
        results.append(function(item))
    note.unlink(missing_ok=True)
    return results, peak_resident()


def _worker_died(description: str, notes: Path, workers: int) -> SetupError:
    """Name the cases that the workers had at hand: one of them was too large for the memory."""
    cases = sorted(note.read_text(encoding="utf-8") for note in notes.iterdir())
    fact = f"a worker was killed, most likely for want of memory, at one of {', '.join(cases)}"
    remedy = f"lower {WORKERS.name} (it was {workers}) and run the same command, which continues"
    return SetupError(description or "a stage", fact, remedy)


@contextmanager
def _executor(workers: int | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Connect to `$UVLM_EXECUTOR`; yield the number of workers and joblib's options."""
    name, workers = EXECUTOR.read(), workers or WORKERS.read() or allowed_cores()
    try:
        if name == "loky":
            yield workers, {"backend": "loky"}
        elif name == "ray":
            import_module("ray.util.joblib").register_ray()
            yield workers, {"backend": "ray"}
        else:
            with _dask_client(name) as client:
                threads = sum(client.nthreads().values())
                yield max(1, threads), {"backend": "dask", "client": client}
    except ImportError as error:
        raise SetupError(EXECUTOR.name, f"{name} needs {error.name}", "install it") from None


def _dask_client(name: str) -> Any:
    """Connect to a Dask scheduler."""
    distributed = import_module("dask.distributed")
    try:
        return distributed.Client(name.replace("dask://", "tcp://"), timeout=_PATIENCE_S)
    except (OSError, ValueError) as error:
        fact = f"{name} does not answer ({error})"
        raise SetupError(EXECUTOR.name, fact, "start `dask scheduler` there") from None

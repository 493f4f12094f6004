"""One function over many cases, on all cores or on a cluster; results in the order of the items."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final, TypeVar

from uvlm.errors import ConfigError, SetupError

Item = TypeVar("Item")
Result = TypeVar("Result")
CaseProgress = Callable[[str, int, int], None]  # description, cases done, cases in all
_MOST_PER_TASK: Final = 16


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
        workers: processes; None takes `$UVLM_WORKERS`, else the number of cores. `$UVLM_EXECUTOR`
            says where they run: `loky` (default), `dask://host:port` or `ray`.
        description: what the cases are being made into, for `progress`.
        progress: told after every batch.
    """
    workers = workers or _workers()
    size = max(1, min(_MOST_PER_TASK, len(items) // (4 * workers)))
    batches = [items[start : start + size] for start in range(0, len(items), size)]
    results: list[Result] = []
    for done in _finished(function, batches, workers):
        results.extend(done)
        if progress is not None:
            progress(description, len(results), len(items))
    return results


def _finished(function: Callable[[Item], Result], batches: Sequence[Any], workers: int) -> Any:
    """Yield the results of each batch as it ends, in order."""
    if workers == 1 or len(batches) < 2 * workers:
        return (_each(function, batch) for batch in batches)
    from joblib import Parallel, delayed, parallel_config

    with parallel_config(**_backend(os.environ.get("UVLM_EXECUTOR") or "loky")):
        pool = Parallel(n_jobs=workers, return_as="generator", batch_size=1)
        return pool(delayed(_each)(function, batch) for batch in batches)


def _each(function: Callable[[Item], Result], batch: Sequence[Item]) -> list[Result]:
    return [function(item) for item in batch]


def _workers() -> int:
    text = os.environ.get("UVLM_WORKERS") or str(os.cpu_count() or 1)
    if not text.isdigit() or int(text) < 1:
        raise ConfigError("UVLM_WORKERS", f"is {text!r}", "give a number of processes")
    return int(text)


def _backend(name: str) -> dict[str, Any]:
    """Look up what joblib needs to run where `$UVLM_EXECUTOR` says."""
    try:
        if name == "loky":
            return {"backend": "loky"}
        if name == "ray":
            import_module("ray.util.joblib").register_ray()
            return {"backend": "ray"}
        if name.startswith("dask://"):
            address = name.replace("dask://", "tcp://")
            return {"backend": "dask", "client": import_module("dask.distributed").Client(address)}
    except ImportError as error:
        raise SetupError("UVLM_EXECUTOR", f"{name} needs {error.name}", "install it") from None
    raise ConfigError("UVLM_EXECUTOR", f"is {name!r}", "use loky, ray or dask://host:port")

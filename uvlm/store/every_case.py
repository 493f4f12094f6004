"""A stage over its cases: each is found in the store or made, and ends as a row or a refusal."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from uvlm.arrays import Array
from uvlm.errors import ReadError
from uvlm.store import manifest
from uvlm.store.arrays import array_path
from uvlm.store.changed_code import Item, check, guarded
from uvlm.store.fanout import CaseProgress, Shard, in_batches, map_cases
from uvlm.store.manifest import Refusal, Row
from uvlm.store.once import find_or_make
from uvlm.store.product import BatchProduct, Made, Product


def run(
    product: Product[Item],
    items: Sequence[Item],
    out: Path,
    max_refused: float,
    quarantine: Path | None = None,
    progress: CaseProgress | None = None,
    code: str = "",
    workers: int | None = None,
) -> dict[str, int]:
    """Make what the store does not hold yet, and write the manifest.

    Args:
        product: what is made.
        items: what it is made from, one per case.
        out: the manifest.
        max_refused: share of the cases; the stage stops if more are refused.
        quarantine: where refused cases are listed.
        progress: called as cases are done.
        code: digest of the stage's code; if empty, stored arrays are taken as they are.
        workers: processes on this machine; None reads the environment.

    Returns:
        How many cases were kept, and how many were refused for each reason.
    """
    attempt = partial(_attempt_all, product, items, progress, workers)
    results = guarded(product, items, code, attempt)
    rows = [result for result in results if isinstance(result, Row)]
    refusals = [result for result in results if isinstance(result, Refusal)]
    if quarantine is not None:
        manifest.write_quarantine(quarantine, refusals)
    name = product.title.replace("@", "_")
    manifest.check_quarantine_share(name, len(refusals), len(items), max_refused)
    manifest.write_manifest(out, rows)
    return {"kept": len(rows), **Counter(refusal.reason for refusal in refusals)}


def run_shard(
    product: Product[Item],
    items: Sequence[Item],
    shard: Shard,
    progress: CaseProgress | None = None,
    code: str = "",
    workers: int | None = None,
) -> None:
    """Make one share of the cases into the store and write nothing else.

    `run` then finds every share there and only assembles; it refuses again what a share refused.
    """
    check(product, items, code)
    _attempt_all(product, shard.of(items), progress, workers)


def run_in_batches(
    product: BatchProduct[Item],
    items: Sequence[Item],
    size: int,
    done: Callable[[int], None],
    code: str = "",
) -> list[Row]:
    """Make what the store does not hold yet, in batches in this process, reading ahead.

    Args:
        product: what is made.
        items: what it is made from, one per case.
        size: of a batch.
        done: called with the number of cases done.
        code: digest of the stage's code; if empty, stored arrays are taken as they are.
    """
    batches = in_batches(items, size)
    return guarded(product, items, code, lambda: _make_batches(product, batches, done))


def run_shard_in_batches(
    product: BatchProduct[Item],
    items: Sequence[Item],
    size: int,
    shard: Shard,
    done: Callable[[int], None],
    code: str = "",
) -> list[Row]:
    """Make one share of the batches into the store; `run_in_batches` then finds them there.

    Batches are shared out, not cases: the last bits may depend on the batch.
    """
    check(product, items, code)
    batches = shard.of(in_batches(items, size))
    return [row for row, _ in _make_batches(product, batches, done)]


def _make_batches(
    product: BatchProduct[Item], batches: Sequence[Sequence[Item]], done: Callable[[int], None]
) -> Iterator[tuple[Row, bool]]:
    from uvlm.read_ahead import read_ahead

    wanted: deque[Sequence[Item]] = deque()

    def looked_up() -> Iterator[Sequence[Item]]:
        for batch in batches:
            wanted.append(_to_make(batch, product))
            yield wanted[-1]

    ahead, count = read_ahead(partial(_read, product=product), looked_up(), product.device), 0
    for batch, inputs in zip(batches, ahead, strict=True):
        yield from _batch(batch, wanted.popleft(), inputs, product)
        count += len(batch)
        done(count)


def _to_make(batch: Sequence[Item], product: BatchProduct[Item]) -> Sequence[Item]:
    """Choose the cases of a batch that are missing, or all where the last bits ask for that."""
    missing = [item for item in batch if not product.is_stored(item)]
    return batch if missing and product.as_a_whole else missing


def _read(some: Sequence[Item], product: BatchProduct[Item]) -> Sequence[Any]:
    return product.read(some) if some else ()


def _batch(
    items: Sequence[Item], some: Sequence[Item], inputs: Sequence[Any], product: BatchProduct[Item]
) -> list[tuple[Row, bool]]:
    """Make some cases together; store each unless another process has by then."""
    arrays = product.make_several(some, inputs) if some else ()
    made = {item.case_id: array for item, array in zip(some, arrays, strict=True)}
    return [_find_or_make(item, product, lambda item: _made(item, product, made)) for item in items]


def _made(item: Item, product: BatchProduct[Item], made: Mapping[str, Array]) -> Made:
    """Take the array of a case; make it alone if it has gone from the store since it was seen."""
    return (made[item.case_id], {}) if item.case_id in made else product.make(item)


def _attempt_all(
    product: Product[Item],
    items: Sequence[Item],
    progress: CaseProgress | None,
    workers: int | None,
) -> list[tuple[Row | Refusal, bool]]:
    work = partial(_attempt, product=product)
    title = product.title
    return map_cases(work, items, workers=workers, description=title, progress=progress)


def _attempt(item: Item, product: Product[Item]) -> tuple[Row | Refusal, bool]:
    """Find or make one case; a refused file leaves the case out."""
    try:
        return _find_or_make(item, product, product.make)
    except ReadError as error:
        file = _file_name(error.subject, product.root)
        return Refusal(item.case_id, file, error.reason, error.fact, error.remedy), False


def _find_or_make(
    item: Item, product: Product[Item], make: Callable[[Item], Made]
) -> tuple[Row, bool]:
    """Find or make one case; also return whether it was found."""
    key = product.key(item)
    path = array_path(product.stage, key)
    note, is_found = find_or_make(product.root / path, lambda: make(item))
    return product.row(item, key, path, note), is_found


def _file_name(subject: str, root: Path) -> str:
    """Name a file without this machine's folders."""
    path = Path(subject)
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return path.name if path.is_absolute() else subject

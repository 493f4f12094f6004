"""A stage over its cases: each is found in the store or made, and ends as a row or a refusal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from uvlm.errors import ReadError
from uvlm.store.arrays import array_path
from uvlm.store.changed_code import Item, check, guarded
from uvlm.store.fanout import CaseProgress, Shard, map_cases
from uvlm.store.manifest import (
    Refusal,
    Row,
    check_quarantine_share,
    write_manifest,
    write_quarantine,
)
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
) -> dict[str, int]:
    """Make what the store does not hold yet, and write the manifest.

    Args:
        product: what is made.
        items: what it is made from, one a case.
        out: the manifest.
        max_refused: share of the cases; the stage stops where more are refused.
        quarantine: where refused cases are listed.
        progress: told how far it is.
        code: digest of the stage's code; without one what is stored is taken as it is.

    Returns:
        How many cases were kept, and how many refused by each reason.
    """
    with guarded(product, items, code) as found:
        work = partial(_attempt, product=product)
        results = map_cases(work, items, description=product.title, progress=progress)
        found += [item for item, (_, is_found) in zip(items, results, strict=True) if is_found]
    rows = [result for result, _ in results if isinstance(result, Row)]
    refusals = [result for result, _ in results if isinstance(result, Refusal)]
    if quarantine is not None:
        write_quarantine(quarantine, refusals)
    name = product.title.replace("@", "_")
    check_quarantine_share(name, len(refusals), len(items), max_refused)
    write_manifest(out, rows)
    return {"kept": len(rows), **Counter(refusal.reason for refusal in refusals)}


def run_shard(
    product: Product[Item],
    items: Sequence[Item],
    shard: Shard,
    progress: CaseProgress | None = None,
    code: str = "",
) -> None:
    """Make one share of the cases into the store and write nothing else.

    `run` then finds every share there and only assembles; what a share refused it refuses again.
    """
    check(product, items, code)
    work = partial(_attempt, product=product)
    map_cases(work, shard.of(items), description=product.title, progress=progress)


def run_in_batches(
    product: BatchProduct[Item],
    items: Sequence[Item],
    size: int,
    done: Callable[[int], None],
    code: str = "",
) -> list[Row]:
    """Make what the store does not hold yet, some at a time in this process.

    Args:
        product: what is made.
        items: what it is made from, one a case.
        size: of a batch.
        done: told how many cases are done.
        code: digest of the stage's code; without one what is stored is taken as it is.
    """
    results: list[tuple[Row, bool]] = []
    with guarded(product, items, code) as found:
        for start in range(0, len(items), size):
            results += _batch(items[start : start + size], product)
            done(len(results))
        found += [item for item, (_, is_found) in zip(items, results, strict=True) if is_found]
    return [row for row, _ in results]


def _batch(items: Sequence[Item], product: BatchProduct[Item]) -> list[tuple[Row, bool]]:
    """Make together what is missing, and store it unless another process has by then."""
    missing = [item for item in items if not product.is_stored(item)]
    some = items if missing and product.as_a_whole else missing
    arrays = product.make_several(some) if some else ()
    made = {item.case_id: array for item, array in zip(some, arrays, strict=True)}
    return [_find_or_make(item, product, lambda item: (made[item.case_id], {})) for item in items]


def _attempt(item: Item, product: Product[Item]) -> tuple[Row | Refusal, bool]:
    """Find or make one case; a file that is refused leaves the case out."""
    try:
        return _find_or_make(item, product, product.make)
    except ReadError as error:
        file = _file_name(error.subject, product.root)
        return Refusal(item.case_id, file, error.reason, error.fact, error.remedy), False


def _find_or_make(
    item: Item, product: Product[Item], make: Callable[[Item], Made]
) -> tuple[Row, bool]:
    """Find or make one case; also say whether it was found."""
    key = product.key(item)
    path = array_path(product.stage, key)
    note, is_found = find_or_make(product.root / path, lambda: make(item))
    return product.row(item, key, path, note), is_found


def _file_name(subject: str, root: Path) -> str:
    """Name a file without the place of this machine's folders."""
    path = Path(subject)
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return path.name if path.is_absolute() else subject

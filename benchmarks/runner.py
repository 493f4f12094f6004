"""The paper's model at the paper's size, as ratios to other people's code.

    python -m benchmarks                        all families, kept in reports/benchmarks.md
    python -m benchmarks --only decoding dice   these, printed only

Every family runs in a process of its own, both sides of a row in the same one, in one thread; one
that fails costs its own rows and the exit code.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import torch

from benchmarks import sizes
from benchmarks.measure import hardware, write_section
from benchmarks.ratios import Ratio, has_amx, ratio_table

FAMILIES = (
    "decoding",
    "report_step",
    "cues",
    "attention",
    "token_loss",
    "dice",
    "augmentation",
    "encoder",
    "windows",
)
TITLE = "The model at the paper's size"


def measure(family: str) -> list[Ratio]:
    """Measure the rows of one family, in this process."""
    torch.set_num_threads(1)
    rows: list[Ratio] = importlib.import_module(f"benchmarks.{family}").measure(sizes.paper())
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and keep the table if it is whole."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=FAMILIES, metavar="FAMILY")
    chosen = parser.parse_args(arguments).only
    rows, failed = [], []
    for family in chosen:
        start = time.monotonic()
        try:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                rows += pool.submit(measure, family).result()
            outcome = "done"
        except (BrokenProcessPool, RuntimeError, ImportError, MemoryError) as error:
            failed.append(family)
            outcome = f"failed: {' '.join(str(error).split()) or type(error).__name__}"
        sys.stderr.write(f"{family}: {outcome}, {time.monotonic() - start:.0f} s\n")
    text = page(rows, failed)
    if set(chosen) == set(FAMILIES) and not failed:
        write_section(TITLE, text)
    else:
        sys.stdout.write(text)
    return 1 if failed else 0


def page(rows: Sequence[Ratio], failed: Sequence[str]) -> str:
    """Write the section: how it was measured, the table, what is missing."""
    judged = has_amx()
    told = (
        f"`python -m benchmarks`, {hardware()}, torch {torch.__version__}. CPU time of one thread; "
        "a ratio is theirs over ours, so more is better. "
    )
    if not judged:
        told += (
            "The bars on seconds were set on a CPU with AMX; this one has none, so they are shown "
            "and not judged. "
        )
    missing = "".join(f"\n{family} failed and has no rows.\n" for family in failed)
    return f"{told.strip()}\n\n{ratio_table(rows, judged)}{missing}"

"""Run a DVC stage that makes something of every case: all of them, or one share.

In a job array, each job makes its share into the common store, and `dvc repro` of the stage then
assembles the manifest:

    python -m pipeline.preprocess --shard ${SLURM_ARRAY_TASK_ID}/16
    python -m pipeline.pseudo_label anatomy --shard ${SLURM_ARRAY_TASK_ID}/16
    python -m pipeline.encode --shard ${SLURM_ARRAY_TASK_ID}/16
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

from pipeline.paths import manifest, quarantine
from pipeline.stage import Stage, run_stage
from uvlm.config import Params
from uvlm.data.cases import Case, read_index
from uvlm.data.sets.raw import say_what_is_fetched
from uvlm.errors import ConfigError
from uvlm.store import Product, Shard, every_case
from uvlm.store.changed_code import Item

ChooseCases = Callable[[Params], list[Case]]


def make_all(stage: Stage, product: Product[Item], items: Sequence[Item], **counts: int) -> None:
    """Make what the store does not hold yet; log the cases kept and refused, and other counts."""
    name, limit = product.title.replace("@", "_"), stage.params.index.max_quarantined_share
    made = every_case.run(
        product,
        items,
        manifest(name),
        limit,
        quarantine(name),
        stage.progress.cases,
        stage.code,
        stage.num_workers(product.title),
    )
    stage.tracker.log(made | counts, 0)


def indexed_cases(_: Params) -> list[Case]:
    """Read every case of the index."""
    return read_index(manifest("index"))


def make_cases(
    stage: Stage, choose: Callable[[Params], Product[Case]], cases: ChooseCases = indexed_cases
) -> None:
    """Make the product of the chosen cases."""
    product, chosen = choose(stage.params), cases(stage.params)
    say_what_is_fetched(product.title, chosen, product.root)
    make_all(stage, product, chosen)


def run_cases(
    name: str,
    choose: Callable[[Params], Product[Case]],
    options: list[str],
    cases: ChooseCases = indexed_cases,
) -> NoReturn:
    """Run a stage over the cases of the index, or the share that `--shard i/n` names, and exit.

    Args:
        name: of the stage.
        choose: makes its product from the parameters.
        options: the rest of the command line.
        cases: chooses among the cases of the index.
    """

    def share(stage: Stage, shard: Shard) -> None:
        make_share(stage, choose(stage.params), cases(stage.params), shard)

    run_or_share(name, partial(make_cases, choose=choose, cases=cases), share, options)


def make_share(stage: Stage, product: Product[Item], items: Sequence[Item], shard: Shard) -> None:
    """Make one share into the store and write nothing else."""
    workers = stage.num_workers(product.title)
    every_case.run_shard(product, items, shard, stage.progress.cases, stage.code, workers)


def run_or_share(
    name: str,
    whole: Callable[[Stage], object],
    share: Callable[[Stage, Shard], object],
    options: list[str],
    *,
    tensors: bool = False,
) -> NoReturn:
    """Run all of a stage, or the share that `--shard i/n` names, and exit.

    Args:
        name: of the stage.
        whole: makes all of it and writes its outputs.
        share: fills the store with a share.
        options: the rest of the command line.
        tensors: tune memory for large tensors.
    """
    match options:
        case []:
            run_stage(name, whole, tensors=tensors)
        case ["--shard", text]:
            run_stage(
                name,
                lambda stage: share(stage, Shard.parse(text)),
                tensors=tensors,
                recorded=False,
            )
    refuse(name, f"{options} is not an option", "pass nothing, or --shard i/n")


def refuse(script: str, fact: str, remedy: str) -> NoReturn:
    """Exit with the error of a wrong command line."""
    error = ConfigError(script, fact, remedy)
    sys.stderr.write(f"{error}\n")
    sys.exit(error.exit_code)

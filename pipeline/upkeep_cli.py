"""The commands `uvlm store` and `uvlm runs`: check, clean and mend what earlier runs left."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from pipeline.commands import Commands
from pipeline.progress import ProgressBar
from uvlm.cli import Json
from uvlm.errors import ConfigError, DataError

store = typer.Typer(
    cls=Commands, help="Check or clean the arrays behind the manifests.", no_args_is_help=True
)
runs = typer.Typer(
    cls=Commands, help="Put the records of runs and MLflow in order.", no_args_is_help=True
)


@store.command()
def verify(
    sample: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the files to hash, another every day.")
    ] = 1.0,
    as_json: Json = False,
) -> None:
    """Hash everything that the manifests name, and list what is missing or damaged."""
    from pipeline import upkeep

    with ProgressBar("store") as progress:
        verdict = upkeep.verify_store(sample, progress.cases)
    for problem in verdict.problems:
        typer.echo(json.dumps({"problem": problem}) if as_json else problem)
    if verdict.problems:
        fact = f"{len(verdict.problems)} entries are damaged"
        raise DataError("the store", fact, "see the lines above")
    counts = {"files": verdict.files, "hashed": verdict.hashed, "absent": verdict.absent}
    typer.echo(json.dumps({"damaged": 0, **counts}) if as_json else upkeep.in_words(verdict))


@store.command()
def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Remove them, after asking.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Raw data as well.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Give up what lost manifests may name.")
    ] = False,
) -> None:
    """List the arrays that no manifest of any workspace, branch or experiment names."""
    from pipeline import upkeep

    upkeep.collect(raw=raw, delete=delete, ask=None if yes else _confirm, forget=forget)


Name = Annotated[
    str | None, typer.Option("--remote", "-r", help="One of DVC's remotes; else its default.")
]
Others = Annotated[
    bool, typer.Option("--all", help="Also what other branches, tags and experiments name.")
]


@store.command()
def push(remote: Name = None, others: Others = False) -> None:
    """Copy what the manifests name into DVC's remote, as `dvc push` copies the manifests."""
    _move("push", remote, others)


@store.command()
def pull(remote: Name = None, others: Others = False) -> None:
    """Copy what the manifests name from DVC's remote into the store, checked."""
    _move("pull", remote, others)


def _move(way: str, remote: str | None, others: bool) -> None:
    from pipeline import upkeep

    with ProgressBar(way) as progress:
        said = upkeep.move_store(way, name=remote, others=others, progress=progress.cases)
    typer.echo(said)


def _confirm(question: str) -> bool:
    """Ask a person; a script has to say --yes."""
    if not sys.stdin.isatty():
        raise ConfigError("uvlm store gc --delete", "nobody is there to ask", "pass --yes as well")
    return bool(typer.confirm(question))


@runs.command("reap")
def reap_runs() -> None:
    """Mark runs whose process is gone as KILLED, and send MLflow what it does not have yet."""
    from pipeline.runs.mlflow_tracker import publish_pending, reap

    reaped = reap()
    publish_pending()
    typer.echo(f"{len(reaped)} dead runs marked as KILLED")

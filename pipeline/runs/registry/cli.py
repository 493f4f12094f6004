"""The command `uvlm promote`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from uvlm.cli import Json


def promote(
    version: Annotated[
        str | None, typer.Argument(help="A version of uvlm-report; default: the newest.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Whatever the numbers say; needs --reason.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Why; it stays with the version.")] = None,
    as_json: Json = False,
) -> None:
    """Make a report model the champion, if it beats the present one on the same test cases."""
    from pipeline.runs.registry.promote import promote as run

    lines = run(version, reason, force=force)
    typer.echo(json.dumps({"lines": lines}) if as_json else "\n".join(lines))

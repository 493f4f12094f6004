"""The command `evaluate`, which the `uvlm` command mounts.

Nothing heavy is imported until it runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from uvlm.cli import Json


def evaluate(
    context: typer.Context,
    model: Annotated[Path, typer.Option(help="Model folder, such as data/models/report.")],
    data: Annotated[str, typer.Option(metavar="PROFILE", help="A file of conf/profile/.")],
    out: Annotated[Path | None, typer.Option(help="Default: data/elsewhere/PROFILE.")] = None,
    mirrored: Annotated[
        bool, typer.Option("--mirrored", help="Also exchange left and right: do sides follow?")
    ] = False,
    cues: Annotated[
        str, typer.Option(help="own; or a control: oracle (knows the labels), shuffled, unknown.")
    ] = "own",
    as_json: Json = False,
) -> None:
    """Score a finished model on the test split of another data set, without training."""
    from pipeline.cue_control import parse_control
    from pipeline.elsewhere import Elsewhere, evaluate_elsewhere
    from uvlm.evaluation.score_page import score_page

    folder, control = out or Path("data/elsewhere") / data, parse_control(cues)
    where = Path.cwd(), model, data, folder, context.obj
    request = Elsewhere.of(*where, mirrored=mirrored, cues=control)
    scores = evaluate_elsewhere(request)
    typer.echo(json.dumps(scores) if as_json else score_page(scores))
    if not as_json:
        typer.echo(f"\nWritten to {folder}. Unreviewed research drafts, not a diagnosis.")

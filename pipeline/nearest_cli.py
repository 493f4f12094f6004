"""The command `index-nearest`, which the `uvlm` command mounts.

Nothing heavy is imported until it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uvlm.errors import ConfigError


def index_nearest(
    context: typer.Context,
    model: Annotated[
        Path, typer.Option(help="A copy of data/models/report; the index is written into it.")
    ],
    names: Annotated[
        bool, typer.Option("--name-sources", help="Call cases by their ids in the data set.")
    ] = False,
) -> None:
    """Put the reports of the training cases beside a model, for the evidence page of new CTs."""
    from pipeline.paths import MODELS, PARAMS, manifest
    from uvlm.config import load_params
    from uvlm.inference.evidence.training_index import index_training

    if model.resolve().parent == MODELS.resolve():
        remedy = f"cp -r {model} ELSEWHERE, and pass the copy"
        raise ConfigError("--model", f"{model} is the output of a stage, which DVC keeps", remedy)
    count = index_training(
        load_params(PARAMS),
        model,
        index=manifest("index"),
        preprocess=manifest("preprocess"),
        encodings=manifest("encode"),
        names=names,
        progress=context.obj,
    )
    typer.echo(f"{count} training reports are in {model} now: who gets the folder can read them")

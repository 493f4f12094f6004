"""The command `serve`, which the `uvlm` command mounts.

Nothing heavy is imported until it runs.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from uvlm.errors import SetupError, install


def serve(
    model: Annotated[
        Path, typer.Option(help="Model folder, such as data/models/report.", readable=False)
    ],
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where to listen; 0: any that is free.")
    ] = 8080,
    limit_mb: Annotated[int, typer.Option(min=1, help="The largest upload, in MiB.")] = 2048,
    keep: Annotated[
        float, typer.Option(min=0.1, metavar="MINUTES", help="How long a draft is kept.")
    ] = 60.0,
    claim_more: Annotated[
        float,
        typer.Option(metavar="X", help="Reports claim more (X > 0) or less; needs cues."),
    ] = 0.0,
) -> None:
    """Show a page on this computer where CTs are uploaded and drafts looked at, until Ctrl-C."""
    for package in ("fastapi", "python_multipart", "uvicorn"):
        if find_spec(package) is None:
            raise SetupError(package, "is not installed", install("serve"))
    from uvlm.serve.app import Limits
    from uvlm.serve.run import serve as run

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to remove what was uploaded
    with suppress(KeyboardInterrupt):
        run(model, port, Limits(limit_mb << 20, keep * 60), typer.echo, claim_more)
    typer.echo("stopped; nothing that was uploaded is left")

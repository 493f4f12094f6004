"""The commands that make drafts, which the `uvlm` command mounts; each calls one function.

Nothing heavy is imported until a command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uvlm.errors import DataError

_CTS_HELP = (
    "A .nii, .nii.gz, .nrrd or .mha file, a folder or zip with one CT, or a .csv of such paths."
)


def predict(  # noqa: PLR0913 - one argument per option
    cts: Annotated[
        # What cannot be read is refused by the reader, without stopping other CTs.
        list[Path], typer.Argument(metavar="CT...", help=_CTS_HELP, readable=False)
    ],
    model: Annotated[
        Path, typer.Option(help="Model folder, such as data/models/report.", readable=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder for all output.", readable=False)],
    names: Annotated[
        bool,
        typer.Option("--name-sources", help="Call files, series and patients by their real names."),
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps; default: UVLM_DEVICE.")
    ] = None,
    batch: Annotated[
        bool, typer.Option("--batch", help="A folder for each CT; keep drafts already there.")
    ] = False,
    unlike_training: Annotated[
        bool,
        typer.Option("--unlike-training", help="Write and mark reports that would be withheld."),
    ] = False,
    dicom: Annotated[
        bool, typer.Option("--dicom", help="Also write SEG, structured report, pictures and PDF.")
    ] = False,
    claim_more: Annotated[
        float,
        typer.Option(metavar="X", help="Reports claim more (X > 0) or less; needs cues."),
    ] = 0.0,
) -> None:
    """Draft a report, probabilities of abnormalities, and masks for each CT."""
    from uvlm import environment
    from uvlm.drafts.batch import Options
    from uvlm.drafts.batch import predict as predict_cts

    if device is not None:
        environment.DEVICE.set(device)
    options = Options(names, unlike_training, batch, dicom, claim_more)
    outcomes = predict_cts(cts, model, out, options, typer.echo)
    withheld = sum(outcome.status == "withheld" for outcome in outcomes)
    if withheld:
        typer.echo(f"{withheld} of {len(outcomes)} reports withheld; their masks were written.")
    without = sum(bool(outcome.no_dicom) for outcome in outcomes)
    if without:
        typer.echo(f"{without} of {len(outcomes)} drafts have no DICOM objects.")
    typer.echo(f"Written to {out}. Unreviewed research drafts, not a diagnosis.")
    if without:
        raise typer.Exit(DataError.exit_code)

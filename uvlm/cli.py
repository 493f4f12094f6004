"""Commands of the library, mounted by the `uvlm` command; each calls one function.

Nothing heavy is imported before a command runs. `context.obj` is a Progress, or None.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from uvlm.errors import DataError

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

_CT_HELP = "A .nii, .nii.gz, .nrrd or .mha file, or a folder of DICOM files."
Model = Annotated[Path, typer.Option(help="Model folder, such as data/models/report.")]
Out = Annotated[Path, typer.Option(help="Folder for everything that is written.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line instead of text.")]


@app.command("check-ct")
def check_ct(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help=_CT_HELP)],
    model: Annotated[
        Path | None,
        typer.Option(help="Model folder whose preparation is shown; else params.yaml here."),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the three planes as the model sees them."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say whether CTs would be accepted, and what will be done to them; exits with 3 if not."""
    from uvlm.inference.contract import contract_here
    from uvlm.pages.ct_planes import check_cts

    refused = 0
    config = contract_here(model)
    for check in check_cts(paths, config, picture):
        typer.echo(json.dumps(check.to_json(), allow_nan=False) if as_json else check.to_text())
        refused += not check.accepted
    if refused:
        raise typer.Exit(DataError.exit_code)


@app.command()
def predict(
    context: typer.Context,
    cts: Annotated[list[Path], typer.Argument(metavar="CT...", help=_CT_HELP)],
    model: Model,
    out: Out,
) -> None:
    """Draft a report, abnormality probabilities and masks for each CT."""
    from uvlm.inference.predictor import predict as predict_cts

    predict_cts(cts, model, out, progress=context.obj)
    typer.echo(f"Written to {out}. Unreviewed research drafts, not a diagnosis.")


@app.command()
def overfit(
    context: typer.Context,
    ct: Annotated[Path, typer.Argument(help="One CT as NIfTI.")],
    labels: Annotated[Path, typer.Argument(help="Its TotalSegmentator label map.")],
    out: Out = Path("overfit"),
    minutes: Annotated[float, typer.Option(help="Stop training after this many minutes.")] = 10.0,
    as_json: Json = False,
) -> None:
    """Train segmentation on one real CT, to see that the training works on real data."""
    from uvlm.train.overfit import overfit as overfit_ct

    scores = overfit_ct(ct, labels, out, minutes=minutes, progress=context.obj)
    typer.echo(json.dumps(scores) if as_json else f"Dice {scores['dice']:.3f}; written to {out}")

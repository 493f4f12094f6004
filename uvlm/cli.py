"""The library's commands, which the `uvlm` command mounts; each calls one function.

Nothing heavy is imported until a command runs. `context.obj` is a Progress, or None.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uvlm.drafts.commands import predict
from uvlm.errors import DataError
from uvlm.node.commands import listen

if TYPE_CHECKING:
    from uvlm.evaluation.score import ScoreRequest

# Typer would print the usage when it cannot read a path; whoever reads it says so in one line.
Argument = partial(typer.Argument, readable=False)
Option = partial(typer.Option, readable=False)
app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

_CT_HELP = "A .nii, .nii.gz, .nrrd or .mha file, or a folder with one CT: files or DICOM."
# What cannot be read is refused by the reader, in one line and without stopping other CTs.
Model = Annotated[Path, Option(help="Model folder, such as data/models/report.", readable=False)]
Out = Annotated[Path, Option(help="Folder for all output.")]
Names = Annotated[
    bool, Option("--name-sources", help="Call files, series and patients by their real names.")
]
Json = Annotated[bool, Option("--json", help="Print JSON, one object per line.")]
Clinical = Annotated[
    bool, Option("--clinical", help="Add RadGraph-F1, RaTEScore, GREEN where installed.")
]


@app.command("check-ct")
def check_ct(
    paths: Annotated[list[Path], Argument(metavar="PATH...", help=_CT_HELP, readable=False)],
    model: Annotated[
        Path | None, Option(help="Prepare as for this model; default: as params.yaml says.")
    ] = None,
    picture: Annotated[
        Path | None, Option(metavar="FILE.png", help="Draw three planes as the model sees them.")
    ] = None,
    names: Names = False,
    as_json: Json = False,
) -> None:
    """Check whether CTs are accepted and how they are prepared; exit code 3 if one is refused."""
    from uvlm.config import params_here
    from uvlm.pages.ct_planes import check_cts

    refused, config = 0, None
    if model is not None:
        from uvlm.inference.predictor import contract_of

        config = contract_of(model)
    elif here := params_here():
        config = here.preprocess
    for check in check_cts(paths, config, picture):
        told = check.to_json(names=names)
        typer.echo(json.dumps(told, allow_nan=False) if as_json else check.to_text(names=names))
        refused += not check.accepted
    if refused:
        raise typer.Exit(DataError.exit_code)


@app.command("check-labels")
def check_labels(
    ct: Annotated[Path, Argument(metavar="CT", help=_CT_HELP)],
    labels: Annotated[Path, Argument(help="Its label map: one id per voxel, on any grid.")],
    scheme: Annotated[
        str, Option(help="What the ids mean: total (TotalSegmentator), chest or abdomen.")
    ] = "total",
    plausible: Annotated[str, Option(help="Expected anatomy: adult or phantom.")] = "adult",
    page: Annotated[
        Path | None, Option(metavar="FILE.html", help="Write a page with three planes.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare the labels of one CT with plausible anatomy; flags do not change the exit code."""
    from uvlm.pages.check_labels import check_labels as check

    request = check(ct, labels, scheme, plausible, page)
    typer.echo(json.dumps(request.to_json(), allow_nan=False) if as_json else request.to_text())


app.command()(predict)
app.command()(listen)


@app.command()
def overfit(
    context: typer.Context,
    ct: Annotated[Path, Argument(help="One CT as NIfTI.")],
    labels: Annotated[Path, Argument(help="Its TotalSegmentator label map.")],
    out: Out = Path("overfit"),
    minutes: Annotated[float, Option(help="Stop training after so many minutes.")] = 10.0,
    as_json: Json = False,
) -> None:
    """Overfit segmentation on one real CT, to see that training works on real data."""
    from uvlm.train.overfit.overfit import overfit as overfit_ct

    scores = overfit_ct(ct, labels, out, minutes=minutes, progress=context.obj)
    if as_json:
        typer.echo(json.dumps(scores))
        return
    steps, planned = scores["steps"], scores["planned_steps"]
    if steps < planned:
        typer.echo(f"Stopped by --minutes {minutes:g} after {steps} of {planned} steps.")
    how_far = f"after {steps} steps, loss {scores['loss']:.3f}"
    typer.echo(f"Dice {scores['dice']:.3f} {how_far}; written to {out}")


@app.command()
def label(  # noqa: PLR0913 - one argument per option
    table: Annotated[Path, Argument(metavar="IN.csv", help="Table of reports, CSV or JSON.")],
    text_column: Annotated[list[str], Option(help="Column of the reports; repeatable.")],
    out: Annotated[Path, Option(help="Table of labels to write.")],
    id_column: Annotated[str | None, Option(help="Default: the first column.")] = None,
    labeller: Annotated[str, Option(help="rules, radbert, llm or phantom.")] = "rules",
    label_set: Annotated[str, Option(help="chest (CT-RATE's 18) or abdomen (3).")] = "chest",
    allow_empty: Annotated[
        bool, Option("--allow-empty", help="Label rows without text as normal.")
    ] = False,
    keep_uncertain: Annotated[
        bool, Option("--keep-uncertain", help="Write -1 instead of 1 where llm is uncertain.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read abnormalities out of a table of reports: one column of 0 and 1 for each."""
    from uvlm.evaluation.labeller import get_labeller
    from uvlm.evaluation.report_labels import label_set_named, label_table
    from uvlm.text.report_table import read_report_table

    abnormalities = label_set_named(label_set)
    reader = get_labeller(labeller, abnormalities)
    reports = read_report_table(table, text_column, id_column, allow_empty=allow_empty)
    summary = label_table(reports, reader, abnormalities, out, keep_uncertain=keep_uncertain)
    if as_json:
        typer.echo(json.dumps({"out": str(out), "labeller": reader.name, **asdict(summary)}))
        return
    doubt = f", {summary.num_uncertain} labels uncertain" if summary.num_uncertain else ""
    claims = sum(summary.num_positive.values())
    known = f"{100 * summary.known_share:.0f} % of the words known"
    typer.echo(
        f"{summary.num_reports} reports, {claims} abnormalities{doubt}, {known}; written to {out}"
    )
    if summary.usage:
        typer.echo(", ".join(f"{name} {value:,g}" for name, value in summary.usage.items()))


@app.command("import-radbert")
def import_radbert(
    checkpoint: Annotated[Path, Argument(help="RadBertClassifier.pth, as published.")],
    base: Annotated[Path, Option(help="Folder of zzxslp/RadBERT-RoBERTa-4m.")],
    out: Annotated[Path, Option(help="New folder, for UVLM_RADBERT_WEIGHTS.")],
) -> None:
    """Convert the official report classifier to safetensors for `label --labeller radbert`."""
    from uvlm.evaluation.labelling.radbert_import import import_radbert as import_checkpoint

    import_checkpoint(checkpoint, base, out)
    typer.echo(f"Written to {out}; now export UVLM_RADBERT_WEIGHTS={out.resolve()}")


@app.command("import-atm22")
def import_atm22(
    checkpoint: Annotated[Path, Argument(help="The challenge baseline's weight.pth.")],
    out: Annotated[Path, Option(help="New .safetensors file, for UVLM_ATM22_WEIGHTS.")],
) -> None:
    """Convert the airway challenge's network to safetensors for the backend `atm22`."""
    from uvlm.data.labels.pseudo.atm22_import import import_atm22 as import_checkpoint

    import_checkpoint(checkpoint, out)
    typer.echo(f"Written to {out}; now export UVLM_ATM22_WEIGHTS={out.resolve()}")


@app.command("import-nnunet")
def import_nnunet(
    checkpoint: Annotated[Path, Argument(help="nnU-Net v2's checkpoint_final.pth.")],
    out: Annotated[Path, Option(help="New model folder, for UVLM_INITIAL_WEIGHTS.")],
    plans: Annotated[Path | None, Option(help="plans.json, if not in the checkpoint.")] = None,
    as_json: Json = False,
) -> None:
    """Convert a ResEnc U-Net trained by nnU-Net to a model folder that stage 1 can start from."""
    from uvlm.inference.nnunet_import import import_nnunet as import_checkpoint

    sha256 = import_checkpoint(checkpoint, out, plans)
    if as_json:
        typer.echo(json.dumps({"out": str(out), "sha256": sha256}))
        return
    typer.echo(f"Written to {out}; now export UVLM_INITIAL_WEIGHTS={out.resolve()}")
    typer.echo(f"and set train_seg.initial_weights to sha256:{sha256}")


@app.command()
def score(  # noqa: PLR0913 - one argument per option
    references: Annotated[Path, Option(help="CSV or JSON of the true reports.")],
    predictions: Annotated[Path, Option(help="CSV or JSON of the generated reports.")],
    id_column: Annotated[str | None, Option(help="In every table; default: the first.")] = None,
    text_column: Annotated[
        list[str] | None, Option(help="Column of the reports; repeat it to join several.")
    ] = None,
    prediction_text_column: Annotated[
        list[str] | None, Option(help="The same in --predictions; default: --text-column.")
    ] = None,
    patient_column: Annotated[
        str | None, Option(help="In --references; default: patient_id, or as CT-RATE's ids say.")
    ] = None,
    labels: Annotated[Path | None, Option(help="CSV of 0/1; default: the labeller's.")] = None,
    label_set: Annotated[str, Option(help="Without --labels: chest (18), abdomen (3).")] = "chest",
    labeller: Annotated[str, Option(help="rules, radbert, llm or phantom.")] = "rules",
    thresholds: Annotated[Path | None, Option(help="JSON, tuned on validation.")] = None,
    training: Annotated[
        Path | None, Option(help="CSV of training reports, for baselines and collapse audit.")
    ] = None,
    training_text_column: Annotated[
        list[str] | None, Option(help="The same in --training; default: --text-column.")
    ] = None,
    compare: Annotated[Path | None, Option(help="Other predictions to compare with.")] = None,
    bootstrap_samples: Annotated[int, Option(min=0, help="0: no intervals.")] = 1000,
    seed: Annotated[int, Option(help="Of every random draw.")] = 0,
    meteor: Annotated[bool, Option("--meteor", help="Add METEOR; needs Java, minutes.")] = False,
    clinical: Clinical = False,
    allow_missing: Annotated[
        bool, Option("--allow-missing", help="Succeed although predictions are missing.")
    ] = False,
    json_out: Annotated[Path | None, Option("--json", help="Also write JSON here.")] = None,
) -> None:
    """Score generated reports: abnormalities, text metrics, intervals, trivial baselines."""
    from uvlm.evaluation.report_labels import label_set_named
    from uvlm.evaluation.score import ScoreRequest
    from uvlm.evaluation.score_inputs import Columns

    def columns(names: list[str] | None) -> Columns:
        return Columns(id_column, tuple(names or text_column or ()))

    request = ScoreRequest(
        references,
        predictions,
        columns(None),
        columns(prediction_text_column),
        patient_column=patient_column,
        labels=labels,
        names=label_set_named(label_set),
        labeller=labeller,
        thresholds=thresholds,
        compare=compare,
        training=training,
        training_columns=columns(training_text_column),
        samples=bootstrap_samples,
        seed=seed,
        with_meteor=meteor,
        with_clinical=clinical,
    )
    _score(request, json_out, allow_missing=allow_missing)


def _score(request: ScoreRequest, json_out: Path | None, *, allow_missing: bool) -> None:
    """Print the page and write the JSON before failing for missing predictions."""
    from uvlm.evaluation.score import check_complete
    from uvlm.evaluation.score import score as score_reports
    from uvlm.evaluation.score_page import score_page
    from uvlm.files import write_json_atomic

    document = score_reports(request)
    typer.echo(score_page(document))
    if json_out is not None:
        write_json_atomic(json_out, document)
    if not allow_missing:
        check_complete(request, document)

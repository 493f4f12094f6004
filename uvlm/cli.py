"""Commands of the library, mounted by the `uvlm` command; each calls one function.

Nothing heavy is imported before a command runs. `context.obj` is a Progress, or None.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uvlm.errors import DataError

if TYPE_CHECKING:
    from uvlm.evaluation.score import ScoreRequest

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
    from uvlm.config import params_here
    from uvlm.pages.ct_planes import check_cts

    refused, config = 0, None
    if model is not None:
        from uvlm.inference.predictor import contract_of

        config = contract_of(model)
    elif here := params_here():
        config = here.preprocess
    for check in check_cts(paths, config, picture):
        typer.echo(json.dumps(check.to_json(), allow_nan=False) if as_json else check.to_text())
        refused += not check.accepted
    if refused:
        raise typer.Exit(DataError.exit_code)


@app.command("check-labels")
def check_labels(
    ct: Annotated[Path, typer.Argument(metavar="CT", help=_CT_HELP)],
    labels: Annotated[Path, typer.Argument(help="Its label map: one id a voxel, any grid.")],
    scheme: Annotated[
        str, typer.Option(help="Whose ids: total (TotalSegmentator), chest or abdomen.")
    ] = "total",
    plausible: Annotated[str, typer.Option(help="Whose anatomy: adult or phantom.")] = "adult",
    page: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Show it in three planes.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Hold the labels of one CT against plausible anatomy; flags do not change the exit code."""
    from uvlm.pages.check_labels import check_labels as check

    request = check(ct, labels, scheme, plausible, page)
    typer.echo(json.dumps(request.to_json(), allow_nan=False) if as_json else request.to_text())


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
    from uvlm.train.overfit.overfit import overfit as overfit_ct

    scores = overfit_ct(ct, labels, out, minutes=minutes, progress=context.obj)
    typer.echo(json.dumps(scores) if as_json else f"Dice {scores['dice']:.3f}; written to {out}")


@app.command()
def label(  # noqa: PLR0913 - one argument an option
    table: Annotated[Path, typer.Argument(metavar="IN.csv", help="A table of reports, UTF-8.")],
    text_column: Annotated[
        list[str], typer.Option(help="Column with report text; several are joined in order.")
    ],
    out: Annotated[Path, typer.Option(help="The table of labels to write.")],
    id_column: Annotated[str | None, typer.Option(help="Else the first column.")] = None,
    labeller: Annotated[str, typer.Option(help="rules, radbert, llm or phantom.")] = "rules",
    label_set: Annotated[str, typer.Option(help="chest (CT-RATE's 18) or abdomen (3).")] = "chest",
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="A row without text claims nothing.")
    ] = False,
    keep_uncertain: Annotated[
        bool, typer.Option("--keep-uncertain", help="-1 where llm is in doubt, instead of 1.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read the abnormalities out of a table of reports: one 0/1 column each."""
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
    typer.echo(f"{summary.num_reports} reports, {claims} abnormalities{doubt}; written to {out}")
    if summary.usage:
        typer.echo(", ".join(f"{name} {value:,g}" for name, value in summary.usage.items()))


@app.command("import-radbert")
def import_radbert(
    checkpoint: Annotated[Path, typer.Argument(help="RadBertClassifier.pth, as published.")],
    base: Annotated[Path, typer.Option(help="Downloaded zzxslp/RadBERT-RoBERTa-4m.")],
    out: Annotated[Path, typer.Option(help="New folder, for UVLM_RADBERT_WEIGHTS.")],
) -> None:
    """Turn the official report classifier into safetensors for `label --labeller radbert`."""
    from uvlm.evaluation.labelling.radbert_import import import_radbert as import_checkpoint

    import_checkpoint(checkpoint, base, out)
    typer.echo(f"Written to {out}; now export UVLM_RADBERT_WEIGHTS={out.resolve()}")


@app.command("import-atm22")
def import_atm22(
    checkpoint: Annotated[Path, typer.Argument(help="weight.pth of the challenge's baseline.")],
    out: Annotated[Path, typer.Option(help="New .safetensors file, for UVLM_ATM22_WEIGHTS.")],
) -> None:
    """Turn the airway challenge's network into safetensors for the backend `atm22`."""
    from uvlm.data.labels.pseudo.atm22_import import import_atm22 as import_checkpoint

    import_checkpoint(checkpoint, out)
    typer.echo(f"Written to {out}; now export UVLM_ATM22_WEIGHTS={out.resolve()}")


@app.command("import-nnunet")
def import_nnunet(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint_final.pth of nnU-Net v2.")],
    out: Annotated[Path, typer.Option(help="New model folder, for UVLM_INITIAL_WEIGHTS.")],
    plans: Annotated[
        Path | None, typer.Option(help="plans.json, if the checkpoint holds none.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn a ResEnc U-Net that nnU-Net trained into a model folder to start stage 1 from."""
    from uvlm.inference.nnunet_import import import_nnunet as import_checkpoint

    sha256 = import_checkpoint(checkpoint, out, plans)
    if as_json:
        typer.echo(json.dumps({"out": str(out), "sha256": sha256}))
        return
    typer.echo(f"Written to {out}; now export UVLM_INITIAL_WEIGHTS={out.resolve()}")
    typer.echo(f"and set train_seg.initial_weights to sha256:{sha256}")


# Options of `score`, one type each, so that its signature reads as a list of them.
References = Annotated[Path, typer.Option(help="CSV of the true reports.")]
Predictions = Annotated[Path, typer.Option(help="CSV, or JSON lines, of the generated ones.")]
IdColumn = Annotated[
    str | None, typer.Option(help="Column of the ids in every table; else the first.")
]
TextColumns = Annotated[
    list[str] | None, typer.Option(help="Column of the reports; several are joined in order.")
]
PredictionTextColumns = Annotated[
    list[str] | None, typer.Option(help="The same in the predictions; else --text-column.")
]
TrainingTextColumns = Annotated[
    list[str] | None, typer.Option(help="The same in --training; else --text-column.")
]
PatientColumn = Annotated[
    str | None, typer.Option(help="Column of the references; else patient_id or CT-RATE's ids.")
]
Labels = Annotated[
    Path | None, typer.Option(help="CSV of 0/1 labels; else the labeller reads the references.")
]
LabelSet = Annotated[str, typer.Option(help="Without --labels: chest (18) or abdomen (3).")]
Labeller = Annotated[str, typer.Option(help="What reads abnormalities in texts.")]
Thresholds = Annotated[Path | None, typer.Option(help="JSON of thresholds tuned on validation.")]
Training = Annotated[
    Path | None, typer.Option(help="CSV of training reports: baselines, collapse audit.")
]
Compare = Annotated[Path | None, typer.Option(help="Second predictions: paired differences.")]
Samples = Annotated[int, typer.Option(min=0, help="0: no intervals.")]
Seed = Annotated[int, typer.Option(help="Of every draw.")]
Meteor = Annotated[bool, typer.Option("--meteor", help="Also METEOR; needs Java and minutes.")]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Do not fail when a prediction is missing.")
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write JSON here.")]


@app.command()
def score(  # noqa: PLR0913 - one parameter an option
    references: References,
    predictions: Predictions,
    id_column: IdColumn = None,
    text_column: TextColumns = None,
    prediction_text_column: PredictionTextColumns = None,
    patient_column: PatientColumn = None,
    labels: Labels = None,
    label_set: LabelSet = "chest",
    labeller: Labeller = "rules",
    thresholds: Thresholds = None,
    training: Training = None,
    training_text_column: TrainingTextColumns = None,
    compare: Compare = None,
    bootstrap_samples: Samples = 1000,
    seed: Seed = 0,
    meteor: Meteor = False,
    allow_missing: AllowMissing = False,
    json_out: JsonFile = None,
) -> None:
    """Score generated reports: abnormalities, text overlap, intervals, trivial baselines."""
    from uvlm.evaluation.report_labels import label_set_named
    from uvlm.evaluation.score import ScoreRequest
    from uvlm.evaluation.score_inputs import Columns

    def columns(own: list[str] | None) -> Columns:
        return Columns(id_column, tuple(own or text_column or ()))

    request = ScoreRequest(
        references,
        predictions,
        columns=columns(None),
        prediction_columns=columns(prediction_text_column),
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
    )
    _score(request, json_out, allow_missing=allow_missing)


def _score(request: ScoreRequest, json_out: Path | None, *, allow_missing: bool) -> None:
    """Print the page, write the JSON, and only then fail for missing predictions."""
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

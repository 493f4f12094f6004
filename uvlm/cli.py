"""Commands of the library, mounted by the `uvlm` command; each calls one function.

Nothing heavy is imported before a command runs. `context.obj` is a Progress, or None.
"""

from __future__ import annotations

import json
from dataclasses import asdict
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
    from uvlm.errors import ConfigError
    from uvlm.evaluation.label_table import LABEL_SETS, label_table
    from uvlm.evaluation.labeller import get_labeller
    from uvlm.text.report_table import read_report_table

    if label_set not in LABEL_SETS:
        raise ConfigError("--label-set", f"there is no {label_set!r}", "use chest or abdomen")
    abnormalities = LABEL_SETS[label_set]
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


@app.command()
def score(  # noqa: PLR0913 - one parameter an option
    references: Annotated[Path, typer.Option(help="CSV of the true reports.")],
    predictions: Annotated[Path, typer.Option(help="CSV, or JSON lines, of the generated ones.")],
    id_column: Annotated[
        str | None, typer.Option(help="Column of the ids in every table; else the first.")
    ] = None,
    text_column: Annotated[
        list[str] | None, typer.Option(help="Column of the reports; several are joined in order.")
    ] = None,
    prediction_text_column: Annotated[
        list[str] | None, typer.Option(help="The same in the predictions; else --text-column.")
    ] = None,
    patient_column: Annotated[
        str | None, typer.Option(help="Column of the references; else patient_id or CT-RATE's ids.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="CSV of 0/1 labels; else the labeller reads the references.")
    ] = None,
    label_set: Annotated[
        str, typer.Option(help="Without --labels: chest (18) or abdomen (3).")
    ] = "chest",
    labeller: Annotated[str, typer.Option(help="What reads abnormalities in texts.")] = "rules",
    thresholds: Annotated[
        Path | None, typer.Option(help="JSON of thresholds tuned on validation.")
    ] = None,
    training: Annotated[
        Path | None, typer.Option(help="CSV of training reports: baselines, collapse audit.")
    ] = None,
    training_text_column: Annotated[
        list[str] | None, typer.Option(help="The same in --training; else --text-column.")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Second predictions: paired differences.")
    ] = None,
    bootstrap_samples: Annotated[int, typer.Option(min=0, help="0: no intervals.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    meteor: Annotated[bool, typer.Option("--meteor", help="Also METEOR; needs Java.")] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Do not fail when a prediction is missing.")
    ] = False,
    json_out: Annotated[Path | None, typer.Option("--json", help="Also write JSON here.")] = None,
) -> None:
    """Score generated reports: abnormalities, text overlap, intervals, trivial baselines."""
    from uvlm.errors import ConfigError
    from uvlm.evaluation.label_table import LABEL_SETS
    from uvlm.evaluation.score import ScoreRequest, check_complete
    from uvlm.evaluation.score import score as score_reports
    from uvlm.evaluation.score_inputs import Columns
    from uvlm.evaluation.score_page import score_page
    from uvlm.store import write_json_atomic

    if label_set not in LABEL_SETS:
        raise ConfigError("--label-set", f"there is no {label_set!r}", "use chest or abdomen")
    texts = tuple(text_column or ())
    request = ScoreRequest(
        references,
        predictions,
        columns=Columns(id_column, texts),
        prediction_columns=Columns(id_column, tuple(prediction_text_column or ()) or texts),
        patient_column=patient_column,
        labels=labels,
        names=LABEL_SETS[label_set],
        labeller=labeller,
        thresholds=thresholds,
        compare=compare,
        training=training,
        training_columns=Columns(id_column, tuple(training_text_column or ()) or texts),
        samples=bootstrap_samples,
        seed=seed,
        with_meteor=meteor,
    )
    document = score_reports(request)
    typer.echo(score_page(document))
    if json_out is not None:
        write_json_atomic(json_out, document)
    if not allow_missing:
        check_complete(request, document)

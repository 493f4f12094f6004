"""The `uvlm` command: the library's commands, profiles, the store, and run records."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pipeline.commands import Commands
from pipeline.evaluate_cli import evaluate
from pipeline.nearest_cli import index_nearest
from pipeline.progress import ProgressBar
from pipeline.runs.registry.cli import promote
from pipeline.upkeep_cli import runs, store
from uvlm.cli import Json
from uvlm.cli import app as library
from uvlm.errors import ConfigError, SetupError, tell

app = typer.Typer(
    cls=Commands,
    help="U-VLM: CT volumes to draft radiology reports. Research use, not a medical device.",
    epilog="Exit codes: 0 done, 2 wrong usage or parameters, 3 data refused, 4 something is missing"
    " on this computer, 5 interrupted, 70 a bug.",
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(library)
app.add_typer(store, name="store")
app.add_typer(runs, name="runs")
app.command()(promote)
app.command()(evaluate)
app.command("index-nearest")(index_nearest)


def show_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        from uvlm import __version__

        typer.echo(f"uvlm {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", help="Show the version and exit.", callback=show_version, is_eager=True
    ),
]


@app.callback()
def prepare(context: typer.Context, version: Version = False) -> None:
    """Close the records of killed processes, and give the commands a progress bar."""
    if (Path.cwd() / ".uvlm" / "runs").is_dir():
        from pipeline.runs.mlflow_tracker import find_artifacts, reap

        reap()
        find_artifacts()
    context.obj = context.with_resource(ProgressBar(context.invoked_subcommand or "uvlm"))


@app.command()
def use(profile: Annotated[str, typer.Argument(help="A file of conf/profile/.")]) -> None:
    """Compose a profile into params.yaml and make it the default."""
    from pipeline.profiles import use_profile

    params = use_profile(Path.cwd(), profile)
    typer.echo(f"params.yaml now holds {params.profile}; run `dvc repro`")


@app.command()
def own(  # noqa: PLR0913 - one argument per option
    folder: Annotated[Path, typer.Argument(help="Folder of your CTs and the table of reports.")],
    name: Annotated[str, typer.Option(help="Name of the profile to write.")] = "own",
    memory: Annotated[
        str | None, typer.Option(help="Memory to fit, such as 8GB; default: what is free here.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=1, help="How long `dvc repro` may take.")] = 30.0,
    table: Annotated[
        str | None, typer.Option(help="The table's name; default reports.csv.")
    ] = None,
    id_column: Annotated[str | None, typer.Option(help="Default: id.")] = None,
    text_column: Annotated[
        str | None, typer.Option(help="Column of the reports; default: report.")
    ] = None,
    file_column: Annotated[str | None, typer.Option(help="Column of the CTs' paths.")] = None,
    patient_column: Annotated[str | None, typer.Option(help="Column of the patients.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write over a profile that this command wrote.")
    ] = False,
) -> None:
    """Look at your own CTs and reports, and write a profile that fits this computer."""
    from pipeline.own.profile import Request, make_own

    columns = {
        "table": table,
        "id_column": id_column,
        "findings_column": text_column,
        "file_column": file_column,
        "patient_column": patient_column,
    }
    for line in make_own(Path.cwd(), Request(folder, name, columns, memory, minutes, force)):
        typer.echo(line)


@app.command()
def params(
    check: Annotated[bool, typer.Option("--check", help="Compare, and write nothing.")] = False,
) -> None:
    """Compose conf/ into params.yaml again."""
    from pipeline.profiles import compose, drift, write_params
    from uvlm.config import load_params

    root = Path.cwd()
    if not check:
        write_params(root, compose(root))
        typer.echo("params.yaml composed from conf/")
        return
    load_params(root / "params.yaml")
    if differences := drift(root):
        raise ConfigError("params.yaml", "; ".join(differences), "run `uvlm params`")
    typer.echo("params.yaml is what conf/ composes")


@app.command()
def sweep(
    name: Annotated[
        str, typer.Argument(help="table4, table5, ..., one arm, or a file of conf/sweep/.")
    ],
    profile: Annotated[
        str | None, typer.Option(help="A file of conf/profile/; default: that of conf/config.yaml.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds: 0, 1, ...")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="How many stages run at once.")] = 1,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what would run, and run nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the arms of a comparison that have no record yet, several stages at once."""
    from pipeline.profiles import default_profile
    from pipeline.sweep.lists import read_trials
    from pipeline.sweep.run import plan_sweep, run_sweep

    root = Path.cwd()
    profile = profile or default_profile(root)
    trials, title = read_trials(root, name, profile, seeds), f"{name} on {profile}"
    if plan:
        planned = plan_sweep(root, title, trials, workers)
        typer.echo(json.dumps(planned.document()) if as_json else "\n".join(planned.lines()))
        return
    run_sweep(root, title, trials, workers)
    typer.echo(json.dumps({"done": len(trials)}) if as_json else f"{title}: every arm is done")


@app.command()
def table(
    name: Annotated[
        str, typer.Argument(help="1 to 5, controls, choices, a list of yours, or replication.")
    ],
    profile: Annotated[
        str | None, typer.Option(help="Whose runs to show; default: that of conf/config.yaml.")
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PREDICTIONS.csv: a row of your own in Table 2; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a table of the paper with our runs beside it, and write it into reports/tables/."""
    from pipeline.tables.command import make_table

    for line in make_table(Path.cwd(), name, profile, add or [], as_json):
        typer.echo(line)


@app.command()
def info(
    profile: Annotated[
        str | None, typer.Option(help="A file of conf/profile/; else params.yaml here.")
    ] = None,
    environment: Annotated[
        bool, typer.Option("--environment", help="List the environment variables instead.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show versions, device, folders, and the model that the parameters build."""
    from pipeline.info import describe, describe_environment, environment_text

    if environment:
        typer.echo(json.dumps(describe_environment()) if as_json else environment_text())
        return
    facts = describe(profile)
    lines = [f"{name:<22} {value}" for name, value in facts.items()]
    typer.echo(json.dumps(facts) if as_json else "\n".join(lines))


@app.command()
def plan(
    context: typer.Context,
    profile: Annotated[
        str | None, typer.Argument(help="A file of conf/profile/; else params.yaml here.")
    ] = None,
    gpu_memory: Annotated[
        str | None, typer.Option(help="GPU to plan for, such as 80GB; default: the device here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a profile needs and costs, and what is missing; fetches tables, no CTs."""
    from pipeline.plan.plan import lines, make_plan, to_json

    made = make_plan(Path.cwd(), profile, gpu_memory, context.obj.cases)
    typer.echo(json.dumps(to_json(made)) if as_json else "\n".join(lines(made)))
    for line in made.missing:
        typer.echo(f"missing: {line}", err=True)
    if made.missing:
        raise typer.Exit(SetupError.exit_code)


@app.command()
def rehearse(
    context: typer.Context,
    profile: Annotated[str, typer.Argument(help="chest, abdomen, or a variant of them.")],
    out: Annotated[Path, typer.Option(help="New folder for everything.")] = Path("rehearsal"),
    edge: Annotated[
        int, typer.Option(min=16, help="Width of the CTs; below 512 the networks shrink too.")
    ] = 512,
    train: Annotated[int, typer.Option(min=4, help="CTs of the training part.")] = 9,
    test: Annotated[int, typer.Option(min=2, help="CTs of the test part.")] = 3,
    annotated: Annotated[
        int, typer.Option(min=3, help="Training CTs whose findings are drawn.")
    ] = 3,
) -> None:
    """Run the graph of a profile at its real sizes, two steps a training, on CTs made here."""
    from pipeline.rehearse.rehearse import Request
    from pipeline.rehearse.rehearse import rehearse as run

    request = Request(profile, out, edge, train, test, annotated)
    for line in run(Path.cwd(), request, context.obj.cases):
        typer.echo(line)


@app.command()
def smoke(
    context: typer.Context,
    profile: Annotated[str, typer.Option(help="A file of conf/profile/.")] = "smoke",
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("data/smoke"),
) -> None:
    """Run every stage of a profile in its own folder, a dozen CTs, the smallest sizes."""
    from pipeline.smoke.smoke import Request
    from pipeline.smoke.smoke import smoke as run

    for line in run(Path.cwd(), Request(profile, out), context.obj.cases):
        typer.echo(line)


def main() -> NoReturn:
    """Run the command line; a known error becomes one line and its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name need not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except Exception as error:
        sys.exit(tell(error))
    sys.exit(0)


if __name__ == "__main__":
    main()

"""Models and data sets in MLflow: what each stage read, what it made, and whose its numbers are.

A training makes a model (`LoggedModel`), named by the sha256 of its folder, so that the same folder
is one model however often it is published. Those of data/models/report and data/models/cls are also
versions of the registered models below. A version is made last, when its files are all there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.paths import state_root
from pipeline.runs.lineage import DataNote, Lineage, ModelNote
from pipeline.runs.mlflow_calls import MlflowCalls
from pipeline.runs.records import RunRecord
from pipeline.runs.served import write_served
from uvlm.files import file_sha256

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, LoggedModel

REGISTERED: Final = {"cls": "uvlm-encoder", "report": "uvlm-report"}
SHA: Final = "uvlm.sha256"
_NOTE, _VERSIONS = "mlflow.note.content", "mlflow.modelVersions"
_SHORT: Final = 12
_MAX_PARAM: Final = 250


def publish_lineage(store: MlflowCalls, record: RunRecord, run_id: str) -> None:
    """Tell MLflow where the result of a stage that has finished comes from."""
    lineage = record.lineage
    if record.status != "FINISHED" or lineage is None or not lineage.data:
        return
    from mlflow.entities import LoggedModelInput

    read = [model for note in lineage.reads if (model := find_model(store, note.sha256))]
    scored = find_model(store, lineage.scored) if lineage.scored else None
    ids = {str(model.model_id) for model in [*read, *([scored] if scored else [])]}
    store.client.log_inputs(
        run_id,
        [_dataset(note) for note in lineage.data],
        [LoggedModelInput(i) for i in sorted(ids)],
    )
    if lineage.makes is not None:
        _publish_model(store, record, run_id, lineage.makes)
    if scored is not None:
        store.tag(run_id, {"uvlm.scored": str(lineage.scored)[:_SHORT]})
        data = lineage.data[-1]
        belongs = {"dataset_name": data.name, "dataset_digest": data.digest[:_SHORT]}
        store.log_metrics(run_id, lineage.scores, model_id=str(scored.model_id), **belongs)


def find_model(store: MlflowCalls, sha256: str) -> LoggedModel | None:
    """Find the model of a folder by its sha256, or by the first digits of it; finished or not."""
    experiments = store.client.search_experiments(filter_string="name LIKE 'uvlm-%'")
    found = store.client.search_logged_models(
        [experiment.experiment_id for experiment in experiments],
        filter_string=f"tags.`uvlm.short` = '{sha256[:_SHORT]}'",
    )
    ready = [model for model in found if model.status == "READY"]
    return next(iter([*ready, *found]), None)


def _publish_model(store: MlflowCalls, record: RunRecord, run_id: str, note: ModelNote) -> None:
    is_there = is_intact(note)
    model = find_model(store, note.sha256)
    if model is None and not is_there:
        store.tag(run_id, {"uvlm.model": "its folder was gone before MLflow was told of it"})
        return
    tags = _tags(record, note)
    if model is None:
        experiment, name = store.experiment(record.profile), f"uvlm-{note.kind}"
        params = {key: value[:_MAX_PARAM] for key, value in record.params.items()}
        described = tags | {_NOTE: _describe(store, record)}
        model = store.client.create_logged_model(experiment, name, run_id, described, params, name)
    model_id = str(model.model_id)
    _link_output(store, run_id, model_id)
    registered = REGISTERED.get(note.kind) if note.by_artifact else None
    if model.status != "READY" and is_there:
        if registered is not None:
            _upload(store, model_id, note)
        store.client.finalize_logged_model(model_id, "READY")
    if registered is not None and store.client.get_logged_model(model_id).status == "READY":
        _register(store, registered, model_id, run_id, tags)


def _link_output(store: MlflowCalls, run_id: str, model_id: str) -> None:
    """Say once that a run made a model; MLflow refuses to hear it twice."""
    from mlflow.entities import LoggedModelOutput

    outputs = store.client.get_run(run_id).outputs
    known = [each.model_id for each in outputs.model_outputs] if outputs else []
    if model_id not in known:
        store.client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])


def is_intact(note: ModelNote) -> bool:
    """Whether the folder still holds the model that was noted."""
    config = Path(note.path) / "config.json"
    return config.is_file() and file_sha256(config) == note.sha256


def _upload(store: MlflowCalls, model_id: str, note: ModelNote) -> None:
    """Put a model's folder, as MLflow serves it, among the artifacts of its LoggedModel."""
    folder = state_root() / "served" / note.sha256[:_SHORT]
    shutil.rmtree(folder, ignore_errors=True)
    try:
        write_served(Path(note.path), note.kind, folder)
        store.client.log_model_artifacts(model_id, str(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _register(
    store: MlflowCalls, name: str, model_id: str, run_id: str, tags: Mapping[str, str]
) -> None:
    """Make a version of a registered model, unless this model is one."""
    from mlflow.exceptions import MlflowException

    try:
        store.client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        store.client.create_registered_model(name, description=_DESCRIPTIONS[name])
    for version in store.client.search_model_versions(f"name = '{name}'"):
        if version.tags.get(SHA) == tags[SHA]:
            return
    made = store.client.create_model_version(
        name, f"models:/{model_id}", run_id, dict(tags), model_id=model_id
    )
    shown = [{"name": name, "version": made.version}]  # on the page of the model
    store.client.set_logged_model_tags(model_id, {_VERSIONS: json.dumps(shown)})


_DESCRIPTIONS: Final = {
    "uvlm-report": "A CT in, a draft report out: the whole of data/models/report. Research use.",
    "uvlm-encoder": "Encoder and classifier of abnormalities: the whole of data/models/cls.",
}


def _describe(store: MlflowCalls, record: RunRecord) -> str:
    """Say in Markdown what a model was trained on and which models it began with."""
    lineage = record.lineage or Lineage()
    lines = [
        f"- data `{data.name}`: {data.n} cases, {data.licence} (`{data.manifest}`, "
        f"sha256 `{data.digest[:_SHORT]}`)"
        for data in lineage.data
    ]
    for note in lineage.reads:
        model, name = find_model(store, note.sha256), f"uvlm-{note.kind}"
        if model is not None:
            name = f"[{name}](#/experiments/{model.experiment_id}/models/{model.model_id})"
        lines.append(f"- model {name}, sha256 `{note.sha256[:_SHORT]}`")
    return f"Made by `{record.stage}` from\n\n" + "\n".join(lines)


def _tags(record: RunRecord, note: ModelNote) -> dict[str, str]:
    """Collect what tells one version from another."""
    lineage = record.lineage or Lineage()
    given = {name: tag for name, tag in record.tags.items() if name.startswith("git.")}
    return given | {
        SHA: note.sha256,
        "uvlm.short": note.sha256[:_SHORT],
        "uvlm.profile": record.profile,
        "uvlm.licence": lineage.licence,
        "uvlm.contract": note.contract[:_SHORT],
        "uvlm.fingerprint": record.fingerprint,
        "uvlm.path": note.path,
        "uvlm.reads": ", ".join(f"{m.kind} {m.sha256[:_SHORT]}" for m in lineage.reads) or "none",
    }


def _dataset(note: DataNote) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    profile: dict[str, Any] = {
        "n": note.n, "split": note.split, "source": note.source, "licence": note.licence,
        "manifest_sha256": note.digest,
    }  # fmt: skip
    entity = Dataset(
        note.name,
        note.digest[:_SHORT],
        "local",
        json.dumps({"uri": note.manifest}),
        profile=json.dumps(profile),
    )
    return DatasetInput(entity, [InputTag("mlflow.data.context", note.split)])

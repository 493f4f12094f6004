"""Models, data sets and versions in MLflow, against what lies on the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from pipeline.dvc_yaml import read_causes, read_declarations
from pipeline.runs import mlflow_models
from pipeline.runs.mlflow_publish import MlflowStore
from pipeline.runs.mlflow_tracker import MlflowTracker, publish_pending
from pipeline.runs.records import find_record, read_records
from uvlm.files import file_sha256

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)
DVC_YAML = """
stages:
  train_seg:
    cmd: "true"
    deps: [data/manifests/index.jsonl]
    params: [train_seg]
    outs: [data/models/seg]
  train_cls:
    cmd: "true"
    deps: [data/manifests/index.jsonl, data/models/seg]
    params: [train_cls]
    outs: [data/models/cls]
  train_report:
    cmd: "true"
    deps: [data/manifests/index.jsonl, data/models/seg, data/models/cls]
    params: [train_report]
    outs: [data/models/report]
  classify:
    cmd: "true"
    deps: [data/manifests/index.jsonl, data/models/cls]
    params: [evaluate]
    outs: [data/classified]
    metrics: [reports/classify.json]
"""
SPLITS = ["train"] * 5 + ["val"] * 2 + ["test"] * 3


@pytest.fixture
def project(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with an index, and a report model that is served as it is."""
    (workspace / "dvc.yaml").write_text(DVC_YAML)
    index = workspace / "data/manifests/index.jsonl"
    index.parent.mkdir(parents=True)
    rows = [json.dumps({"case": str(n), "split": split}) for n, split in enumerate(SPLITS)]
    index.write_text("\n".join(rows) + "\n")

    def serve(model: Path, kind: str, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "MLmodel").write_text(f"{kind} {file_sha256(model / 'config.json')}")

    monkeypatch.setattr(mlflow_models, "write_served", serve)
    return workspace


def make_model(folder: Path, text: str = "weights") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"kind": folder.name, "text": text}))
    (folder / "contract.json").write_text("{}")
    return file_sha256(folder / "config.json")


def run(project: Path, stage: str, **files: str) -> None:
    causes = read_causes(project, read_declarations(project)[stage])
    with MlflowTracker(causes, project, live=True):
        for name, text in files.items():
            make_model(project / "data/models" / name, text)


def client_of(project: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{project / 'mlflow.db'}")


def stage_run(project: Path, stage: str) -> Any:
    client = client_of(project)
    experiment = client.get_experiment_by_name("uvlm-phantom")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id], f"tags.`dvc.stage` = '{stage}'")
    return client.get_run(found.info.run_id)  # with the models it read


def models_of(project: Path) -> dict[str, Any]:
    client = client_of(project)
    experiment = client.get_experiment_by_name("uvlm-phantom")
    assert experiment is not None
    found = client.search_logged_models([experiment.experiment_id])
    assert len({model.tags["uvlm.sha256"] for model in found}) == len(found)
    return {model.name: model for model in found}


@pytest.mark.slow
def test_each_model_is_linked_to_its_data_and_to_the_model_before_it(project: Path) -> None:
    for stage, name in {"train_seg": "seg", "train_cls": "cls", "train_report": "report"}.items():
        run(project, stage, **{name: name})
    models = models_of(project)
    ids = {name: models[f"uvlm-{name}"].model_id for name in ("seg", "cls", "report")}
    for name, stage in {"seg": "train_seg", "cls": "train_cls", "report": "train_report"}.items():
        found, model = stage_run(project, stage), models[f"uvlm-{name}"]
        assert model.status == "READY"
        assert model.source_run_id == found.info.run_id
        sha = file_sha256(project / "data/models" / name / "config.json")
        assert model.tags["uvlm.sha256"] == sha
        assert [each.model_id for each in found.outputs.model_outputs] == [ids[name]]
        read = {each.model_id for each in found.inputs.model_inputs}
        assert read == {"seg": set(), "cls": {ids["seg"]}, "report": {ids["seg"], ids["cls"]}}[name]
        data = {
            each.dataset.name: json.loads(each.dataset.profile)
            for each in found.inputs.dataset_inputs
        }
        assert {name: profile["n"] for name, profile in data.items()} == {
            "phantom-train": 5, "phantom-val": 2
        }  # fmt: skip
        digest = file_sha256(project / "data/manifests/index.jsonl")
        assert {profile["manifest_sha256"] for profile in data.values()} == {digest}


@pytest.mark.slow
def test_versions_have_their_files_and_are_made_once(project: Path) -> None:
    run(project, "train_seg", seg="a")
    run(project, "train_cls", cls="a")
    sha = make_model(project / "data/models/report", "a")
    run(project, "train_report", report="a")
    record = next(r for r in read_records() if r.stage == "train_report")
    record.published.status = None
    record.save()
    publish_pending()
    client = client_of(project)
    for name, kind in {"uvlm-encoder": "cls", "uvlm-report": "report"}.items():
        (version,) = client.search_model_versions(f"name = '{name}'")
        assert version.tags["uvlm.profile"] == "phantom"
        assert version.tags["uvlm.licence"] == "free for any use"
        model = client.get_logged_model(str(version.source).removeprefix("models:/"))
        assert model.tags["uvlm.sha256"] == version.tags["uvlm.sha256"]
        files = list((project / "mlruns").glob(f"models/{model.model_id}/**/MLmodel"))
        assert [file.read_text().split()[0] for file in files] == [kind]
    (version,) = client.search_model_versions("name = 'uvlm-report'")
    assert version.tags["uvlm.sha256"] == sha
    assert not (project / ".uvlm/served").exists() or not any((project / ".uvlm/served").iterdir())


@pytest.mark.slow
def test_an_upload_that_was_cut_short_is_done_again_before_there_is_a_version(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow_models, "write_served", full)
        run(project, "train_cls", cls="a")
    assert stage_run(project, "train_cls").info.status == "FINISHED"
    assert models_of(project)["uvlm-cls"].status == "PENDING"
    assert client_of(project).search_model_versions("name = 'uvlm-encoder'") == []
    publish_pending()
    assert models_of(project)["uvlm-cls"].status == "READY"
    assert len(client_of(project).search_model_versions("name = 'uvlm-encoder'")) == 1


def test_a_folder_that_was_replaced_before_mlflow_heard_of_it_is_not_registered(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nowhere/mlflow.db")
        run(project, "train_cls", cls="a")
    make_model(project / "data/models/cls", "another")
    publish_pending()
    assert models_of(project) == {}
    assert "was gone" in stage_run(project, "train_cls").data.tags["uvlm.model"]


@pytest.mark.slow
def test_numbers_of_the_test_split_belong_to_a_model_and_a_data_set(project: Path) -> None:
    run(project, "train_cls", cls="a")
    sha = file_sha256(project / "data/models/cls/config.json")
    causes = read_causes(project, read_declarations(project)["classify"])
    with MlflowTracker(causes, project, live=True):
        (project / "data/classified").mkdir()
        said = {"case_id": "7", "model": sha[:12]}
        (project / "data/classified/predictions.jsonl").write_text(json.dumps(said) + "\n")
        (project / "reports").mkdir()
        numbers = {"cls": {"macro_f1": 0.75, "macro_f1_ci": [0.5, 0.9]}, "n": 3}
        (project / "reports/classify.json").write_text(json.dumps(numbers))
    (metric,) = models_of(project)["uvlm-cls"].metrics
    assert (metric.key, metric.value) == ("cls.macro_f1", 0.75)
    assert metric.dataset_name == "phantom-test"
    record = find_record("classify", causes.fingerprint)
    assert record is not None
    assert record.lineage is not None
    assert record.lineage.data[0].n == 3


@pytest.mark.slow
def test_a_cached_training_is_linked_to_the_model_it_had_made(project: Path) -> None:
    run(project, "train_cls", cls="a")
    (earlier,) = read_records()
    later = earlier.model_copy(deep=True, update={"pipeline": "later", "stage": "summarize"})
    later.published = type(later.published)()
    with MlflowStore.open() as store:
        store.link(earlier, later)
        parent = store.parent_of(later)
        (child,) = store.children("phantom", parent)
    model = models_of(project)["uvlm-cls"]
    assert [each.model_id for each in child.outputs.model_outputs] == [model.model_id]
    assert child.info.end_time - child.info.start_time <= 1000
    assert len(client_of(project).search_model_versions("name = 'uvlm-encoder'")) == 1

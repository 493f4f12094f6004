"""The index of training reports, of a small trained project."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.inference.conftest import forget
from uvlm.config import Params, load_params
from uvlm.data.cases import read_index, scored_cases
from uvlm.errors import DataError
from uvlm.inference.evidence.nearest import CASES, VECTORS, nearest
from uvlm.inference.evidence.training_index import index_training
from uvlm.inference.report_writer import ReportWriter
from uvlm.model.load import load_report_model
from uvlm.store import load_array, read_manifest, resolve


@pytest.fixture
def project(old_project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(old_project)
    shutil.copytree("data/models/report", "copy of a model ä")
    return old_project


@pytest.fixture
def params(project: Path) -> Params:
    return load_params(project / "params.yaml")


def write(params: Params, project: Path, *, names: bool = False) -> int:
    manifests = project / "data" / "manifests"
    return index_training(
        params,
        project / "copy of a model ä",
        index=manifests / "index.jsonl",
        preprocess=manifests / "preprocess.jsonl",
        encodings=manifests / "encode.jsonl",
        names=names,
    )


@pytest.mark.parametrize("names", [False, True])
def test_every_training_scan_is_nearest_to_itself_with_its_own_report(
    project: Path, params: Params, names: bool
) -> None:
    model = project / "copy of a model ä"
    writer = ReportWriter.of(load_report_model(model))
    stored = {row.case: row for row in read_manifest(project / "data/manifests/encode.jsonl")}
    index = read_index(project / "data/manifests/index.jsonl")
    scans = [case for case in scored_cases(index, "train") if case.case_id in stored]
    assert write(params, project, names=names) == len(scans) > 1
    for case in scans:
        row = stored[case.case_id]
        tokens = torch.as_tensor(load_array(resolve(row, "encode"), row.sha256)).float()
        embedding = writer.embeddings(writer.visual(tokens[None]))[0]
        found = nearest(model, writer.model.sha256, embedding, len(scans))
        best = [each for each in found if each.similarity > 0.9999]
        assert case.report.text in [each.report for each in best]
        assert (case.case_id in [each.case_id for each in best]) == names


def test_without_names_no_id_of_the_data_set_is_written(project: Path, params: Params) -> None:
    write(params, project)
    text = (project / "copy of a model ä" / CASES).read_text(encoding="utf-8")
    ids = [row["case_id"] for row in json.loads(text)["cases"]]
    assert len(set(ids)) == len(ids)
    for case in read_index(project / "data/manifests/index.jsonl"):
        assert f'"{case.case_id}"' not in text


def test_an_untrained_classifier_gets_no_index(project: Path, params: Params) -> None:
    model = project / "copy of a model ä"
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    if "trained" not in config:
        config["trained"] = ["encoder", "segmentation", "classifier", "language"]
        (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    forget(model, "classifier")
    with pytest.raises(DataError, match="no trained classifier"):
        write(params, project)
    assert not (model / VECTORS).exists()

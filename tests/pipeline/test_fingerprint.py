"""One fingerprint decides whether a training goes on: code, declared parameters, inputs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.dvc_yaml import read_causes, read_declarations, stage_params
from pipeline.paths import code
from pipeline.profiles import flatten
from pipeline.reach import PACKAGES, Checkout
from pipeline.runs.provenance import new_record
from pipeline.stage import Stage, execute
from uvlm.files import write_json_atomic
from uvlm.train.loop.resume import ResumeFolder

ROOT = Path(__file__).parents[2]
DECLARATIONS = read_declarations(ROOT)
LOSSES = {  # file, and a line of it that the training runs
    "train_seg": ("dice_sums", "SMOOTH: Final = 1e-5"),
    "train_cls": ("objectives", "logits = model(batch.x)"),
    "train_report": ("objectives", 'return {"ce": model('),
}


@pytest.fixture
def project(tmp_path: Path, tiny_document: dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Checkout, parameters and one input of every training; the cwd."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    for package in PACKAGES:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignore)
    (tmp_path / "params.yaml").write_text(json.dumps(tiny_document))
    (tmp_path / "data" / "manifests").mkdir(parents=True)
    (tmp_path / "data" / "manifests" / "index.jsonl").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def folder(project: Path, stage: str) -> str:
    return ResumeFolder(stage, read_causes(project, DECLARATIONS[stage]).fingerprint).folder.name


def describe(project: Path, stage: str) -> None:
    """Do for one stage what the stage `code` does."""
    told = Checkout(project).describe(stage, DECLARATIONS[stage].params)
    write_json_atomic(project / code(stage), told)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.slow
@pytest.mark.parametrize("stage", LOSSES)
def test_a_training_begins_anew_after_an_edit_of_code_but_not_of_a_comment(
    stage: str, project: Path
) -> None:
    describe(project, stage)
    first = folder(project, stage)
    name, line = LOSSES[stage]
    loss = project / "uvlm" / "train" / "losses" / f"{name}.py"
    edit(loss, "from __future__", "# A comment.\nfrom __future__")
    describe(project, stage)
    assert folder(project, stage) == first
    edit(loss, line, line.replace("1e-5", "1e-4").replace("model(", "2 * model("))
    describe(project, stage)
    assert folder(project, stage) != first


@pytest.mark.slow
@pytest.mark.parametrize("stage", LOSSES)
def test_a_training_begins_anew_after_a_change_of_any_declared_parameter(
    stage: str, project: Path, tiny_document: dict[Any, Any]
) -> None:
    declaration = DECLARATIONS[stage]
    keys = list(flatten(stage_params(tiny_document, declaration)))
    assert {"seed", f"{stage}.steps", f"{stage}.optim.lr"} <= set(keys)
    folders = {folder(project, stage)}
    for key in keys:
        document = json.loads(json.dumps(tiny_document))
        *parents, name = key.split(".")
        section = document
        for parent in parents:
            section = section[parent]
        section[name] = ["changed", section[name]]
        (project / "params.yaml").write_text(json.dumps(document))
        folders.add(folder(project, stage))
    assert len(folders) == 1 + len(keys)


@pytest.mark.slow
def test_a_training_begins_anew_with_other_data_and_goes_on_after_what_does_not_concern_it(
    project: Path, tiny_document: dict[Any, Any]
) -> None:
    first = folder(project, "train_seg")
    tiny_document["train_cls"]["steps"] += 1
    (project / "params.yaml").write_text(json.dumps(tiny_document))
    assert folder(project, "train_seg") == first
    (project / "data" / "manifests" / "index.jsonl").write_text("another case\n")
    assert folder(project, "train_seg") != first


@pytest.mark.slow
def test_the_run_record_the_stage_and_the_state_have_the_same_fingerprint(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe(project, "train_seg")
    record = new_record(project, read_causes(project, DECLARATIONS["train_seg"]))
    seen: list[Stage] = []
    assert execute("train_seg", seen.append) == 0
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert execute("train_seg", seen.append) == 0
    assert [stage.training.fingerprint for stage in seen] == [record.fingerprint] * 2
    assert [stage.code for stage in seen] == [record.tags["uvlm.code"]] * 2
    assert seen[0].training.params.keys() == {
        "seed", "preprocess", "label_maps", "encoder", "train_seg"
    }  # fmt: skip


@pytest.mark.slow
def test_a_stage_does_not_run_code_that_the_stage_code_has_not_seen(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    describe(project, "train_cls")
    edit(project / "uvlm" / "train" / "cls.py", '"""Stage 2', '"""The second stage')
    assert execute("train_cls", lambda stage: None) == 0
    edit(project / "uvlm" / "train" / "cls.py", '"thresholds.json"', '"t.json"')
    ran: list[Stage] = []
    assert execute("train_cls", ran.append) == 4
    assert ran == []
    assert capsys.readouterr().err == (
        "train_cls: data/code/train_cls.json: was written for other code; "
        "run `dvc repro -f -s code`, then this again\n"
    )

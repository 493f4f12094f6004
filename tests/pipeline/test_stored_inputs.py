"""A stage says at once, in one line, how to get what its manifests name and the store lacks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.dvc_yaml import Declaration, read_declarations
from pipeline.paths import manifest
from pipeline.stage import execute
from pipeline.stored_inputs import check_stored
from uvlm.data.sets.hub import Hub, Repo, Snapshot
from uvlm.errors import DataError
from uvlm.files import store_root, write_json_atomic
from uvlm.store import Row, write_manifest

ROOT = Path(__file__).parents[2]
STAGES = read_declarations(ROOT)
MADE_OF_CTS = ("preprocess", "label_maps", *(f"pseudo_label_{k}" for k in ("anatomy", "vessel")))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Manifests of 200 cases, as a clone has them after `dvc pull`, and an empty store."""
    for name in ("download", "index", *MADE_OF_CTS, "pseudo_label_airway", "encode", "generate"):
        raw = name in ("download", "index")
        rows = [row(f"raw/own/{n}.nii.gz" if raw else f"{name}/{n}.b2nd") for n in range(200)]
        write_manifest(tmp_path / manifest(name), rows)
    return tmp_path


def row(path: str, source: str = "own") -> Row:
    return Row(path, "k", path, "0" * 64, source)


def fill(names: Sequence[str]) -> None:
    for name in names:
        for number in range(200):
            path = f"raw/own/{number}.nii.gz" if name == "raw" else f"{name}/{number}.b2nd"
            file = store_root() / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()


@pytest.mark.parametrize(
    ("stage", "commands"),
    [
        ("index", "dvc repro -f -s download"),
        ("preprocess", "dvc repro -f -s download"),
        ("pseudo_label@vessel", "dvc repro -f -s download"),
        ("label_maps", "dvc repro -f label_maps"),
        ("audit", "dvc repro -f label_maps"),
        ("train_seg", "dvc repro -f label_maps"),
        ("train_cls", "dvc repro -f label_maps"),
        ("classify", "dvc repro -f label_maps"),
        ("encode", "dvc repro -f label_maps"),
        ("train_report", "dvc repro -f label_maps && dvc repro -f -s encode"),
        ("generate", "dvc repro -f label_maps && dvc repro -f -s encode"),
        ("evaluate", "dvc repro -f label_maps && dvc repro -f -s generate"),
        ("summarize", "dvc repro -f label_maps && dvc repro -f -s generate"),
    ],
)
def test_one_line_has_every_command_that_a_stage_needs(
    stage: str, commands: str, project: Path
) -> None:
    with pytest.raises(DataError) as caught:
        check_stored(project, STAGES[stage])
    assert f"has not what the stage {stage} reads: 200 files of " in caught.value.fact
    assert caught.value.remedy == f"`uvlm store pull` fetches it; `{commands}` makes it here"


@pytest.mark.parametrize("stage", ["code", "download", "tokenizer"])
def test_a_stage_that_reads_nothing_of_the_store_asks_for_nothing(
    stage: str, project: Path
) -> None:
    check_stored(project, STAGES[stage])


def test_trainings_need_no_raw_cts(project: Path) -> None:
    fill((*MADE_OF_CTS, "pseudo_label_airway", "encode", "generate"))
    for stage in ("train_seg", "train_cls", "encode", "train_report", "evaluate", "summarize"):
        check_stored(project, STAGES[stage])
    with pytest.raises(DataError, match=r"dvc repro -f -s download"):
        check_stored(project, STAGES["preprocess"])


def test_the_commands_make_all_that_was_asked_for() -> None:
    """By the graph of dvc.yaml: what `dvc repro -f TARGET` and `-f -s TARGET` run."""
    for stage in STAGES.values():
        names = {Path(dep).stem for dep in stage.deps if dep.startswith("data/manifests/")}
        wanted = {f"data/manifests/{name}.jsonl" for name in names - {"index", "download"}}
        if not wanted:
            continue
        made: set[str] = set()
        with pytest.raises(DataError) as caught:
            check_stored_as_if_empty(stage)
        for alone, target in re.findall(r"dvc repro -f (-s )?(\w+)", caught.value.remedy):
            made |= set(STAGES[target].outs) if alone else outs_up_to(target)
        assert wanted <= made, stage.name


def check_stored_as_if_empty(stage: Declaration) -> None:
    root = store_root().parents[1]
    for dep in stage.deps:
        if dep.startswith("data/manifests/"):
            write_manifest(root / dep, [row("nothing/here.b2nd")])
    check_stored(root, stage)


def outs_up_to(target: str) -> set[str]:
    by_out = {out: stage for stage in STAGES.values() for out in stage.outs}
    stage = STAGES[target]
    before = {by_out[dep].name for dep in stage.deps if dep in by_out}
    return set(stage.outs).union(*map(outs_up_to, before))


def test_one_file_in_the_middle_of_a_few_is_missed_by_nobody(project: Path) -> None:
    fill(MADE_OF_CTS)
    write_manifest(
        project / manifest("preprocess"), [row(f"preprocess/{n}.b2nd") for n in range(9)]
    )
    (store_root() / "preprocess/4.b2nd").unlink()
    with pytest.raises(DataError, match="1 files of preprocess"):
        check_stored(project, STAGES["train_cls"])


def test_volumes_that_a_hub_sends_when_needed_are_not_missing(project: Path) -> None:
    commit = "a" * 40
    repo, folder = Repo("a/b", commit), store_root() / "raw" / commit / "ct"
    listed = {"path": "1.nii.gz", "size": 1, "blob_id": "b" * 40, "sha256": "0" * 64}
    write_json_atomic(Snapshot(Hub(), repo, folder).record, {"1.nii.gz": listed})
    source = f"hub:a/b@{commit}"
    write_manifest(project / manifest("index"), [row(f"raw/{commit}/ct/1.nii.gz", source)])
    check_stored(project, STAGES["preprocess"])
    write_manifest(project / manifest("index"), [row(f"raw/{commit}/ct/2.nii.gz", source)])
    with pytest.raises(DataError, match="reads: 1 files of index"):  # the hub has no such file
        check_stored(project, STAGES["preprocess"])


@pytest.mark.slow
def test_a_stage_of_a_clone_ends_before_its_first_step(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (workspace / "dvc.yaml").read_text()
    more = "deps: [data/manifests/preprocess.jsonl, input.txt]"
    (workspace / "dvc.yaml").write_text(text.replace("deps: [input.txt]", more, 1))
    write_manifest(workspace / "data/manifests/preprocess.jsonl", [row("preprocess/1.b2nd")])
    began = []
    assert execute("first", lambda stage: began.append(stage)) == DataError.exit_code
    assert began == []
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("`dvc repro -f label_maps` makes it here")

"""What people have on their disks: the work of an earlier release, made by its own code.

golden/before_the_moves holds a whole small project of commit 9586cbd and says how it was made.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file

from pipeline import code, download, encode, generate, index, label_maps, train_seg
from pipeline.dvc_yaml import read_causes, read_declarations
from pipeline.paths import manifest
from pipeline.runs.mlflow_publish import MlflowStore
from pipeline.runs.mlflow_tracker import MlflowTracker, reap
from pipeline.runs.records import read_records
from pipeline.shares import make_cases
from pipeline.stage import Stage, execute
from uvlm.config import LABEL_KINDS, load_params
from uvlm.data.contract import normalise
from uvlm.data.ct.grid import preprocess_volume
from uvlm.data.ct.io import read_volume
from uvlm.data.label_scheme import scheme
from uvlm.data.labels.pseudo.stage import PseudoLabels
from uvlm.data.preprocess import Volumes
from uvlm.inference.predictor import Predictor
from uvlm.inference.segment import Segmenter
from uvlm.model.build import build_unet
from uvlm.model.load import load_classifier, load_segmenter
from uvlm.train.loop.optim import build_optimizer
from uvlm.train.loop.resume import ResumeFolder

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden" / "before_the_moves"
THEN = json.loads((GOLDEN / "numbers.json").read_text(encoding="utf-8"))
OVER_CASES: dict[str, Callable[[Stage], object]] = {
    "download": download.download,
    "index": index.index,
    "preprocess": partial(make_cases, choose=Volumes.of),
    **{
        f"pseudo_label@{kind}": partial(make_cases, choose=partial(PseudoLabels.of, kind=kind))
        for kind in LABEL_KINDS
    },
    "label_maps": label_maps.merge,
    "encode": encode.encode,
    "generate": generate.generate,
}

mlflow_warnings = pytest.mark.filterwarnings(
    # MLflow and its SQLAlchemy models warn about their own and each other's interfaces.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::ResourceWarning",
)


@pytest.fixture
def old(old_project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project of then, as the working directory."""
    monkeypatch.chdir(old_project)
    return old_project


def test_a_report_folder_writes_what_it_wrote(old: Path) -> None:
    now = Predictor.load(old / "data/models/report").predict(old / THEN["ct"])
    assert now.report.text == THEN["report"]["text"]
    assert now.probabilities == pytest.approx(THEN["report"]["probabilities"], abs=1e-4)
    assert now.label_map is not None
    assert now.not_trained == ()  # seen from the weights, as config.json did not say it then
    _alike(now.label_map.array, THEN["report"]["voxels_by_class"])


def test_seg_and_cls_folders_give_the_numbers_they_gave(old: Path) -> None:
    models = old / "data" / "models"
    params = load_params(old / "params.yaml")
    array, _ = preprocess_volume(read_volume(old / THEN["ct"]), params.preprocess)
    voxels = normalise(array, params.preprocess)
    segmenter = Segmenter.of(load_segmenter(models / "seg").unet, params.train_seg.patch)
    _alike(segmenter.labels(voxels[None]), THEN["seg"]["voxels_by_class"])
    cls = load_classifier(models / "cls")
    with torch.no_grad():
        logits = cls.classifier(cls.encoder(torch.from_numpy(voxels)[None, None])[-1])
    assert logits[0].tolist() == pytest.approx(THEN["cls"]["logits"], abs=1e-4)


def _alike(labels: npt.NDArray[np.uint8], voxels_by_class: list[int]) -> None:
    """Allow another processor to round one voxel in a thousand to another class."""
    counts = np.bincount(labels.ravel(), minlength=len(voxels_by_class))
    assert np.abs(counts - voxels_by_class).sum() <= labels.size / 1000


@pytest.mark.slow
def test_every_stage_finds_its_cases_in_the_store_and_names_them_as_before(old: Path) -> None:
    """With today's code described, each also makes some cases again and finds them equal."""
    for folder in ("uvlm", "pipeline"):
        (old / folder).symlink_to(ROOT / folder)
    assert execute("code", code.describe) == 0
    stored = _images(old / "data" / "store")
    for name, work in OVER_CASES.items():
        written = manifest(name.replace("@", "_"))
        before = written.read_bytes()
        written.unlink()
        assert execute(name, work) == 0, name
        assert written.read_bytes() == before, name
        assert _images(old / "data" / "store") == stored, name
    compared = {path.parts[-3] for path in (old / "data" / "store" / "code").glob("*/*/*")}
    assert compared == {"phantom", "preprocess", "pseudo_label", "label_maps", "encode", "generate"}


def _images(store: Path) -> dict[Path, tuple[int, int]]:
    """CTs, masks and arrays, each with what changes when a file is written again."""
    files = [path for suffix in ("nii.gz", "b2nd") for path in store.rglob(f"*.{suffix}")]
    assert len(files) > 50
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def test_records_are_read_and_none_is_taken_for_a_run_that_died_today(old: Path) -> None:
    records = read_records()
    ends = sorted((record.stage, record.status) for record in records)
    later = {"code", "classify"}  # the one has no records, the other is younger
    finished = [(stage, "FINISHED") for stage in read_declarations(old) if stage not in later]
    assert ends == sorted([*finished, ("train_seg", "KILLED")])
    assert not any(record.is_pending for record in records)
    assert all(record.params["seed"] == "0" for record in records if "seed" in record.params)
    assert reap() == []


@mlflow_warnings
@pytest.mark.slow
def test_a_further_run_is_published_beside_those_of_then(old: Path) -> None:
    before = {run_id: status for _, run_id, status in _runs()}
    assert sorted(before.values()) == ["FINISHED"] * 17 + ["KILLED"] * 2
    causes = read_causes(old, read_declarations(old)["tokenizer"])
    with MlflowTracker(causes, old, live=True) as tracking:
        tracking.log({"loss": 1.0}, 1)
    after = _runs()
    assert before.items() <= {run_id: status for _, run_id, status in after}.items()
    added = {(stage, status) for stage, run_id, status in after if run_id not in before}
    assert added == {("tokenizer", "FINISHED"), ("parent", "FINISHED")}


def _runs() -> list[tuple[str, str, str]]:
    """Stage, id and status of every run of the database."""
    with MlflowStore.open() as store:
        found = store.client.search_runs([store.experiment("phantom")])
    return [(r.data.tags.get("dvc.stage", "parent"), r.info.run_id, r.info.status) for r in found]


@pytest.mark.slow
def test_an_interrupted_training_begins_anew_and_says_so_in_one_line(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its state was named by parameters and inputs only: nobody knows whether the code is that."""
    (left,) = (old / ".uvlm" / "state").iterdir()
    assert execute("train_seg", train_seg.segment) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if str(left) in line]
    assert len(said) == 1
    assert "starts at step 0" in said[0]
    assert "code" in said[0]
    assert (left / "state.safetensors").exists()


def test_the_state_of_an_interrupted_training_is_read(old: Path) -> None:
    params = load_params(old / "params.yaml")
    labels = scheme(params.label_maps.dataset, params.label_maps.scheme)
    unet = build_unet(params.encoder, len(labels.names), deep_supervision=True)
    optimizer = build_optimizer(unet, params.train_seg.optim)
    (folder,) = (old / ".uvlm" / "state").iterdir()
    written = load_file(folder / "state.safetensors")
    with ResumeFolder(*folder.name.split("-")) as state:
        step, best, is_validated = state.load(unet, optimizer)
    assert (step, is_validated) == (2, True)
    assert best is not None
    assert best.step == 2
    for name, weights in unet.named_parameters():
        assert torch.equal(weights, written[f"model.{name}"]), name
    moments = optimizer.state_dict()["state"]
    assert torch.equal(moments[0]["exp_avg"], written["optimizer.0.exp_avg"])
    assert {slots["step"].item() for slots in moments.values()} == {2}

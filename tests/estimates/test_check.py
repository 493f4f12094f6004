"""A stage that will not fit says so before its first step; estimates against measured peaks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from pipeline.profiles import write_params
from pipeline.stage import _KEEP_MEMORY, execute
from tests.tiny_qwen import SIZES, write_qwen
from uvlm.config import Params, parse_params
from uvlm.data.cases import Case, write_index
from uvlm.data.ct.io import write_volume
from uvlm.data.ct.volume import Volume
from uvlm.estimates.largest_ct import largest_grid, largest_of_index
from uvlm.estimates.stages import Cts, estimate, workers_that_fit
from uvlm.files import store_root, write_json_atomic
from uvlm.store import Row

NETWORKS = ("train_seg", "train_cls", "encode", "train_report", "generate")
STAGES = ("preprocess", "label_maps", *NETWORKS, "evaluate")
DVC_YAML = "stages:\n" + "".join(
    f"  {name}:\n    cmd: 'true'\n    params: [seed]\n    outs: [{name}.txt]\n" for name in STAGES
)
FEW = Cts(8, (100, 512, 512))
LARGE = Cts(1000, (300, 512, 512))


@pytest.fixture
def params(tiny_document: dict[Any, Any]) -> Params:
    return parse_params(tiny_document, "tiny")


@pytest.fixture
def project(tmp_path: Path, tiny_document: dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stages and an index of one CT; the current folder."""
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, tiny_document)
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    write_volume(store_root() / "raw/p1.nii.gz", Volume(np.zeros((30, 20, 10), "i2"), np.eye(4)))
    case = Case("p1", "p1", "p1", "train", "raw/p1.nii.gz", None, {}, (0,) * 18, "Clear.", "")
    write_index(tmp_path / "data/manifests/index.jsonl", [case])
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_will_not_fit_ends_before_it_begins(
    stage: str, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UVLM_MEMORY", "64MB")
    began: list[object] = []
    assert execute(stage, began.append) == 4
    assert began == []
    assert not (project / ".uvlm" / "state").exists()
    *lines, last = capsys.readouterr().err.splitlines()
    assert last.startswith(f"{stage}: memory: {stage} would need ")
    assert last.endswith("nothing was started")
    rows = {line[:14].strip(): float(line[14:26].replace(",", "")) for line in lines[1:]}
    assert rows.pop("there is") == pytest.approx(64e6 / 2**20, abs=0.05)
    assert rows.pop("together") == pytest.approx(sum(rows.values()), abs=0.5)


def test_where_it_fits_the_stage_begins(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVLM_MEMORY", "1TB")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nowhere/mlflow.db")
    began: list[object] = []
    assert execute("encode", began.append) == 0
    assert len(began) == 1


def test_as_many_workers_as_have_memory_and_never_fewer_than_one(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UVLM_WORKERS", raising=False)
    monkeypatch.setattr("uvlm.estimates.stages.allowed_cores", lambda: 64)
    counts = []
    for gigabytes in (1, 2, 4, 8, 16, 999):
        monkeypatch.setenv("UVLM_MEMORY", f"{gigabytes}GB")
        counts.append(workers_that_fit("label_maps", params, LARGE) or 0)
        found = estimate("label_maps", params, LARGE)
        assert found is not None
        if gigabytes > 1:
            assert found.total <= gigabytes * 1e9
    assert counts[0] == 1
    assert counts[-1] == 64
    assert sorted(counts) == counts
    assert 3 < counts[3] < 20
    monkeypatch.setenv("UVLM_WORKERS", "7")
    assert workers_that_fit("label_maps", params, LARGE) == 7


def test_a_training_of_no_steps_needs_nothing(params: Params) -> None:
    section = params.train_seg.model_copy(update={"steps": 0})
    assert estimate("train_seg", params.model_copy(update={"train_seg": section}), FEW) is None


@pytest.mark.slow
def test_two_cases_hold_twice_the_activations_of_one(params: Params) -> None:
    grid = params.preprocess.model_copy(update={"grid": (96, 96, 96)})  # validated one by one
    params = params.model_copy(update={"preprocess": grid})
    found = []
    for batch_size in (1, 2):
        section = params.train_cls.model_copy(update={"batch_size": batch_size})
        sizes = estimate("train_cls", params.model_copy(update={"train_cls": section}), FEW)
        assert sizes is not None
        found.append(sizes.sizes["activations"][0])
    assert found[1] / found[0] == pytest.approx(2, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qwen3_full", "qwen3_lora"])
def test_a_qwen3_counts_by_its_config_json_alone(
    kind: str, tiny_document: dict[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_document["tokenizer"]["kind"] = "qwen3"
    tiny_document["decoder"] |= {"kind": kind, "lora_rank": 2, **SIZES}
    qwen = parse_params(tiny_document, "tiny")
    monkeypatch.delenv("UVLM_QWEN3", raising=False)
    assert estimate("train_report", qwen, FEW) is None
    folder = write_qwen(tmp_path / "qwen")
    weights = sum(tensor.nbytes for tensor in load_file(folder / "model.safetensors").values())
    (folder / "model.safetensors").unlink()
    monkeypatch.setenv("UVLM_QWEN3", str(folder))
    sizes = estimate("train_report", qwen, FEW)
    assert sizes is not None
    beside = 0.3 * weights  # projections, and the adapter if there is one
    assert weights < sizes.sizes["weights"][0] < weights + beside
    full = weights < sizes.sizes["gradients"][0] < weights + beside
    assert full == (kind == "qwen3_full")


def test_the_largest_ct_counts_and_a_damaged_one_does_not(tmp_path: Path) -> None:
    shapes = [(10, 10, 10), (40, 20, 30), (20, 20, 20)]
    noise = np.random.default_rng(0).integers(-1000, 1000, (40, 20, 30), dtype=np.int16)
    for number, (z, y, x) in enumerate(shapes):
        volume = Volume(np.ascontiguousarray(noise[:z, :y, :x]), np.eye(4))
        write_volume(tmp_path / f"{number}.nii.gz", volume)
    (tmp_path / "damaged.nii.gz").write_bytes(b"no gzip" * 10_000)
    assert largest_grid(sorted(tmp_path.iterdir())) == (40, 20, 30)


def test_a_ct_that_is_left_on_the_hub_counts_by_its_listing_and_then_by_its_grid(
    tmp_path: Path,
) -> None:
    """Files of the hub take 2 bytes a voxel until one CT is known; 300 planes are 157 MB."""
    commit = "5c" * 20
    folder = tmp_path / f"raw/{commit[:12]}/ct_rate"
    names = [f"p{number}.nii.gz" for number in range(3)]
    rows = [
        Row(name, "", f"raw/{commit[:12]}/ct_rate/{name}", "", f"hub:someone/a-set@{commit}")
        for name in names
    ]
    sizes = zip(names, (1_000_000, 2 * 300 * 512 * 512, 2_000_000), strict=True)
    listed = {n: {"path": n, "size": size, "blob_id": "", "sha256": None} for n, size in sizes}
    write_json_atomic(folder / ".listing.json", listed)
    assert largest_of_index(rows, tmp_path) == (300, 512, 512)

    grid = {"shape": [20, 512, 512], "affine": np.eye(4).tolist()}
    write_json_atomic(folder / ".p1.nii.gz.grid.json", grid)
    assert largest_of_index(rows, tmp_path) == (20, 512, 512)

    write_volume(folder / "p2.nii.gz", Volume(np.zeros((40, 512, 512), "i2"), np.eye(4)))
    assert largest_of_index(rows, tmp_path) == (40, 512, 512)
    assert largest_of_index([], tmp_path) == (1, 1, 1)


_MEASURED = """
import json, sys, torch
from pathlib import Path
from uvlm.config import load_params
from uvlm.estimates import networks
params = load_params(Path(sys.argv[1]))
# Unlike ru_maxrss, VmHWM does not begin with the peak of the process that started this one.
status = Path("/proc/self/status")
resident = lambda: int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
before = resident()
training = networks.cls_training(params)
training.model.to(memory_format=torch.channels_last_3d)
for _ in range(2):
    training.step()
training.model.eval()
with torch.no_grad():
    training.validate()
print(json.dumps(resident() - before))
"""


@pytest.mark.slow
@pytest.mark.parametrize("edge", [32, 64])
def test_an_estimate_is_within_a_factor_of_two_of_a_measured_peak(
    edge: int, tiny_document: dict[Any, Any], tmp_path: Path, root: Path
) -> None:
    tiny_document["preprocess"]["grid"] = [edge, edge, edge]
    tiny_document["encoder"]["channels"] = [16, 16, 32, 32, 32, 32]
    write_params(tmp_path, tiny_document)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(tmp_path / "params.yaml")],
        cwd=root,
        env=os.environ | _KEEP_MEMORY | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = estimate("train_cls", parse_params(tiny_document, "measured"), Cts(0, (1, 1, 1)))
    assert found is not None
    kept_elsewhere = ("program", "best and saved", "volumes")
    expected = sum(size for name, (size, _) in found.sizes.items() if name not in kept_elsewhere)
    assert 0.5 < expected / json.loads(done.stdout) < 2

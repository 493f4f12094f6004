"""TotalSegmentator as installed: its tables, what is said without weights, and real runs of it.

The runs use the package and nnU-Net as they are, on tiny random models in its own file layout.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pipeline.profiles import write_params
from uvlm.config import AirwayConfig, AnatomyConfig, LabelKind, VesselConfig
from uvlm.data.cases import read_index, write_index
from uvlm.data.ct.volume import AxisOrder, ReadError, Volume
from uvlm.data.labels.pseudo import totalsegmentator as backend
from uvlm.data.labels.pseudo.totalsegmentator import Child, child_environment
from uvlm.data.labels.pseudo.totalsegmentator_child import refuse_connections
from uvlm.data.labels.pseudo.totalsegmentator_weights import (
    _DOWNLOADS,
    Task,
    check_weights,
    models_of,
    weights_folder,
)
from uvlm.errors import SetupError
from uvlm.store import load_array, read_manifest, resolve

if TYPE_CHECKING:
    from tests.data.conftest import Stages

pytest.importorskip("totalsegmentator")
TASKS: list[tuple[Task, bool]] = [("total", False), ("total", True), ("lung_vessels", False)]


def test_the_class_ids_are_those_of_the_package() -> None:
    from totalsegmentator.map_to_binary import class_map

    scheme = json.loads(files("uvlm.data").joinpath("schemes/totalsegmentator.json").read_text())
    for task, size in (("total", 117), ("lung_vessels", 4)):
        assert dict(enumerate(scheme[task], 1)) == class_map[task]
        assert len(scheme[task]) == size == backend._LARGEST_ID[task]


def test_the_api_has_the_arguments_that_are_used() -> None:
    from totalsegmentator import python_api

    parameters = inspect.signature(python_api.totalsegmentator).parameters
    used = {"input", "output", "ml", "task", "fast", "device", "quiet"}
    used |= {"nr_thr_resamp", "nr_thr_saving"}
    assert used <= set(parameters)
    assert parameters["task"].default == "total"
    assert callable(python_api.download_pretrained_weights)  # what the child replaces


@pytest.mark.parametrize(("task", "fast"), TASKS)
def test_the_command_that_is_named_fetches_every_model_of_the_task(task: Task, fast: bool) -> None:
    from totalsegmentator.bin.totalseg_download_weights import TASK_TO_ID

    fetched = {number for name in _DOWNLOADS[task, fast] for number in TASK_TO_ID[name]}
    assert {model.dataset_id for model in models_of(task, fast)} <= fetched


def test_a_task_needs_its_models_and_the_one_that_crops_for_it() -> None:
    ids = {key: [model.dataset_id for model in models_of(*key)] for key in TASKS}
    assert ids == {
        ("total", False): [291, 292, 293, 294, 295],
        ("total", True): [297],
        ("lung_vessels", False): [117, 297],
    }


def use(stages: Stages, kind: LabelKind) -> None:
    """Choose TotalSegmentator for one kind."""
    sections = {
        "anatomy": AnatomyConfig(backend="totalsegmentator", fast=True),
        "airway": AirwayConfig(backend="totalsegmentator", spacing_mm=None),
        "vessel": VesselConfig(backend="totalsegmentator", artery_id=1, vein_id=2),
    }
    labellers = stages.params.pseudo_label.model_copy(update={kind: sections[kind]})
    stages.params = stages.params.model_copy(update={"pseudo_label": labellers})


@pytest.mark.parametrize("kind", ["anatomy", "airway", "vessel"])
@pytest.mark.parametrize("folder", ["absent", "empty", "folders without files"])
def test_without_weights_one_line_names_the_command_and_nothing_is_written(
    stages: Stages, kind: LabelKind, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights"
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(weights))
    if folder != "absent":
        weights.mkdir()
    if folder == "folders without files":  # the package takes these for a finished download
        for task, fast in TASKS:
            for model in models_of(task, fast):
                (weights / model.folder).mkdir(parents=True, exist_ok=True)
    stages.index()
    use(stages, kind)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    wanted = "total_fast" if kind == "anatomy" else "lung_vessels"
    with pytest.raises(SetupError, match=f"run `totalseg_download_weights -t {wanted}") as caught:
        stages.pseudo_label(kind)
    assert caught.value.exit_code == 4
    assert str(weights) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_the_stage_ends_with_exit_code_4(
    root: Path, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.index()
    use(stages, "anatomy")
    write_params(stages.root, stages.params.model_dump(mode="json"))
    shutil.copy(root / "dvc.yaml", stages.root)
    (stages.root / "data/manifests").mkdir(parents=True)
    shutil.copy(stages.manifest("index"), stages.root / "data/manifests/index.jsonl")
    variables = {
        "DVC_ROOT": str(stages.root),
        "MLFLOW_TRACKING_URI": "sqlite:////proc/nowhere/mlflow.db",
        "PYTHONPATH": str(root),
        "TOTALSEG_WEIGHTS_PATH": str(stages.root / "nowhere"),
    }
    run = subprocess.run(
        [sys.executable, "-m", "pipeline.pseudo_label", "anatomy"],
        cwd=stages.root,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 4, run.stderr
    said = [line for line in run.stderr.splitlines() if "pseudo_label@anatomy: " in line]
    assert len(said) == 1
    assert "TOTALSEG_WEIGHTS_PATH" in said[0]
    assert "Traceback" not in run.stderr
    assert not list((stages.root / "data").rglob("pseudo_label_*"))


def test_without_the_variable_the_folder_is_that_of_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from totalsegmentator.config import get_weights_dir

    monkeypatch.delenv("TOTALSEG_WEIGHTS_PATH", raising=False)
    for variable in ("HOME", "TOTALSEG_HOME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
        assert weights_folder() == get_weights_dir()


@pytest.fixture(scope="module")
def fast_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.data.labels.pseudo.totalsegmentator_models import write_models

    folder = tmp_path_factory.mktemp("fast_weights")
    write_models(folder, "total", fast=True)
    return folder


def test_the_digest_of_the_weights_follows_every_file(
    fast_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(fast_weights, tmp_path / "weights")
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(folder))
    digests = [check_weights("total", fast=True)]
    assert digests[0] == check_weights("total", fast=True)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        path.write_bytes(path.read_bytes() + b" ")
        digests.append(check_weights("total", fast=True))
    assert len(set(digests)) == 4  # as they were, and after each of three files


def test_no_secret_of_the_environment_reaches_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "secret")
    assert "secret" not in child_environment().values()


def test_connections_are_refused_but_not_those_to_processes_of_this_machine() -> None:
    with pytest.raises(PermissionError, match="without a network"):
        refuse_connections("socket.connect", (None, ("127.0.0.1", 80)))
    with pytest.raises(PermissionError, match="without a network"):
        refuse_connections("socket.getaddrinfo", ("github.com", 443, 0, 0, 0))
    refuse_connections("socket.connect", (None, "/tmp/socket"))
    refuse_connections("open", ("file", "r", 0))


def test_a_process_with_the_hook_reaches_nothing() -> None:
    code = (
        "import socket, sys, urllib.request\n"
        "from uvlm.data.labels.pseudo.totalsegmentator_child import refuse_connections\n"
        "sys.addaudithook(refuse_connections)\n"
        "try:\n    socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "except PermissionError as error:\n    print(error)\n"
    )
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0.2)
        command = [sys.executable, "-c", code, str(server.getsockname()[1])]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "without a network" in said
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.fixture(scope="module")
def child(fast_weights: Path) -> Iterator[Child]:
    """The real package in its own process, on random models of `total` at 3 mm."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOTALSEG_WEIGHTS_PATH", str(fast_weights))
        patch.setenv("UVLM_DEVICE", "cpu")
        child = Child("total", fast=True)
    yield child
    child.close()


def blocks(shape: tuple[int, int, int]) -> Any:
    """Blocks of different Hounsfield units, so that a random network sees structures."""
    coarse = np.random.default_rng(1).integers(-1000, 500, [size // 4 for size in shape])
    return np.kron(coarse, np.ones((4, 4, 4))).astype(np.int16)


SHAPE = (20, 24, 28)
AFFINE = np.array([[0.0, 0, 3, -40], [0, 3, 0, -50], [3, 0, 0, 60], [0, 0, 0, 1]])


@pytest.mark.slow
def test_the_package_labels_a_ct_offline_the_same_in_every_orientation(child: Child) -> None:
    array = blocks(SHAPE)
    straight = child.label(Volume(array, AFFINE), "case")
    assert straight.array.shape == SHAPE
    assert len(np.unique(straight.array)) > 2
    order = AxisOrder((2, 0, 1), (True, False, True))
    stored = Volume(order.backward(array), order.stored_affine(AFFINE, SHAPE))
    turned = child.label(stored, "case")
    np.testing.assert_array_equal(turned.affine, stored.affine)
    np.testing.assert_array_equal(order.forward(turned.array), straight.array)
    child._log.seek(0)
    assert child._log.read().decode().count("loaded Dataset297") == 1  # and kept for the second


@pytest.mark.slow
def test_the_child_gives_what_a_plain_call_of_the_package_gives(
    child: Child, fast_weights: Path, tmp_path: Path
) -> None:
    from uvlm.data.ct.io import read_label_map, write_volume

    write_volume(tmp_path / "ct.nii.gz", Volume(blocks(SHAPE), AFFINE))
    script = tmp_path / "plain.py"
    script.write_text(
        "from uvlm.data.labels.pseudo.totalsegmentator_child import "
        "_skip_trainers_that_cannot_be_imported\n"
        "from totalsegmentator.python_api import totalsegmentator\n"
        "if __name__ == '__main__':\n"
        "    _skip_trainers_that_cannot_be_imported()\n"
        "    totalsegmentator('ct.nii.gz', 'out.nii.gz', ml=True, fast=True, device='cpu')\n"
    )
    variables = {
        "TOTALSEG_WEIGHTS_PATH": str(fast_weights),
        "TOTALSEG_HOME_DIR": str(tmp_path),
        "nnUNet_def_n_proc": "1",
    }
    (tmp_path / "config.json").write_text(
        '{"send_usage_stats": false, "statistics_disclaimer_shown": true, "prediction_counter": 0}'
    )
    command = [sys.executable, script.name]
    subprocess.run(
        command, cwd=tmp_path, env=child_environment() | variables, check=True, capture_output=True
    )
    plain = read_label_map(tmp_path / "out.nii.gz")
    labels = child.label(Volume(blocks(SHAPE), AFFINE), "case")
    np.testing.assert_array_equal(labels.array, plain.array)


@pytest.mark.slow
def test_a_ct_that_the_package_fails_on_is_refused_and_the_next_one_labelled(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = Volume(blocks(SHAPE), AFFINE)
    with monkeypatch.context() as patch:
        patch.setattr(backend, "write_volume", lambda path, _: path.write_bytes(b"no CT at all"))
        with pytest.raises(ReadError, match="TotalSegmentator fails on it") as caught:
            child.label(volume, "case")
    assert caught.value.reason == "backend_failed"
    assert child.label(volume, "case").array.any()


@pytest.mark.slow
def test_airways_and_vessels_come_from_one_run_and_a_dead_child_is_named(
    stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.data.labels.pseudo.totalsegmentator_models import write_models

    write_models(tmp_path / "weights", "lung_vessels", fast=False)
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "weights"))
    monkeypatch.setenv("UVLM_DEVICE", "cpu")
    stages.index()
    cases = read_index(stages.manifest("index"))
    write_index(stages.manifest("index"), cases[:2])
    children: list[Child] = []

    class Watched(Child):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            children.append(self)

    monkeypatch.setattr(backend, "Child", Watched)
    for kind in ("airway", "vessel"):
        use(stages, kind)
        assert stages.pseudo_label(kind) == {"kept": 2}
    assert len(children) == 1
    airway, vessel = (read_manifest(stages.manifest(kind)) for kind in ("airway", "vessel"))
    assert [row.path for row in airway] == [row.path for row in vessel]
    for row in airway:
        assert row.extra["licence"] == "Apache-2.0"
        assert row.extra["options"] == {"task": "lung_vessels", "fast": False}
        ids = np.unique(load_array(resolve(row, "pseudo_label@airway"), row.sha256))
        assert set(ids) <= {0, 1, 2, 3, 4}
        assert len(ids) > 1
    children[0]._process.kill()
    with pytest.raises(SetupError, match=r"has ended with -9 \(killed"):
        children[0].label(Volume(blocks(SHAPE), AFFINE), "case")
    children[0].close()


@pytest.mark.slow
def test_the_child_ends_and_sweeps_up_when_its_worker_is_killed(fast_weights: Path) -> None:
    code = (
        "import time\n"
        "from uvlm.data.labels.pseudo.totalsegmentator import Child\n"
        "child = Child('total', fast=True)\n"
        "print(child._process.pid, child._folder, flush=True)\n"
        "time.sleep(600)\n"
    )
    variables = {"TOTALSEG_WEIGHTS_PATH": str(fast_weights), "UVLM_DEVICE": "cpu"}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=os.environ | variables, text=True
    ) as worker:
        assert worker.stdout is not None
        pid, folder = worker.stdout.readline().split()
        assert Path(folder, "config.json").is_file()
        assert json.loads(Path(folder, "config.json").read_text())["send_usage_stats"] is False
        worker.kill()
    give_up = time.monotonic() + 60
    while is_running(int(pid)) or Path(folder).exists():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie; its parent here is not the test."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

"""Two processes train what one with twice the accumulation does: the stage scripts, as users start
them, under torchrun, srun's variables and UVLM_DEVICES."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.profiles import write_params
from tests.train import uneven
from tests.train.chain import Chain, changed
from uvlm.config import Params
from uvlm.tracking import read_history

pytestmark = [pytest.mark.slow]

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ATOL = 1e-5


class Workspace:
    """A project folder in which stage scripts run as they do for a user."""

    def __init__(self, chain: Chain, root: Path) -> None:
        self.chain, self.root = chain, root
        self.folder = chain.project.root
        shutil.copy(root / "dvc.yaml", self.folder)
        self.write(chain.params)

    def write(self, params: Params) -> None:
        """Write params.yaml."""
        write_params(self.folder, params.model_dump(mode="json"))

    def start(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        """Start a command of a user."""
        environment = {**os.environ, "PYTHONPATH": str(self.root), **variables}
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, stderr=subprocess.PIPE, text=True
        )

    def run(self, *command: str, **variables: str) -> str:
        """Run a command to its good end; what it said on stderr."""
        return finished(self.start(*command, **variables))

    def step(self, stage: str) -> int:
        """The last step that is in the log."""
        paths = (self.folder / ".uvlm" / "runs").glob(f"{stage}-*/history.jsonl")
        steps = [r["step"] for path in paths for r in read_history(path) if "step" in r]
        return max(steps, default=0)


def finished(process: subprocess.Popen[str], code: int = 0) -> str:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == code, errors
    return errors


@pytest.fixture
def workspace(chain: Chain, root: Path) -> Workspace:
    return Workspace(chain, root)


def assert_close(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    apart = {name: _apart(name, one[name] - other[name]) for name in one}
    assert {name: value for name, value in apart.items() if value > ATOL} == {}


def _apart(name: str, difference: torch.Tensor) -> float:
    """The largest difference; of an attention's biases all but those of its keys.

    A key's bias adds the same to all scores of a query, which softmax ignores: its gradient is the
    rounding error that Adam, in the warm-up of the head, makes whole steps of.
    """
    if name.endswith("in_proj_bias"):
        query, _, value = difference.chunk(3)
        difference = torch.cat([query, value])
    return float(difference.abs().max())


def plain(params: Params, stage: str, **changes: Any) -> Params:
    """A few steps of SGD, which the paper uses.

    Adam makes a full step of the rounding error of a gradient that is zero by nature, such as that
    of a bias before a norm; which of two such errors came out is not what is tested here.
    """
    optim = getattr(params, stage).optim.model_copy(update={"optimizer": "sgd", "lr": 0.05})
    steps = {"steps": 6, "val_every": 6, "log_every": 1, "checkpoint_minutes": 0.002}
    return changed(params, stage, optim=optim, **(steps | changes))


def prepare(chain: Chain, stage: str) -> None:
    """Run what comes before."""
    if stage != "train_seg":
        chain.seg(steps=0)
    if stage == "train_report":
        chain.cls(steps=0)
        chain.encode()


def train_alone(chain: Chain, stage: str) -> dict[str, torch.Tensor]:
    """The weights of one process with twice the accumulation, in this process."""
    double = 2 * getattr(chain.params, stage).accumulate
    name = stage.removeprefix("train_")
    getattr(chain, name)(accumulate=double)
    return taken(chain, name)


def taken(chain: Chain, name: str) -> dict[str, torch.Tensor]:
    """Weights of the folder that a stage wrote, which is taken away."""
    folder = chain.models / name
    tensors = {
        f"{path.stem}.{key}": value
        for path in sorted(folder.glob("*.safetensors"))
        for key, value in load_file(path).items()
    }
    shutil.rmtree(folder)
    return tensors


STAGES = ["train_seg", "train_cls", "train_report"]


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_of_torchrun_train_what_one_does(workspace: Workspace, stage: str) -> None:
    chain = workspace.chain
    chain.params = plain(chain.params, stage, accumulate=2)
    prepare(chain, stage)
    alone = train_alone(chain, stage)
    workspace.write(chain.params)
    workspace.run(*TORCHRUN, "-m", f"pipeline.{stage}")
    assert_close(alone, taken(chain, stage.removeprefix("train_")))
    (record,) = (workspace.folder / ".uvlm" / "runs").iterdir()
    logged = [r for r in read_history(record / "history.jsonl") if "loss" in r.get("metrics", {})]
    assert [r["step"] for r in logged] == [1, 2, 3, 4, 5, 6]  # by one of them


def test_batches_of_different_sizes_count_as_they_do_in_one_process(
    workspace: Workspace, tmp_path: Path
) -> None:
    alone = uneven.train(workspace.chain.params, accumulate=4)
    workspace.run(*TORCHRUN, "-m", "tests.train.uneven", str(tmp_path), "2")
    assert alone.keys() == {"seg", "cls", "report"}
    for name, weights in alone.items():
        assert_close(weights, load_file(tmp_path / f"{name}.safetensors"))


LONG = 80  # steps, so many that a busy computer still catches the training in the middle


def stop_in_the_middle(
    workspace: Workspace, stage: str, number: int, *command: str, **variables: str
) -> str:
    """Send a signal after a few steps; what was said, with the exit code in front."""
    process = workspace.start(*command, **variables)
    while workspace.step(stage) < 3:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    return f"{process.returncode} {errors}"


def stopped_step(said: str) -> int:
    steps = set(re.findall(rf"after step (\d+) of {LONG}", said))
    assert len(steps) == 1, said
    return int(steps.pop())


def test_torchrun_passes_sigterm_on_and_the_same_command_continues(workspace: Workspace) -> None:
    chain = workspace.chain
    workspace.write(plain(chain.params, "train_seg", steps=LONG, val_every=LONG))
    command = [*TORCHRUN, "-m", "pipeline.train_seg"]
    said = stop_in_the_middle(workspace, "train_seg", signal.SIGTERM, *command)
    assert 3 <= stopped_step(said) < LONG
    assert "run the same command to continue" in said
    assert not (chain.models / "seg").exists()
    workspace.run(*command)
    continued = taken(chain, "seg")
    (record,) = (workspace.folder / ".uvlm" / "runs").iterdir()
    steps = [r["step"] for r in read_history(record / "history.jsonl") if "step" in r]
    assert sorted(set(steps)) == list(range(1, LONG + 1))
    workspace.run(*command)
    whole = taken(chain, "seg")
    assert all(torch.equal(whole[name], continued[name]) for name in whole)


def test_uvlm_devices_starts_two_processes_that_stop_together_with_code_5(
    workspace: Workspace,
) -> None:
    chain = workspace.chain
    chain.params = plain(chain.params, "train_seg", steps=LONG, val_every=LONG)
    alone = train_alone(chain, "train_seg")
    workspace.write(chain.params)
    command = [sys.executable, "-m", "pipeline.train_seg"]
    said = stop_in_the_middle(workspace, "train_seg", signal.SIGUSR1, *command, UVLM_DEVICES="2")
    assert said.startswith("5 ")
    assert said.count("run the same command to continue") == 1
    assert 3 <= stopped_step(said) < LONG
    workspace.run(*command, UVLM_DEVICES="2")
    assert_close(alone, taken(chain, "seg"))


def test_srun_starts_processes_that_find_each_other(workspace: Workspace) -> None:
    chain = workspace.chain
    chain.params = plain(chain.params, "train_seg")
    alone = train_alone(chain, "train_seg")
    workspace.write(chain.params)
    shared = {
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NAME": "train",
    }
    both = [
        workspace.start(
            sys.executable, "-m", "pipeline.train_seg",
            **shared, SLURM_PROCID=rank, SLURM_LOCALID=rank,
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    for process in both:
        finished(process)
    assert_close(alone, taken(chain, "seg"))


def test_a_loss_that_is_not_finite_on_one_process_stops_both_and_is_kept_once(
    workspace: Workspace,
) -> None:
    chain = workspace.chain
    params = plain(chain.params, "train_seg", steps=LONG)
    broken = params.train_seg.optim.model_copy(update={"lr": 1e30, "clip_norm": 1e30})
    workspace.write(changed(params, "train_seg", optim=broken))
    command = [sys.executable, "-m", "pipeline.train_seg"]
    said = finished(workspace.start(*command, UVLM_DEVICES="2"), code=70)
    assert "lower the learning rate" in said
    assert "Traceback" not in said
    (path,) = (workspace.folder / ".uvlm" / "state").rglob("bad_batch.json")
    document = json.loads(path.read_text())
    numbers = [b["number"] for b in document["batches"]]
    step = document["step"]
    assert set(numbers) <= {2 * step, 2 * step + 1}
    kept = load_file(path.with_suffix(".safetensors"))
    assert {name.partition(".")[0] for name in kept} == {str(number) for number in numbers}

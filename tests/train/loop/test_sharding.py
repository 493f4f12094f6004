"""FSDP2 over two processes trains Qwen3 whole as one process does, and writes the same files."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tests.tiny_qwen import SIZES, write_qwen
from tests.train.chain import Chain, changed
from tests.train.loop.test_processes import (
    TORCHRUN,
    Workspace,
    assert_close,
    plain,
    prepare,
    stop_in_the_middle,
    taken,
)
from uvlm.config import TokenizerConfig
from uvlm.text.tokenizer import run as run_tokenizer
from uvlm.tracking import read_history

pytestmark = pytest.mark.slow
# Few: two processes that wait for each other's parts are slow, so a signal finds the third step.
STEPS = 40


@pytest.fixture
def workspace(
    chain: Chain, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    monkeypatch.setenv("UVLM_QWEN3", str(write_qwen(tmp_path / "qwen")))
    run_tokenizer(TokenizerConfig(kind="qwen3", vocabulary_size=400), [], chain.project.tokenizer)
    params = changed(chain.params, "tokenizer", kind="qwen3")
    params = changed(params, "decoder", kind="qwen3_full", **SIZES)
    chain.params = plain(params, "train_report", val_every=3)
    prepare(chain, "train_report")
    return Workspace(chain, root)


def losses(folder: Path) -> dict[str, float]:
    """Losses by step, in training and in validation, of the only run; it is then forgotten."""
    (path,) = folder.glob(".uvlm/runs/train_report-*/history.jsonl")
    rows = [row for row in read_history(path) if "metrics" in row]
    shutil.rmtree(folder / ".uvlm")
    return {
        f"{name} {row['step']}": row["metrics"][name]
        for row in rows
        for name in ("loss", "val_loss")
        if name in row["metrics"]
    }


def test_fsdp2_trains_qwen3_as_one_process_does(workspace: Workspace) -> None:
    chain = workspace.chain
    chain.params = changed(chain.params, "train_report", accumulate=4)
    workspace.write(chain.params)
    workspace.run(sys.executable, "-m", "pipeline.train_report")
    alone, its_losses = taken(chain, "report"), losses(workspace.folder)
    chain.params = changed(chain.params, "train_report", accumulate=2)
    workspace.write(chain.params)
    workspace.run(*TORCHRUN, "-m", "pipeline.train_report", UVLM_STRATEGY="fsdp2")
    files = sorted(path.name for path in (chain.models / "report").glob("*.safetensors"))
    assert files == [f"{name}.safetensors" for name in ("classifier", "decoder", "encoder", "unet")]
    sharded = taken(chain, "report")
    assert losses(workspace.folder) == pytest.approx(its_losses, abs=1e-5)
    assert {"loss 6", "val_loss 3", "val_loss 6"} <= its_losses.keys()
    assert_close(alone, sharded)


def test_a_sharded_training_is_stopped_and_continues_to_the_same_bits(
    workspace: Workspace,
) -> None:
    chain = workspace.chain
    chain.params = plain(
        chain.params, "train_report", steps=STEPS, val_every=STEPS, checkpoint_minutes=0.05
    )
    workspace.write(chain.params)
    command = [sys.executable, "-m", "pipeline.train_report"]
    variables = {"UVLM_DEVICES": "2", "UVLM_STRATEGY": "fsdp2"}
    workspace.run(*command, **variables)
    whole = taken(chain, "report")
    shutil.rmtree(workspace.folder / ".uvlm")
    said = stop_in_the_middle(workspace, "train_report", signal.SIGTERM, *command, **variables)
    assert said.startswith("5 ")
    (state,) = (workspace.folder / ".uvlm" / "state").rglob("state.safetensors")
    with safe_open(state, framework="pt") as file:  # one file, whole tensors
        embeddings = file.get_slice("model.uvlm.decoder.model.model.embed_tokens.weight")
        assert embeddings.get_shape()[1] == chain.params.decoder.width
    workspace.run(*command, **variables)
    continued = taken(chain, "report")
    assert all(torch.equal(whole[name], continued[name]) for name in whole)

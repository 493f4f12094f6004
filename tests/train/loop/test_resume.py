from __future__ import annotations

import shutil
from contextlib import suppress

import pytest
import torch
from torch import nn

from uvlm.config import OptimConfig
from uvlm.errors import DataError, SetupError
from uvlm.train.loop.optim import build_optimizer
from uvlm.train.loop.resume import Best, ResumeFolder


def save(
    state: ResumeFolder,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    best: Best | None,
) -> None:
    snapshot = state.snapshot(model, optimizer, step, best)
    assert snapshot is not None
    state.write(snapshot)


def test_what_another_training_left_is_named_with_what_differs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())

    def start(fingerprint: str) -> str:
        with suppress(KeyboardInterrupt), ResumeFolder("train_x", fingerprint) as state:
            save(state, model, optimizer, 3, None)
            raise KeyboardInterrupt
        return capsys.readouterr().err

    assert start("11-c0-p0-i0") == ""
    assert start("11-c0-p0-i0") == ""
    told = start("22-c1-p0-i0")
    assert "train_x-11-c0-p0-i0 holds an unfinished one with other code; delete it" in told
    assert told.startswith("train_x: starts at step 0; ")
    assert told.count("\n") == 1
    shutil.rmtree(ResumeFolder("train_x", "22-c1-p0-i0").folder)
    assert "with other parameters and inputs; " in start("33-c0-p1-i1")
    assert "with other code, parameters or inputs; " in start("0123456789abcdef")
    assert start("33-c0-p1-i1") == ""


def test_a_damaged_state_is_refused_with_a_remedy() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    with ResumeFolder("s", "x") as state:
        save(state, model, optimizer, 3, None)
        state.path.write_bytes(state.path.read_bytes()[:-7])
        with pytest.raises(DataError, match="damaged training state"):
            state.load(model, optimizer)


def test_what_is_saved_comes_back() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    best = Best(1, 0.25, {"val": 0.25}, {"weight": torch.arange(4.0)})
    fresh = nn.Linear(2, 2)
    other = torch.optim.AdamW(fresh.parameters())
    with ResumeFolder("s", "x") as state:
        assert state.load(fresh, other) == (0, None, True)
        save(state, model, optimizer, 3, best)
        step, found, _ = state.load(fresh, other)
    assert step == 3
    assert found is not None
    assert (found.step, found.score, found.metrics) == (1, 0.25, {"val": 0.25})
    assert torch.equal(found.weights["weight"], torch.arange(4.0))
    assert torch.equal(fresh.weight, model.weight)
    assert torch.equal(
        other.state[fresh.weight]["exp_avg"], optimizer.state[model.weight]["exp_avg"]
    )


def test_the_moments_of_an_adapter_come_back_though_most_weights_are_frozen() -> None:
    """LoRA: the optimiser counts only what trains, and a state holds only the adapter."""
    from peft import LoraConfig, inject_adapter_in_model

    def adapted(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        base = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
        base.requires_grad_(False)
        lora = LoraConfig(r=2, lora_alpha=4, target_modules=["0", "2"])
        model = inject_adapter_in_model(lora, base)
        optim = OptimConfig(
            optimizer="adamw", lr=0.1, momentum=0, weight_decay=0.1, warmup_steps=0,
            schedule="constant", clip_norm=1.0,
        )  # fmt: skip
        return model, build_optimizer(model, optim)

    def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        for _ in range(steps):
            model(torch.ones(3, 4)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    whole, whole_optimizer = adapted(0)
    train(whole, whole_optimizer, 6)
    first, first_optimizer = adapted(0)
    train(first, first_optimizer, 3)
    second, second_optimizer = adapted(1)
    with ResumeFolder("s", "lora") as state:
        save(state, first, first_optimizer, 3, None)
        assert state.load(second, second_optimizer) == (3, None, True)
    train(second, second_optimizer, 3)
    for (name, expected), found in zip(whole.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(expected, found), name


def test_another_number_of_processes_does_not_go_on_unasked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    with ResumeFolder("s", "x") as state:
        save(state, model, optimizer, 3, None)
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(SetupError, match="1 processes saved it and 2 would go on"):
            state.load(model, optimizer)

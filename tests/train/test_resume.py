from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from uvlm.config import Params
from uvlm.errors import DataError
from uvlm.train.resume import Best, ResumeFolder, fingerprint


@pytest.fixture
def inputs(tmp_path: Path) -> list[Path]:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1")
    (tmp_path / "index.jsonl").write_text("a")
    return [tmp_path / "index.jsonl", tmp_path / "model"]


def test_fingerprint_follows_the_sections_read_the_seed_and_every_input_file(
    params: Params, inputs: list[Path]
) -> None:
    def digest(changed: Params) -> str:
        return fingerprint("train_cls", changed, {"train_cls"}, inputs)

    first = digest(params)
    assert digest(params) == first
    other_stage = params.train_seg.model_copy(update={"steps": 77})
    assert digest(params.model_copy(update={"train_seg": other_stage})) == first
    own = params.train_cls.model_copy(update={"steps": 77})
    assert digest(params.model_copy(update={"train_cls": own})) != first
    assert digest(params.model_copy(update={"seed": 77})) != first
    (inputs[1] / "weights").write_text("2")
    assert digest(params) != first


def test_a_damaged_state_is_refused_with_a_remedy() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    with ResumeFolder("s", "x") as state:
        state.save(model, optimizer, 3, None)
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
        assert state.load(fresh, other) == (0, None)
        state.save(model, optimizer, 3, best)
        step, found = state.load(fresh, other)
    assert step == 3
    assert found is not None
    assert (found.step, found.score, found.metrics) == (1, 0.25, {"val": 0.25})
    assert torch.equal(found.weights["weight"], torch.arange(4.0))
    assert torch.equal(fresh.weight, model.weight)
    assert torch.equal(
        other.state[fresh.weight]["exp_avg"], optimizer.state[model.weight]["exp_avg"]
    )

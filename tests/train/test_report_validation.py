"""Validation of stage 3: no larger than a training step, and short while the decoder is young."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from tests.train.chain import Chain, changed
from uvlm.model.decoder import LanguageDecoder


@contextmanager
def inputs_of(kind: type[nn.Module]) -> Iterator[list[tuple[bool, tuple[int, ...]]]]:
    """Whether modules of a kind were training, and the shapes that they read."""
    seen: list[tuple[bool, tuple[int, ...]]] = []

    def note(module: nn.Module, inputs: Any) -> None:
        if isinstance(module, kind):
            seen.append((module.training, tuple(inputs[0].shape)))

    handle = register_module_forward_pre_hook(note)
    yield seen
    handle.remove()


@pytest.fixture
def encoded(chain: Chain) -> Chain:
    chain.seg(steps=0)
    chain.cls(steps=0)
    chain.encode()
    return chain


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 3])
def test_no_more_volumes_are_encoded_at_once_than_in_a_training_step(
    encoded: Chain, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"steps": 1, "encoder_lr_scale": 0.1, "val_cases": 4, "accumulate": 1}
    with inputs_of(ResidualEncoder) as seen:
        numbers = encoded.report(batch_size=batch_size, **changes)
    sizes = {training: [s[0] for t, s in seen if t == training] for training in (True, False)}
    assert sizes[True] == [batch_size]
    assert sizes[False] == ([3, 1] if batch_size == 3 else [1, 1, 1, 1])
    at_once = encoded.report(batch_size=4, **changes | {"optim": still(encoded)})
    monkeypatch.setenv("UVLM_LOADERS", "2")  # read ahead, while a thread saves
    apart = encoded.report(batch_size=batch_size, **changes | {"optim": still(encoded)})
    assert apart["val_loss"] == pytest.approx(at_once["val_loss"], rel=1e-4)
    assert numbers["val_macro_f1"] <= 1


def still(chain: Chain) -> Any:
    """An optimiser that moves nothing."""
    return chain.params.train_report.optim.model_copy(update={"lr": 1e-12, "weight_decay": 0.0})


@pytest.mark.parametrize("limit", [40, 300])
def test_an_untrained_decoder_does_not_write_to_the_limit(encoded: Chain, limit: int) -> None:
    encoded.params = changed(encoded.params, "decoder", max_report_tokens=limit)
    with inputs_of(LanguageDecoder) as seen:
        encoded.report(steps=1, val_cases=4)
    written = [shape for training, shape in seen if not training and shape[1] == 1]
    assert 1 <= len(written) < 40

from __future__ import annotations

import math

import pytest

from uvlm.config import OptimConfig
from uvlm.train.loop.optim import lr_factor

CONFIG = OptimConfig(
    optimizer="adamw",
    lr=0.1,
    momentum=0.9,
    weight_decay=0.0,
    warmup_steps=4,
    schedule="cosine",
    clip_norm=1.0,
)


def with_schedule(name: str) -> OptimConfig:
    return CONFIG.model_copy(update={"schedule": name})


def test_warm_up_rises_in_equal_parts_to_one() -> None:
    assert [lr_factor(step, 20, CONFIG) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_cosine_is_half_in_the_middle_and_nearly_zero_at_the_end() -> None:
    assert lr_factor(12, 20, CONFIG) == pytest.approx(0.5)
    assert lr_factor(19, 20, CONFIG) == pytest.approx((1 + math.cos(math.pi * 15 / 16)) / 2)


def test_poly_is_the_published_power_of_what_is_left() -> None:
    assert lr_factor(12, 20, with_schedule("poly")) == pytest.approx(0.5**0.9)


@pytest.mark.parametrize("name", ["cosine", "poly", "constant"])
def test_no_schedule_rises_after_warm_up_or_leaves_zero_to_one(name: str) -> None:
    factors = [lr_factor(step, 20, with_schedule(name)) for step in range(4, 20)]
    assert factors == sorted(factors, reverse=True)
    assert all(0 < factor <= 1 for factor in factors)


def test_without_warm_up_the_first_step_has_the_full_rate() -> None:
    config = CONFIG.model_copy(update={"warmup_steps": 0})
    assert lr_factor(0, 20, config) == 1.0


def test_a_run_shorter_than_its_warm_up_stays_in_it() -> None:
    assert [lr_factor(step, 2, CONFIG) for step in range(2)] == [0.25, 0.5]

"""Deciding words in stage 3: weighed in training reports alone, and in no others."""

from __future__ import annotations

import pytest

from tests.train.chain import Chain
from uvlm.data.cases import read_index
from uvlm.errors import ConfigError


@pytest.fixture
def encoded(chain: Chain) -> Chain:
    chain.seg(steps=0)
    chain.cls(steps=0)
    chain.encode()
    return chain


@pytest.mark.slow
def test_a_weight_of_one_is_no_weight_to_the_bit(encoded: Chain) -> None:
    encoded.report()
    plain = encoded.bytes_of("report/decoder")
    encoded.decide = lambda text: [(0, len(text) // 3)]
    encoded.report(deciding_weight=1.0)
    assert encoded.bytes_of("report/decoder") == plain
    encoded.report(deciding_weight=3.0)
    assert encoded.bytes_of("report/decoder") != plain


def test_only_training_reports_are_read(encoded: Chain) -> None:
    read: list[str] = []

    def decide(text: str) -> list[tuple[int, int]]:
        read.append(text)
        return [(0, 3)]

    encoded.decide = decide
    encoded.report(deciding_weight=2.0)
    cases = read_index(encoded.project.index)
    assert sorted(read) == sorted(c.report.text for c in cases if c.split == "train")


def test_weighed_words_have_to_be_found_by_something(encoded: Chain) -> None:
    with pytest.raises(ConfigError, match=r"train_report\.deciding_weight"):
        encoded.report(deciding_weight=2.0)

"""The one loader: order, laziness, errors, a killed process; with processes and without."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch

from uvlm.errors import DataError, SetupError
from uvlm.read_ahead import read_ahead

CPU = torch.device("cpu")


def squares(number: int) -> npt.NDArray[np.int64]:
    return np.array([number, number**2])


@pytest.mark.parametrize("loaders", [0, 1, 2])
def test_results_arrive_in_order_as_tensors(loaders: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVLM_LOADERS", str(loaders))
    found = list(read_ahead(squares, range(9, 0, -2), CPU))
    assert [row.tolist() for row in found] == [[9, 81], [7, 49], [5, 25], [3, 9], [1, 1]]


@pytest.mark.parametrize("loaders", [0, 2])
def test_items_are_drawn_no_further_than_they_are_read(
    loaders: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVLM_LOADERS", str(loaders))
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            drawn.append(number)
            yield number

    ahead = read_ahead(squares, items(), CPU)
    assert not drawn
    next(ahead)
    assert 1 <= len(drawn) <= 1 + 2 * 2


@pytest.mark.parametrize("loaders", [0, 1])
def test_a_refused_file_is_the_same_error_from_a_process(
    loaders: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVLM_LOADERS", str(loaders))

    def read(number: int) -> int:
        if number == 2:
            raise DataError("ct.b2nd", "its content is not abc", "delete it")
        return number

    ahead = read_ahead(read, range(5), CPU)
    assert [next(ahead), next(ahead)] == [0, 1]
    with pytest.raises(DataError) as caught:
        next(ahead)
    assert str(caught.value) == "ct.b2nd: its content is not abc; delete it"


def test_a_killed_process_is_a_setup_error_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UVLM_LOADERS", "2")

    def read(number: int) -> int:
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(SetupError) as caught:
        list(read_ahead(read, range(6), CPU))
    assert str(caught.value).startswith("UVLM_LOADERS: one of 2 processes that read ahead was")
    assert caught.value.exit_code == 4


@pytest.mark.slow
def test_a_bug_stays_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVLM_LOADERS", "1")
    with pytest.raises(ZeroDivisionError):
        list(read_ahead(lambda number: 1 // number, [0], CPU))

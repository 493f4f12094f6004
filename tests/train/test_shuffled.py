"""Negative controls: what another patient's label or report does, and that nothing else changes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train.chain import Chain
from uvlm.data.cases import Case, read_index, write_index
from uvlm.data.examples import of_other_patients
from uvlm.errors import DataError


def case(number: int, patient: str) -> Case:
    flags = (number % 2, 0)
    name = f"case_{number}"
    return Case(name, name, patient, "train", "", None, {}, flags, f"text {number}", "")


@given(
    st.lists(st.sampled_from("abcdefg"), min_size=2, max_size=30).filter(lambda p: len(set(p)) > 1),
    st.integers(0, 9),
)
def test_every_case_gets_one_of_the_same_other_patient(patients: list[str], seed: int) -> None:
    cases = [case(number, patient) for number, patient in enumerate(patients)]
    given_cases = of_other_patients(cases, seed)
    assert given_cases == of_other_patients(cases, seed)
    giver: dict[str, str] = {}
    for own, other in zip(cases, given_cases, strict=True):
        assert own.patient_id != other.patient_id
        assert giver.setdefault(own.patient_id, other.patient_id) == other.patient_id
    assert set(giver.values()) == set(patients)  # each patient gives once
    if len(set(patients)) == len(patients):
        assert Counter(c.case_id for c in given_cases) == Counter(c.case_id for c in cases)


def test_another_seed_is_another_order() -> None:
    cases = [case(number, str(number)) for number in range(20)]
    orders = {tuple(c.case_id for c in of_other_patients(cases, seed)) for seed in range(5)}
    assert len(orders) == 5


def test_one_patient_has_nobody_to_exchange_with() -> None:
    with pytest.raises(DataError, match="one patient"):
        of_other_patients([case(0, "a"), case(1, "a")], 0)


def exchange(index: Path, names: tuple[str, ...]) -> None:
    """Write into the index itself what the control gives a case of training and validation."""
    cases = read_index(index)
    changed = {c.case_id: c for c in cases}
    for split in ("train", "val"):
        own = [c for c in cases if c.split == split]
        for one, other in zip(own, of_other_patients(own, 0), strict=True):
            values: dict[str, Any] = {name: getattr(other, name) for name in names}
            changed[one.case_id] = replace(one, **values)
    write_index(index, changed.values())


@pytest.mark.slow
def test_shuffled_labels_train_as_an_index_that_has_them_exchanged(chain: Chain) -> None:
    chain.seg(steps=0)
    plain = chain.cls()
    before = chain.bytes_of("cls/encoder"), chain.bytes_of("cls/classifier")
    shuffled = chain.cls(shuffle_labels=True)
    found = chain.bytes_of("cls/encoder"), chain.bytes_of("cls/classifier")
    assert found != before
    exchange(chain.project.index, ("abnormalities",))
    assert chain.cls() == shuffled != plain
    assert (chain.bytes_of("cls/encoder"), chain.bytes_of("cls/classifier")) == found


@pytest.mark.slow
def test_shuffled_reports_train_as_an_index_that_has_them_exchanged(chain: Chain) -> None:
    chain.seg(steps=0)
    chain.cls(steps=0)
    chain.encode()
    plain = chain.report()
    before = chain.bytes_of("report/decoder")
    shuffled = chain.report(shuffle_reports=True)
    found = chain.bytes_of("report/decoder")
    assert found != before
    exchange(chain.project.index, ("abnormalities", "findings", "impression"))
    assert chain.report() == shuffled != plain
    assert chain.bytes_of("report/decoder") == found

"""Records of arms come back as they were written, and damaged ones are refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from uvlm.arm_record import (
    ArmRecord,
    CaseResult,
    digits,
    load_record,
    load_records,
    record_path,
    write_record,
)
from uvlm.errors import DataError

NAMES = ("Emphysema", "Nodule", "Atelectasis")


def record(seed: int = 0, **changes: object) -> ArmRecord:
    cases = (
        CaseResult(case_id="a_1", patient_id="a", labels="010", read="010", claimed="011"),
        CaseResult(case_id="b_1", patient_id="b", labels="000", probabilities=(0.0, 1.0, 0.123457)),
    )
    fields: dict[str, object] = {
        "table": "table4", "row": "2", "arm": "table4_02", "profile": "phantom", "seed": seed,
        "scored": "report", "key": "k", "params": {"seed": seed, "a": {"b": [1, 2.5, None]}},
        "code": {"train_cls": "c"}, "inputs": {"data/x": "s"}, "git": {"git.commit": "none"},
        "abnormalities": NAMES, "metrics": {"n": 2, "cls": {"macro_f1": 0.1}}, "cases": cases,
    }  # fmt: skip
    return ArmRecord.model_validate(fields | changes)


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    first, second = record(0), record(1)
    path = write_record(tmp_path, first)
    write_record(tmp_path, second)
    assert path == record_path(tmp_path, "phantom", "table4_02", 0)
    assert load_record(path) == first
    assert (
        list(load_records(tmp_path)) == list(load_records(tmp_path, "phantom")) == [first, second]
    )
    assert list(load_records(tmp_path, "chest")) == []


def test_the_same_record_gives_the_same_bytes_and_each_case_a_line(tmp_path: Path) -> None:
    first = write_record(tmp_path / "a", record()).read_bytes()
    assert (
        first
        == write_record(
            tmp_path / "b", load_record(tmp_path / "a/phantom/table4_02-seed0.json")
        ).read_bytes()
    )
    lines = first.decode().splitlines()
    assert [sum(f'"case_id": "{case}"' in line for line in lines) for case in ("a_1", "b_1")] == [
        1,
        1,
    ]
    assert json.loads(first)["params"] == {"seed": 0, "a": {"b": [1, 2.5, None]}}


@settings(deadline=None)  # the first call may load files
@given(st.lists(st.booleans()))
def test_digits_are_the_flags_in_their_order(flags: list[bool]) -> None:
    assert [digit == "1" for digit in digits(flags)] == flags


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda text: text[:-20], "not readable"),
        (
            lambda text: text.replace('"version": 1', '"version": 2'),
            "use the release that wrote it",
        ),
        (lambda text: text.replace('"version": 1', '"version": "a"'), "version a"),
        (lambda text: text.replace('"labels": "010"', '"labels": "01"'), "a_1 has not 3 flags"),
        (lambda text: text.replace('"labels": "010"', '"labels": "01x"'), "labels"),
        (lambda text: text.replace("0.123457", "1.2"), "probabilities"),
        (lambda text: text.replace('"b_1"', '"a_1"'), "a case occurs twice"),
        (lambda text: text.replace('"row"', '"rows"'), "row"),
        (lambda text: "[]", "not readable"),
    ],
)
def test_a_damaged_record_is_one_line(tmp_path: Path, broken: object, said: str) -> None:
    path = write_record(tmp_path, record())
    assert callable(broken)
    path.write_text(broken(path.read_text()))
    with pytest.raises(DataError, match=said) as error:
        load_record(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ValidationError):
        CaseResult(case_id="a", patient_id="a", labels="1", probabilities=(float("nan"),))

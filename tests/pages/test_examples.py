from __future__ import annotations

import pytest

from uvlm.data.cases import Case
from uvlm.errors import DataError
from uvlm.pages.examples import Example, choose_examples
from uvlm.text.claims import CaseClaims, Phrases


def case(number: int) -> Case:
    name = f"scan_{number:02d}"
    return Case(name, name, name, "test", "v", None, {}, (0,) * 18, "Lungs.", "")


def chosen(claims: list[CaseClaims], count: int) -> list[Example]:
    cases = [case(number) for number in range(len(claims))]
    return choose_examples(cases, {}, {c.case_id: c for c in claims}, Phrases(), count)


def ten_to(total: int) -> list[CaseClaims]:
    """Scan n finds n of 9 abnormalities and invents none."""
    names = tuple("abcdefghi")
    return [CaseClaims(f"scan_{n:02d}", names, names, names[:n]) for n in range(total)]


def test_of_many_scans_the_quantiles_are_shown_from_good_to_bad() -> None:
    examples = chosen(ten_to(10), 3)
    assert [e.case_id for e in examples] == ["scan_08", "scan_04", "scan_01"]
    places = ["90th percentile of agreement", "median of agreement", "10th percentile of agreement"]
    assert [e.place for e in examples] == places


@pytest.mark.parametrize("total", range(1, 10))
def test_of_few_scans_none_is_shown_twice(total: int) -> None:
    ids = [example.case_id for example in chosen(ten_to(total), 6)]
    assert ids == sorted(set(ids), reverse=True)
    assert len(ids) == total if total <= 6 else len(ids) >= 4


def test_labels_decide_what_is_found_and_not_what_is_read_in_the_reference() -> None:
    (example,) = chosen([CaseClaims("scan_00", ("a", "b"), ("b", "c"), ("a", "d"))], 1)
    assert (example.found, example.missed, example.invented) == (("a",), ("b",), ("d",))
    assert (example.unread, example.unlabelled) == (("a",), ("c",))
    assert example.verdict == "F1 of this case 0.50"


def test_a_missing_report_is_the_worst_even_where_nothing_was_to_be_found() -> None:
    silent = CaseClaims("scan_00", (), (), None)
    wrong = CaseClaims("scan_01", ("a",), ("a",), ("b",))
    right = CaseClaims("scan_02", (), (), ())
    examples = chosen([silent, wrong, right], 3)
    assert [e.case_id for e in examples] == ["scan_02", "scan_01", "scan_00"]
    assert examples[-1].verdict == "no report, which counts as wrong in every class"


def test_claims_of_another_run_are_refused() -> None:
    with pytest.raises(DataError, match="no claims of 1 test scans, first scan_01"):
        choose_examples([case(0), case(1)], {}, {"scan_00": ten_to(1)[0]}, Phrases(), 1)

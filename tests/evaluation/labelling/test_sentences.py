"""Sentences, the notation of the patterns, and what is left of a sentence without its denials."""

from __future__ import annotations

import pytest

from uvlm.evaluation.labelling.notation import any_of, parse_condition
from uvlm.evaluation.labelling.rules import read_patterns
from uvlm.evaluation.labelling.sentences import split_sentences, unify_spelling


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("nodul*", "a nodule", True),
        ("nodul*", "micronodule", False),
        ("stent", "consistent", False),
        ("thick* ~2 pleura", "thickening of the pleura", True),
        ("thick* ~1 pleura", "thickening of the pleura", False),
        ("thick* ~3 pleura", "thickening, then the pleura", False),
        ("mass & lung", "in the lung a mass", True),
        ("mass & lung", "a mass", False),
        ("mass & !liver", "a mass in the lung", True),
        ("mass & !liver", "a mass in the liver", False),
        ("<organ> ~1 mass", "spleen mass", True),
        ("(left |right )*lung", "right lung", True),
        (r"\(node", "a (node", True),
    ],
)
def test_the_notation(pattern: str, text: str, expected: bool) -> None:
    terms = {"organ": "(liver|spleen)"}
    assert parse_condition(pattern, terms).holds(text) is expected


def test_alternatives_share_their_word_boundaries() -> None:
    assert any_of(["nodes?", "laps?"]).findall("lap nodes overlap snode") == ["lap", "nodes"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two; three! Four", ["one", "two", "three", "four"]),
        ("A 3.5 mm nodule on 28.03.2016.", ["a 3.5 mm nodule on 28.03.2016"]),
        ("Clear.Normal", ["clear", "normal"]),
        ("A lesion (cyst?, node?) here? Yes", ["a lesion (cyst?, node?) here", "yes"]),
        ('One " Two "" Three', ["one", "two", "three"]),
        ("broken\nin the line", ["broken in the line"]),
        ("Heading\nNext\n- item\n2. item", ["heading", "next", "- item", "2", "item"]),
        ("\u2022 One \u2022 Two", ["one", "two"]),
        ("ALL\nCAPITALS", ["all capitals"]),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    assert list(split_sentences(text)) == expected


def test_one_term_has_one_spelling() -> None:
    assert unify_spelling("ground glass, frosted glass, ground-glass") == ", ".join(
        ["ground-glass"] * 3
    )
    assert unify_spelling("isn't, cannot") == "is not, can not"


ASSERTED = {
    "no nodule": "",
    "no nodule was seen in the emphysematous lung": "emphysematous",
    "nodule was not observed": "",
    "mass, nodule or effusion were not detected": "",
    "nodules are seen and effusion was not observed": "nodules",
    "nodules are seen in the lung, mass and effusion were not observed": "nodules",
    "there is no mass, nodules are seen": "nodules",
    "no mass was seen, but there are nodules": "nodules",
    "no mass except for a nodule": "nodule",
    "no mass other than a nodule was seen": "nodule",
    "emphysema without nodules": "emphysema",
    "neither nodule nor mass": "",
    "not accompanied by effusion": "",
    "the lung is free of nodules": "",
    "a nodule which was seen before was not observed": "",
    "the nodule was seen before and is not observed now": "",
    "effusion: none": "",
    "pleural effusion: no": "",
    "lungs: no nodule": "",
    "lungs: nodule": "nodule",
    "effusion is absent": "",
    "no finding compatible with emphysema": "",
    "there aren't any nodules": "",
    "nodules, no significant change in size": "nodules",
    "nodules did not change": "nodules",
    "nodules not reaching pathological size": "nodules",
    "emphysema in both lungs, heart size is normal": "emphysema",
    "the effusion has completely resolved": "",
    "nodule cannot be excluded": "nodule",
    "effusion - no thickening was detected": "",
    "no new nodules, stable nodules in the lung": "stable nodules",
}
FINDINGS = ("nodule", "mass", "effusion", "emphysem")


@pytest.mark.parametrize(("sentence", "expected"), ASSERTED.items())
def test_what_a_sentence_asserts(sentence: str, expected: str) -> None:
    _, denials, _ = read_patterns()
    asserted = " ".join(denials.asserted(unify_spelling(sentence)))
    assert {f for f in FINDINGS if f in asserted} == {f for f in FINDINGS if f in expected}

"""Deciding words: those without which a sentence says something else."""

from __future__ import annotations

import re

import pytest

from uvlm.data.sets.phantom.reports import WORDINGS, PlantedFinding, fill_slots
from uvlm.evaluation.labeller import get_attribute_reader
from uvlm.text.deciding import DecidingWords

RULES, PHANTOM = (get_attribute_reader(name)[1] for name in ("rules", "phantom"))


def marked(text: str, find: DecidingWords) -> list[str]:
    return [text[start:end] for start, end in find(text)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("No hiatal hernia.", ["No"]),
        ("Emphysema in the left upper lobe.", ["Emphysema", "left", "upper"]),
        ("There is pericardial effusion.", ["There", "pericardial", "effusion"]),
        ("The bones are intact. Trachea is midline.", []),
        ("Findings: No emphysema.\nImpressions: Small left effusion.", None),
        ("", []),
        (" . ", []),
    ],
)
def test_words_by_hand(text: str, words: list[str] | None) -> None:
    found = marked(text, DecidingWords(RULES))
    if words is None:
        assert found[0] == "No"
        assert {"Small", "left", "effusion"} <= {*found}
        assert "Findings" not in found
    else:
        assert [word for word in found if word != "lobe"] == words


def test_every_word_without_which_the_rules_read_something_else_is_found() -> None:
    text = "Small effusion on the right. No nodule; emphysema, upper lobes, and cardiomegaly."
    found = {*DecidingWords(RULES)(text)}
    sentences = [(0, 28), (29, len(text))]
    for word in re.finditer(r"\w+", text):
        start, end = next((a, b) for a, b in sentences if a <= word.start() < b)
        without = text[start : word.start()] + text[word.end() : end]
        if RULES(without) != RULES(text[start:end]):
            assert word.span() in found, word.group()


def test_sides_and_lobes_of_every_phantom_sentence_decide() -> None:
    """Also of wordings that the rules do not know, as the exact reader does."""
    find = DecidingWords(RULES, PHANTOM)
    checked = 0
    for wording in WORDINGS:
        for template in wording.present:
            text = fill_slots(template, PlantedFinding(wording.abnormality, "left", "upper"))
            found = marked(text, find)
            assert found[0] == text.split()[0]
            if "{lung}" in template:
                assert {"left", "upper"} <= {*found}, text
                checked += 1
    assert checked >= 10

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uvlm.evaluation.labeller import get_phrases
from uvlm.evaluation.labelling.phrases import PhraseFinder
from uvlm.evaluation.labelling.rules import RulesLabeller
from uvlm.text.abnormalities import ABDOMEN_LESIONS, ABNORMALITIES

NAMES = ("nodule", "effusion", "emphysema")
RULES = get_phrases("rules")
Span = tuple[int, int, str]


def true_phrases(text: str) -> tuple[list[Span], list[Span]]:
    """Claimed and named: a word of NAMES is denied by any "no" before it in its sentence."""
    claimed, named = list[Span](), list[Span]()
    for sentence in re.finditer(r"[^.]+", text):
        denied = False
        for word in re.finditer(r"\w+", sentence[0]):
            start = sentence.start() + word.start()
            denied = denied or word[0] == "no"
            if word[0] in NAMES:
                (named if denied else claimed).append((start, start + len(word[0]), word[0]))
    return claimed, named


def label(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    found = [{name for _, _, name in true_phrases(text)[0]} for text in texts]
    return np.asarray([[name in row for name in NAMES] for row in found], np.int64).reshape(-1, 3)


words = st.sampled_from([*NAMES, *NAMES, "no", "left", "lung", ".", "."])


@settings(deadline=None, max_examples=60)
@given(st.lists(words, max_size=14).map(" ".join))
def test_the_words_that_a_labeller_counts_are_found_wherever_they_stand(text: str) -> None:
    finder = PhraseFinder(label, NAMES)
    claimed, named = true_phrases(text)
    assert finder.claimed(text) == claimed
    assert finder.named(text) == named


def said(text: str) -> tuple[list[str], list[str]]:
    assert RULES.claimed is not None
    assert RULES.named is not None
    claimed, named = RULES.claimed(text), RULES.named(text)
    return [text[a:b] for a, b, _ in claimed], [text[a:b] for a, b, _ in named]


def test_the_rules_mark_what_they_count_and_what_is_denied() -> None:
    text = "There is no pleural effusion, but a nodule is seen. Emphysema in both lungs."
    assert said(text) == (["nodule", "Emphysema"], ["effusion"])


@pytest.mark.parametrize("text", ["", ".", "Findings: Impressions:", "\n\n", "?!"])
def test_a_text_that_says_nothing_has_no_phrases(text: str) -> None:
    assert said(text) == ([], [])


pieces = st.sampled_from(
    [
        "Findings: ", "Impressions: ", "There is a nodule in the left lung. ", "No nodule. ",
        "Pleural effusion was not observed, ", "emphysema and atelectasis. ", "Hiatal hernia; ",
        "Cannot exclude consolidation? ", "Heart size is increased.\n", "Lymph nodes: No enlarged ",
        "GGO in the right lung, no effusion, small nodule. ", "Indication: emphysema. ",
    ]
)  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(st.lists(pieces, max_size=8).map("".join))
def test_the_rules_mark_exactly_the_abnormalities_that_they_count(text: str) -> None:
    assert RULES.claimed is not None
    spans = RULES.claimed(text)
    (row,) = RulesLabeller().label([text])
    assert {name for _, _, name in spans} == {
        name for name, flag in zip(ABNORMALITIES, row, strict=True) if flag
    }
    assert all(text[start:end].strip() for start, end, _ in spans)


def test_lesions_of_the_abdomen_are_marked_too() -> None:
    phrases = get_phrases("rules", ABDOMEN_LESIONS)
    assert phrases.claimed is not None
    text = "A lesion in the liver. The pancreas is normal."
    assert [name for _, _, name in phrases.claimed(text)] == ["Liver lesion"]


@pytest.mark.parametrize("name", ["radbert", "llm"])
def test_a_labeller_that_judges_whole_reports_marks_nothing(name: str) -> None:
    assert get_phrases(name) == (None, None)

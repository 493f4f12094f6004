"""Sentences of a report and what they say, against phantom reports and sentences read by hand."""

from __future__ import annotations

import pytest

from uvlm.drafts.one_ct import unsupported_by_one_ct
from uvlm.evaluation.said import SentenceReader, split
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.report import Report

RULES = SentenceReader.of({}, ABNORMALITIES)
PHANTOM = SentenceReader.of({"evaluate": {"labeller": "phantom"}}, ABNORMALITIES)


@pytest.mark.parametrize(
    ("section", "sentences"),
    [
        ("One. Two.", ["One.", "Two."]),
        ("A nodule of 4.5 mm is seen. No effusion", ["A nodule of 4.5 mm is seen.", "No effusion"]),
        ("1. Emphysema. 2. Nodule.", ["1. Emphysema.", "2. Nodule."]),
        ("Small nodules, e.g. in the left lung. Is it? Yes!",
         ["Small nodules, e.g. in the left lung.", "Is it?", "Yes!"]),
        ("Clear. 3.", ["Clear. 3."]),
        ("...", ["..."]),
        ("", []),
    ],
)  # fmt: skip
def test_a_section_is_cut_into_sentences(section: str, sentences: list[str]) -> None:
    assert [section[start:end] for start, end in split(section)] == sentences


def test_nothing_of_a_section_is_lost() -> None:
    for text in ("a. b! 1. c; d? e 2. ", " . . 1. x", "x" * 5000, "No. " * 500, "a.b.c. d"):
        section = " ".join(text.split())
        joined = " ".join(section[start:end] for start, end in split(section))
        assert joined == section


def test_claims_and_denials_are_told_apart_and_side_and_lobe_go_with_them() -> None:
    report = Report(
        "There is a small pleural effusion on the left. No emphysema is seen. "
        "A nodule in the right upper lobe. The bones are intact.",
        "1. Left pleural effusion.",
    )
    found = [
        (s.part, [(c.abnormality, c.present, set(c.attributes.side)) for c in s.said])
        for s in RULES.read(report)
    ]
    assert found == [
        ("findings", [("Pleural effusion", True, {"left"})]),
        ("findings", [("Emphysema", False, set())]),
        ("findings", [("Lung nodule", True, {"right"})]),
        ("findings", []),
        ("impression", [("Pleural effusion", True, {"left"})]),
    ]


def test_a_phantom_report_is_read_as_its_grammar_says() -> None:
    report = Report(
        "Without enlarged heart. Emphysematous areas in the right lower lobe. Bones are intact.",
        "Signs of emphysema, lymphadenopathy.",
    )
    found = [[(c.abnormality, c.present) for c in s.said] for s in PHANTOM.read(report)]
    assert found == [
        [("Cardiomegaly", False)],
        [("Emphysema", True)],
        [],
        [("Emphysema", True), ("Lymphadenopathy", True)],
    ]


@pytest.mark.parametrize(
    ("sentence", "kind"),
    [
        ("Compared to the previous CT, the nodule has grown.", "comparison"),
        ("No significant change was detected.", "comparison"),
        ("Stable nodule in the right lung.", "comparison"),
        ("In the previous examination there was an effusion.", "comparison"),
        ("The patient has a history of breast cancer.", "clinical history"),
        ("Patient operated for colon ca.", "clinical history"),
        ("Patient presents with cough.", "clinical history"),
        ("Heart size is normal.", None),
        ("The heart size has increased.", None),
        ("Suboptimal, since the examination was without contrast.", None),
        ("Post-treatment control is recommended.", None),
        ("A nodule of 4 mm in the newest lobe.", None),
        ("There is a calcified granuloma, a sequela.", None),
    ],
)
def test_what_no_single_ct_shows_is_named(sentence: str, kind: str | None) -> None:
    found = unsupported_by_one_ct(sentence)
    assert (found is None) if kind is None else (found is not None and kind in found)

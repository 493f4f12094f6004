"""The phantom labeller inverts the report grammar exactly and survives generated text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uvlm.data.sets.phantom.reports import Lobe, PlantedFinding, Side, Size, write_report
from uvlm.evaluation.labeller import get_labeller
from uvlm.evaluation.labelling.phantom import (
    PhantomLabeller,
    highlight_spans,
    label_phantom_text,
    slots_of,
)
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.report import Report

SIDES: list[Side | None] = ["right", "left", "bilateral", None]
LOBES: list[Lobe | None] = ["upper", "middle", "lower", None]
SIZES: list[Size | None] = ["small", "moderate", "large", None]
LUNG = {
    "Emphysema",
    "Bronchiectasis",
    "Peribronchial thickening",
    "Interlobular septal thickening",
    "Lung nodule",
    "Lung opacity",
    "Consolidation",
    "Atelectasis",
    "Pulmonary fibrotic sequela",
}
SIDED = LUNG | {"Pleural effusion"}
SIZED = {"Lung nodule", "Pleural effusion", "Pericardial effusion"}

planted_findings = st.builds(
    PlantedFinding,
    st.sampled_from(ABNORMALITIES),
    st.sampled_from(SIDES),
    st.sampled_from(LOBES),
    st.sampled_from(SIZES),
)
finding_lists = st.lists(planted_findings, max_size=18, unique_by=lambda f: f.abnormality)


def written(findings: Sequence[PlantedFinding], seed: int) -> str:
    report = write_report(findings, np.random.default_rng(seed))
    return Report(report.findings, report.impression).text


def truth(findings: Sequence[PlantedFinding]) -> tuple[int, ...]:
    planted = {finding.abnormality for finding in findings}
    return tuple(int(name in planted) for name in ABNORMALITIES)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(finding_lists, st.integers(0, 2**32))
def test_labels_and_slots_of_a_written_report_are_what_was_planted(
    findings: list[PlantedFinding], seed: int
) -> None:
    text = written(findings, seed)
    assert label_phantom_text(text) == truth(findings)
    assert slots_of(text) == {
        f.abnormality: (
            f.side if f.abnormality in SIDED else None,
            f.lobe if f.abnormality in LUNG else None,
            f.size if f.abnormality in SIZED else None,
        )
        for f in findings
    }


def test_thousands_of_random_reports_are_labelled_exactly() -> None:
    generator = np.random.default_rng(0)
    for seed in range(3000):
        drawn = [name for name in ABNORMALITIES if generator.random() < 0.3]
        findings = [
            PlantedFinding(
                name,
                SIDES[generator.integers(4)],
                LOBES[generator.integers(4)],
                SIZES[generator.integers(4)],
            )
            for name in drawn
        ]
        assert label_phantom_text(written(findings, seed)) == truth(findings)


def test_a_hand_written_report_is_labelled_by_its_findings_only() -> None:
    text = (
        "Findings: Central airways are open. No medical device. ENLARGED heart  is seen. "
        "Hazy opacity in both lower lobes. Impressions: Signs of consolidation. Emphysema."
    )
    labels = dict(zip(ABNORMALITIES, label_phantom_text(text), strict=True))
    assert [name for name, label in labels.items() if label] == ["Cardiomegaly", "Lung opacity"]
    assert slots_of(text) == {
        "Cardiomegaly": (None, None, None),
        "Lung opacity": ("bilateral", "lower", None),
    }


@pytest.mark.parametrize(
    "sentence",
    [
        "No medical device is seen.",
        "Normal emphysema in the left upper lobe.",
        "There is no consolidation in the right lower lobe.",
        "Consolidation was resected.",
        "Nodule of enormous size.",
        "Cardiomegaly is present in the right upper lobe.",
    ],
)
def test_a_sentence_the_grammar_cannot_write_means_nothing(sentence: str) -> None:
    assert sum(label_phantom_text(sentence)) == 0


@pytest.mark.parametrize("order", [1, -1])
def test_a_text_that_says_both_says_yes(order: int) -> None:
    text = " ".join(["No consolidation in the lungs.", "Consolidation."][::order])
    assert label_phantom_text(text)[ABNORMALITIES.index("Consolidation")] == 1


def test_a_contradicting_text_keeps_the_first_description() -> None:
    text = "Atelectasis in the left lung. Atelectasis in the right lung."
    assert slots_of(text) == {"Atelectasis": ("left", None, None)}


@given(st.text(max_size=200))
def test_no_text_breaks_the_labeller(text: str) -> None:
    labels = label_phantom_text(text)
    assert len(labels) == len(ABNORMALITIES)
    assert set(slots_of(text)) == {
        name for name, label in zip(ABNORMALITIES, labels, strict=True) if label
    }


@settings(deadline=None)
@given(finding_lists, st.integers(0, 2**32))
def test_cutting_a_report_never_adds_an_abnormality(
    findings: list[PlantedFinding], seed: int
) -> None:
    text = written(findings, seed)
    whole = np.array(label_phantom_text(text))
    for end in range(0, len(text), 40):
        assert (np.array(label_phantom_text(text[:end])) <= whole).all()


@settings(deadline=None)
@given(finding_lists, st.integers(0, 2**32))
def test_highlighted_spans_are_exactly_the_sentences_of_what_is_present(
    findings: list[PlantedFinding], seed: int
) -> None:
    text = written(findings, seed)
    spans = highlight_spans(text)
    assert {name for _, _, name in spans} == {f.abnormality for f in findings}
    for start, end, name in spans:
        assert text[end] == "."
        assert text[start - 1] == " "
        lone = dict(zip(ABNORMALITIES, label_phantom_text(text[start:end]), strict=True))
        assert [found for found, label in lone.items() if label] == [name]
    assert spans == sorted(spans)


def test_spans_index_the_text_as_it_was_given() -> None:
    text = "Findings:\n  Sliding  hernia is seen . No emphysema in the lungs."
    [(start, end, name)] = highlight_spans(text)
    assert text[start:end] == "Sliding  hernia is seen"
    assert name == "Hiatal hernia"


def test_the_labeller_gives_one_row_a_text() -> None:
    labeller = get_labeller("phantom")
    labels = labeller.label(["Emphysema.", "", "Scar tissue. Emphysematous areas."])
    assert labeller.name == "phantom"
    assert labels.shape == (3, 18)
    assert labels[:, ABNORMALITIES.index("Emphysema")].tolist() == [1, 0, 1]
    assert labels.sum(axis=1).tolist() == [1, 0, 2]


def test_no_texts_give_no_rows() -> None:
    assert PhantomLabeller().label([]).shape == (0, 18)

"""Phantom reports: every abnormality is mentioned, the deciding word comes first."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest

from uvlm.data.sets.phantom.reports import (
    IMPORTANCE,
    NOTHING_FOUND,
    WORDINGS,
    Lobe,
    PlantedFinding,
    Side,
    Size,
    describe,
    write_impression,
    write_report,
)
from uvlm.text.abnormalities import ABNORMALITIES

SIDES: tuple[Side, ...] = ("right", "left")
LOBES: tuple[Lobe, ...] = ("upper", "middle", "lower")
SIZES: tuple[Size, ...] = ("small", "moderate", "large")


def draw_findings(generator: np.random.Generator, prevalence: float) -> list[PlantedFinding]:
    drawn = [name for name in ABNORMALITIES if generator.random() < prevalence]
    return [
        PlantedFinding(
            name,
            SIDES[generator.integers(2)],
            LOBES[generator.integers(3)],
            SIZES[generator.integers(3)],
        )
        for name in drawn
    ]


def sentences(text: str) -> list[str]:
    return [sentence.strip() for sentence in text.split(".") if sentence.strip()]


def test_wordings_and_importance_cover_each_abnormality_once() -> None:
    assert sorted(wording.abnormality for wording in WORDINGS) == sorted(ABNORMALITIES)
    assert sorted(IMPORTANCE) == sorted(ABNORMALITIES)


def test_the_first_word_tells_present_from_absent() -> None:
    for wording in WORDINGS:
        absent = {template.split()[0] for template in wording.absent}
        present = {re.split(r"[ {.]", template)[0] for template in wording.present}
        assert absent <= {"No", "Without", "Normal"}
        assert not present & {"No", "Without", "Normal"}


def test_paraphrases_of_one_finding_differ_in_their_first_word() -> None:
    shared = [w.abnormality for w in WORDINGS if len({p.split()[0] for p in w.present}) == 1]
    assert shared == ["Mosaic attenuation pattern"]


def test_a_report_says_one_thing_about_each_abnormality() -> None:
    generator = np.random.default_rng(1)
    for _ in range(200):
        report = write_report(draw_findings(generator, 0.25), generator)
        assert len(sentences(report.findings)) in (1 + 18, 1 + 18 + 1)


def test_nothing_planted_is_all_negatives() -> None:
    report = write_report([], np.random.default_rng(0))
    about_abnormalities = sentences(report.findings)[1:19]
    assert {sentence.split()[0] for sentence in about_abnormalities} <= {"No", "Without", "Normal"}
    assert report.impression == "No active disease."


def test_the_same_generator_state_gives_the_same_report() -> None:
    findings = [PlantedFinding("Emphysema", "left", "upper")]
    first = write_report(findings, np.random.default_rng(3))
    assert first == write_report(findings, np.random.default_rng(3))


def test_findings_may_come_in_any_order() -> None:
    findings = draw_findings(np.random.default_rng(2), 0.5)
    one, other = (
        write_report(order, np.random.default_rng(5)) for order in (findings, findings[::-1])
    )
    assert one == other


@pytest.mark.parametrize(
    ("finding", "phrase"),
    [
        (PlantedFinding("Emphysema", "right", "upper"), " in the right upper lobe."),
        (PlantedFinding("Emphysema", "bilateral", "lower"), " in both lower lobes."),
        (PlantedFinding("Emphysema", "bilateral"), " in both lungs."),
        (PlantedFinding("Emphysema", "left"), " in the left lung."),
        (PlantedFinding("Emphysema", None, "middle"), " in the middle lobe."),
        (PlantedFinding("Lung nodule", "left", "lower", "small"), " of small size in the left "),
        (PlantedFinding("Pleural effusion", "left", None, "large"), " on the left."),
        (PlantedFinding("Pleural effusion", "bilateral"), " on both sides."),
        (PlantedFinding("Pericardial effusion", size="moderate"), " of moderate volume"),
    ],
)
def test_slots_read_as_a_radiologist_says_them(finding: PlantedFinding, phrase: str) -> None:
    assert phrase in write_report([finding], np.random.default_rng(0)).findings


def test_properties_without_a_slot_are_left_out() -> None:
    bare = write_report([PlantedFinding("Cardiomegaly")], np.random.default_rng(0))
    full = PlantedFinding("Cardiomegaly", "right", "upper", "large")
    assert write_report([full], np.random.default_rng(0)) == bare


def test_two_findings_of_one_abnormality_get_a_sentence_each() -> None:
    nodules = [PlantedFinding("Lung nodule", side, "upper", "small") for side in SIDES]
    findings = write_report(nodules, np.random.default_rng(0)).findings
    assert "right upper lobe" in findings
    assert "left upper lobe" in findings


def test_an_unknown_abnormality_is_refused() -> None:
    with pytest.raises(ValueError, match="'Pneumonia' is not one of the 18"):
        PlantedFinding("Pneumonia")


def test_the_impression_names_the_three_most_important() -> None:
    named = ("Medical material", "Lung nodule", "Consolidation", "Pleural effusion", "Emphysema")
    impression = write_impression([PlantedFinding(name) for name in named])
    assert impression == "Signs of consolidation, pleural effusion, lung nodule."
    assert write_impression([PlantedFinding("Cardiomegaly")]) == "Signs of cardiomegaly."
    assert write_impression([]) == NOTHING_FOUND


def test_a_description_is_one_sentence_of_the_first_style() -> None:
    finding = PlantedFinding("Atelectasis", "right", "middle", "large")
    assert describe(finding) == "Atelectasis in the right middle lobe."


def test_reports_are_short_plain_ascii_with_a_small_vocabulary() -> None:
    generator = np.random.default_rng(4)
    vocabulary: set[str] = set()
    lengths = []
    for _ in range(500):
        report = write_report(draw_findings(generator, 0.25), generator)
        assert report.findings.isascii()
        vocabulary |= set(re.findall("[a-z]+", f"{report.findings} {report.impression}".lower()))
        lengths.append(len(report.findings.split()))
    assert len(vocabulary) <= 150
    assert 75 <= float(np.mean(lengths)) <= 95


def test_style_is_kept_in_about_nine_sentences_of_ten() -> None:
    generator = np.random.default_rng(6)
    negatives_by_style = [{w.absent[style].rstrip(".") for w in WORDINGS} for style in (0, 1)]
    shares = []
    for _ in range(400):
        said = set(sentences(write_report([], generator).findings))
        shares.append(max(len(said & negatives) for negatives in negatives_by_style) / 18)
    assert 0.88 <= float(np.mean(shares)) <= 0.93


def test_no_two_sentences_of_the_grammar_are_the_same() -> None:
    generator = np.random.default_rng(8)
    described: dict[str, str] = {}
    for name, side, lobe in product(ABNORMALITIES, SIDES, LOBES):
        text = write_report([PlantedFinding(name, side, lobe, "small")], generator).findings
        for sentence in sentences(text):
            if sentence.split()[0] not in {"No", "Without", "Normal", "Bones"}:
                described.setdefault(sentence, name)
                is_boilerplate = sentence.split()[0] in {"Trachea", "Central"}
                assert is_boilerplate or described[sentence] == name

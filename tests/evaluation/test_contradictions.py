"""Report against classifier: flagged where the classifier is sure, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from uvlm.errors import DataError
from uvlm.evaluation.contradictions import ContradictionFinder, read_cuts
from uvlm.text.abnormalities import ABNORMALITIES

CUTS = dict.fromkeys(ABNORMALITIES, (0.1, 0.9))
REPORT = (
    "Findings: Trachea is midline and open. Emphysema in the left upper lobe. No hiatal hernia. "
    "Cardiomegaly is present. Impressions: Signs of emphysema, cardiomegaly."
)


def found(labeller: str, **probabilities: float) -> list[tuple[str, str, str | None]]:
    finder = ContradictionFinder(labeller, ABNORMALITIES, CUTS)
    given = {name.replace("_", " "): p for name, p in probabilities.items()}
    return [(c["abnormality"], c["report"], c["sentence"]) for c in finder(REPORT, given)]


@pytest.mark.parametrize("labeller", ["phantom", "rules", "radbert"])
def test_a_claim_that_the_classifier_is_sure_to_be_wrong_is_quoted(labeller: str) -> None:
    sentence = "Emphysema in the left upper lobe."
    assert found(labeller, Emphysema=0.02) == [("Emphysema", "claims it", sentence)]


def test_what_is_denied_or_passed_over_is_told_apart_by_its_sentence() -> None:
    assert found("rules", Hiatal_hernia=0.97, Bronchiectasis=0.9) == [
        ("Hiatal hernia", "does not claim it", "No hiatal hernia."),
        ("Bronchiectasis", "does not claim it", None),
    ]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.99])
def test_an_unsure_classifier_or_one_that_agrees_contradicts_nothing(p: float) -> None:
    assert found("phantom", Emphysema=p) == []
    assert found("phantom", Hiatal_hernia=1 - p - 0.01) == []


def test_an_untrained_part_contradicts_nothing() -> None:
    finder = ContradictionFinder("phantom", ABNORMALITIES, CUTS)
    assert finder("", dict.fromkeys(ABNORMALITIES, 1.0)) == []
    assert finder(REPORT, {}) == []
    assert ContradictionFinder("phantom", ABNORMALITIES, {})(REPORT, {"Emphysema": 0.0}) == []


def test_cuts_of_an_earlier_release_are_none_and_damaged_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    assert read_cuts(path) == {}
    path.write_text(json.dumps({"Emphysema": 0.4}))
    assert read_cuts(path) == {}
    path.write_text(json.dumps({"sure": {"Emphysema": [0.1, 0.8]}}))
    assert read_cuts(path) == {"Emphysema": (0.1, 0.8)}
    for damaged in ({"Emphysema": 0.1}, {"Emphysema": ["a", "b"]}, [1]):
        path.write_text(json.dumps({"sure": damaged}))
        with pytest.raises(DataError, match="sure: not two cuts each"):
            read_cuts(path)

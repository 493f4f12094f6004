"""A check set of reports that are not CT-RATE's, and what holds of the set itself.

other_styles/README.md says how it was written, labelled and split. Half A may be looked at while
patterns are written; half B was read by no one and scored once, with the final rules.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from uvlm.evaluation.labeller import get_labeller
from uvlm.text.abnormalities import ABNORMALITIES

FOLDER = Path(__file__).parent / "other_styles"
HALVES = ("a", "b")
STYLES = {"template", "uk", "narrative", "telegraphic"}
KINDS = {
    *("heading", "list_item", "bracket", "section", "denial", "vocabulary", "contrast", "site"),
    *("scope/ends", "scope/list", "scope/without", "scope/verbless", "scope/no_change"),
    *("doubt/active", "doubt/passive"),
}
RARER = {
    "Mosaic attenuation pattern",
    "Peribronchial thickening",
    "Bronchiectasis",
    "Interlobular septal thickening",
}

Entry = dict[str, Any]


def read(part: str, half: str) -> list[Entry]:
    """The `sentences` or `reports` of a half; the lines of a report are one text."""
    path = FOLDER / f"{part}_{half}.json"
    entries: list[Entry] = json.loads(path.read_text(encoding="utf-8"))
    for entry in entries:
        if part == "reports":
            entry["text"] = "\n".join(entry["text"])
    return entries


def read_half(half: str) -> list[Entry]:
    return read("sentences", half) + read("reports", half)


def flags_of(entries: Sequence[Entry]) -> npt.NDArray[np.int64]:
    """One row an entry, one column an abnormality; what an entry does not name is absent."""
    return np.array([[entry["flags"].get(name, 0) for name in ABNORMALITIES] for entry in entries])


def words_of(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def sentences_of(text: str) -> set[str]:
    """Its sentences and lines of four words or more; shorter ones are anybody's."""
    sentences = (words_of(sentence) for sentence in [text, *re.split(r"[.\n]", text)])
    return {sentence for sentence in sentences if sentence.count(" ") >= 3}


@pytest.fixture(scope="module")
def everything() -> list[Entry]:
    return [entry for half in HALVES for entry in read_half(half)]


def test_the_halves_are_large_enough_and_alike_in_size() -> None:
    for part, enough in (("sentences", 150), ("reports", 40)):
        count_a, count_b = (len(read(part, half)) for half in HALVES)
        assert count_a == count_b
        assert count_a + count_b >= enough


def test_ids_are_sorted_and_stand_once(everything: list[Entry]) -> None:
    assert len({entry["id"] for entry in everything}) == len(everything)
    for part in ("sentences", "reports"):
        for half in HALVES:
            ids = [entry["id"] for entry in read(part, half)]
            assert ids == sorted(ids)


def test_every_label_names_an_abnormality_and_says_present_or_denied(
    everything: list[Entry],
) -> None:
    for entry in everything:
        assert list(entry["flags"]) == [name for name in ABNORMALITIES if name in entry["flags"]]
        assert all(flag in (0, 1) for flag in entry["flags"].values())
    assert flags_of(everything).shape == (len(everything), len(ABNORMALITIES))


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", ABNORMALITIES)
def test_each_half_asserts_and_denies_every_abnormality_often_enough(name: str, half: str) -> None:
    counts = Counter(entry["flags"][name] for entry in read_half(half) if name in entry["flags"])
    enough = 6 if name in RARER else 10
    assert min(counts[0], counts[1]) >= enough


@pytest.mark.parametrize("half", HALVES)
def test_most_sentences_combine_two_kinds_of_difficulty(half: str) -> None:
    kinds = [{kind.split("/")[0] for kind in entry["kinds"]} for entry in read("sentences", half)]
    assert sum(len(kinds_of_one) >= 2 for kinds_of_one in kinds) >= 0.6 * len(kinds)


@pytest.mark.parametrize("half", HALVES)
def test_every_kind_and_style_is_in_both_halves(half: str) -> None:
    kinds = {kind for entry in read("sentences", half) for kind in entry["kinds"]}
    assert kinds == KINDS
    assert {kind for entry in read("reports", half) for kind in entry["kinds"]} <= KINDS
    assert {entry["style"] for entry in read("reports", half)} == STYLES


def test_no_text_stands_twice(everything: list[Entry]) -> None:
    counts = Counter(words_of(entry["text"]) for entry in everything)
    assert [text for text, count in counts.items() if count > 1] == []


@pytest.mark.slow
def test_no_sentence_of_four_words_is_one_of_ct_rate(
    everything: list[Entry], real_data: Path
) -> None:
    known: set[str] = set()
    for name in ("ct_rate_reports_labelled.csv", "ct_rate_validation_reports.csv"):
        with (real_data / "reports" / name).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                known.update(*(sentences_of(value) for value in row.values()))
    assert len(known) > 10_000
    assert [s for e in everything for s in sentences_of(e["text"]) if s in known] == []


@pytest.mark.parametrize(("half", "at_least"), [("a", 0.985), ("b", 0.95)])
def test_the_rules_follow_the_conventions(half: str, at_least: float) -> None:
    entries = read_half(half)
    truth = flags_of(entries)
    labels = get_labeller("rules").label([entry["text"] for entry in entries])
    f1 = 2 * (labels & truth).sum(axis=0) / (labels.sum(axis=0) + truth.sum(axis=0))
    assert f1.mean() >= at_least

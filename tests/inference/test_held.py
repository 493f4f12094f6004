"""Impressions held to their findings, with small languages whose claims can be read by eye."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.inference.tiny_writer import BOS, EOS, greedy, tiny_visual, tiny_writer
from uvlm.data.sets.phantom.reports import PlantedFinding, write_impression, write_report
from uvlm.evaluation.said import SentenceReader
from uvlm.inference.decoding import Begun, Decoding, Written
from uvlm.inference.held import MOST_PASSES, find_excess, hold
from uvlm.inference.writing import write_reports
from uvlm.model.uvlm import UVLM
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.draft import Part
from uvlm.text.report import Report, parse_report

NAMES = ("edema", "nodule", "hernia", "effusion", "cyst")
# " No" and " acute" begin what claims nothing; "her" + "nia" spells a name in two tokens.
WORDS = ("Findings:", " Impressions:", " Signs", " of", ",", ".", " No", " disease",
         " 1.", " 2.", " 3.",
         *(f" {name}" for name in NAMES), " her", "nia")  # fmt: skip
ID = {word: number for number, word in enumerate(WORDS)}


def ids_of(text: str) -> list[int]:
    """Cut a text into tokens, the longest first."""
    ids = []
    while text:
        word = max((word for word in WORDS if text.startswith(word)), key=len)
        ids.append(ID[word])
        text = text[len(word) :]
    return ids


def decode(ids: Sequence[int]) -> str:
    return "".join(WORDS[i] for i in ids)


def spans(section: str, part: Part) -> list[tuple[int, int, str, bool]]:
    found = []
    for name in NAMES:
        start = section.find(name)
        while start >= 0:
            end = start + len(name)
            found.append((start, end, name, not section[:start].endswith("No ")))
            start = section.find(name, end)
    return found


def claims(section: str, part: Part) -> set[str]:
    return {name for _, _, name, present in spans(section, part) if present}


def row(text: str) -> Written:
    return Written(ids_of(text), "eos")


class Preferences:
    """A decoder that goes on with the first text, of those behind a word, that is not forbidden."""

    def __init__(self, after: dict[str, list[str]]) -> None:
        self.after = {ID[word]: [ids_of(text) for text in texts] for word, texts in after.items()}
        self.asked: list[Begun] = []

    def __call__(self, rows: list[int], begun: list[Begun]) -> list[Written]:
        self.asked += begun
        return [Written([*each.ids, *self._on(each)], "eos") for each in begun]

    def _on(self, each: Begun) -> list[int]:
        return next(ids for ids in self.after[each.ids[-1]] if ids[0] not in each.forbidden)


def held(text: str, after: dict[str, list[str]]) -> tuple[str, Preferences]:
    decoder = Preferences(after)
    (new,) = hold([row(text)], spans, decode, decoder)
    assert new.ended == "held"
    return decode(new.ids), decoder


def test_the_token_of_a_claim_that_findings_lack_is_forbidden_there() -> None:
    text = "Findings: edema. Impressions: Signs of edema, hernia."
    found, decoder = held(text, {",": [" nodule.", " edema."]})
    # The nodule was tried and lies beyond the findings too; nothing before the claim was asked for.
    assert found == "Findings: edema. Impressions: Signs of edema, edema."
    before = ids_of("Findings: edema. Impressions: Signs of edema,")
    hernia, nodule = ID[" hernia"], ID[" nodule"]
    assert decoder.asked == [
        Begun(before, frozenset({hernia})), Begun(before, frozenset({hernia, nodule}))
    ]  # fmt: skip


def test_the_comma_goes_if_names_behind_it_are_too_much() -> None:
    text = "Findings: edema. Impressions: Signs of edema, hernia."
    found, _ = held(text, {",": [" nodule.", " effusion.", " cyst."], " edema": [", cyst.", "."]})
    assert found == "Findings: edema. Impressions: Signs of edema."


def test_a_sentence_with_no_other_claim_begins_anew() -> None:
    text = "Findings: No edema. Impressions: No disease. Signs of hernia."
    names = [" nodule.", " effusion.", " cyst.", " edema."]
    found, _ = held(text, {" of": names, ".": [" Signs of cyst.", " No disease."]})
    assert found == "Findings: No edema. Impressions: No disease. No disease."


@pytest.mark.parametrize(
    ("impression", "left"),
    [
        ("Signs of edema. Signs of hernia.", " Impressions: Signs of edema."),
        ("Signs of hernia.", ""),
        ("1. edema. 2. hernia. 3. edema.", " Impressions: 1. edema."),
    ],
)
def test_a_sentence_that_cannot_be_mended_is_left_out(impression: str, left: str) -> None:
    def again(rows: list[int], begun: list[Begun]) -> list[Written]:
        return [Written([*each.ids, ID[" hernia"], ID["."]], "eos") for each in begun]

    first = row(f"Findings: edema. Impressions: {impression}")
    (new,) = hold([first], spans, decode, again)
    assert decode(new.ids) == f"Findings: edema.{left}"
    assert new.ended == "held"


def test_reports_in_order_stay_as_they_are() -> None:
    rows = [
        row("Findings: edema. nodule. Impressions: Signs of nodule, edema."),
        row("Findings: edema."),
        row("Findings: No edema. Impressions: No edema."),
        Written(ids_of(" Impressions: No disease"), "limit"),
    ]

    def never(rows: list[int], begun: list[Begun]) -> list[Written]:
        raise AssertionError("nothing is to be written again")

    assert hold(rows, spans, decode, never) == rows
    assert hold([], spans, decode, never) == []


def test_a_denied_abnormality_is_not_named_by_findings() -> None:
    excess = find_excess(ids_of("Findings: No edema. Impressions: edema."), spans, decode)
    assert excess is not None
    assert excess.claim == ids_of("Findings: No edema. Impressions: edema.").index(ID[" edema"], 3)


def test_a_name_spelled_by_several_tokens_is_found_at_the_first() -> None:
    ids = [*ids_of("Findings: edema. Impressions: Signs of"), ID[" her"], ID["nia"], ID["."]]
    excess = find_excess(ids, spans, decode)
    assert excess is not None
    assert ids[excess.claim] == ID[" her"]


class Chance:
    """A decoder that writes on at random, any words in any order."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.passes = 0

    def report(self) -> Written:
        text = "Findings:" + self._words(6) + " Impressions:" + self._words(8)
        return row(text)

    def __call__(self, rows: list[int], begun: list[Begun]) -> list[Written]:
        self.passes += 1
        return [Written([*each.ids, *self._on(each)], "eos") for each in begun]

    def _on(self, each: Begun) -> list[int]:
        ids = ids_of(self._words(self.random.randrange(6)))
        return ids if not ids or ids[0] not in each.forbidden else []

    def _words(self, count: int) -> str:
        return "".join(self.random.choice(WORDS[2:]) for _ in range(count))


@pytest.mark.parametrize("seed", range(100))
def test_no_impression_names_more_than_its_findings_whatever_is_written(seed: int) -> None:
    decoder = Chance(seed)
    rows = [decoder.report() for _ in range(20)]
    new = hold(rows, spans, decode, decoder)
    assert decoder.passes <= MOST_PASSES
    changed = 0
    for before, after in zip(rows, new, strict=True):
        was, now = (parse_report(decode(each.ids)) for each in (before, after))
        assert now.findings == was.findings
        assert claims(now.impression, "impression") <= claims(now.findings, "findings")
        in_order = claims(was.impression, "impression") <= claims(was.findings, "findings")
        assert (after == before) == in_order
        changed += after.ended == "held"
    assert 0 < changed < 20


@torch.no_grad()
def naive(model: UVLM, visual: list[Tensor], case: int, begun: Begun, limit: int) -> list[int]:
    """Read everything again for every word."""
    own = [x[case : case + 1] for x in visual]
    tokens = [BOS, *begun.ids]
    while len(tokens) <= limit:
        logits = model(own, torch.tensor([tokens]))[0, -1].double()
        if len(tokens) == 1 + len(begun.ids):
            logits[list(begun.forbidden)] = -torch.inf
        chosen = int(logits.argmax())
        if chosen == EOS:
            break
        tokens.append(chosen)
    return tokens[1:]


@pytest.mark.parametrize("limit", [5, 12])
def test_reports_are_written_on_as_a_naive_loop_writes_them(limit: int) -> None:
    model, visual = tiny_writer(), tiny_visual()
    first = greedy(model, visual, limit)
    cuts = [
        min(cut, max(len(ids) - 1, 0)) for cut, ids in zip((0, 1, 3, 5, 8, 11), first, strict=True)
    ]
    begun = [
        Begun(ids[:cut], frozenset({*ids[cut : cut + 1], 5}))
        for ids, cut in zip(first, cuts, strict=True)
    ]
    written = [w.ids for w in write_reports(model, visual, Decoding(limit), begun=begun)]
    assert written == [naive(model, visual, n, each, limit) for n, each in enumerate(begun)]
    assert written != first
    # Without a beginning, or with as much of it as there is, reports are what they were.
    for again in ([Begun([], ())] * 6, [Begun(ids, ()) for ids in first]):
        same = write_reports(model, visual, Decoding(limit), begun=again)
        assert [w.ids for w in same] == first


def test_beams_are_written_on_one_by_one() -> None:
    model, visual = tiny_writer(), tiny_visual()
    begun = [Begun([5], frozenset())] * 6
    one_by_one = write_reports(model, visual, Decoding(12), begun=begun)
    assert write_reports(model, visual, Decoding(12, num_beams=3), begun=begun) == one_by_one


@pytest.mark.parametrize(
    ("report", "excess"),
    [
        ("There is a nodule in the left lung. Impressions: 1. Lung nodule. 2. Emphysema.", " Emph"),
        ("No pleural effusion. Impressions: Pleural effusion.", " effusion"),
        ("Emphysema. Impressions: No pleural effusion. Emphysema.", None),
    ],
)
def test_the_rules_find_what_is_too_much(report: str, excess: str | None) -> None:
    reader = SentenceReader.named("rules", ABNORMALITIES)
    report = f"Findings: {report}"
    found = find_excess(letters(report), reader.spans, text_of)
    assert (found is None) == (excess is None)
    if found and excess:
        assert report[: found.claim].endswith(report[: report.rindex(excess) + 1])


def test_the_reader_of_phantoms_finds_what_is_too_much() -> None:
    reader, generator = SentenceReader.named("phantom", ABNORMALITIES), np.random.default_rng(0)
    for name in ABNORMALITIES:
        findings = [PlantedFinding(name)] if name != "Hiatal hernia" else []
        own = write_report(findings, generator)
        other = write_impression([PlantedFinding("Hiatal hernia")])
        for impression, excess in ((own.impression, False), (other, True)):
            text = Report(own.findings, impression).text
            found = find_excess(letters(text), reader.spans, text_of)
            assert (found is not None) == excess
            if found:
                assert text[found.claim :].startswith("hiatal hernia")


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def text_of(ids: Sequence[int]) -> str:
    return "".join(map(chr, ids))

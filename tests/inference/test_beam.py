"""Beam search against every sequence there is, and against a beam search without a cache."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from tests.inference.tiny_writer import BOS, EOS, endless, greedy, tiny_visual, tiny_writer
from uvlm.inference.decoding import Decoding
from uvlm.inference.writing import write_reports
from uvlm.model.decoder import LanguageDecoder
from uvlm.model.uvlm import UVLM

VOCABULARY, LIMIT = 6, 3


@pytest.fixture(params=[3, 11])
def model(request: pytest.FixtureRequest) -> UVLM:
    return tiny_writer(VOCABULARY, request.param)


@torch.no_grad()
def log_probability(model: UVLM, visual: list[Tensor], tokens: list[int]) -> float:
    logits = model(visual, torch.tensor([[BOS, *tokens]]))[0]
    steps = torch.log_softmax(logits, dim=-1)
    return float(sum(steps[i, token] for i, token in enumerate(tokens)))


def every_report() -> list[list[int]]:
    """All reports that end, and all that the limit cuts."""
    words = [token for token in range(VOCABULARY) if token != EOS]
    ended = [
        [*report, EOS] for size in range(LIMIT) for report in itertools.product(words, repeat=size)
    ]
    return ended + [list(report) for report in itertools.product(words, repeat=LIMIT)]


@pytest.mark.slow
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
def test_enough_beams_find_the_best_of_all_reports(model: UVLM, length_penalty: float) -> None:
    visual = tiny_visual(3)
    decoding = Decoding(LIMIT, num_beams=VOCABULARY**LIMIT, length_penalty=length_penalty)
    found = write_reports(model, visual, decoding)
    reports = every_report()
    assert len(reports) == 1 + 5 + 25 + 125
    for case, report in enumerate(found):
        row = [tokens[case : case + 1] for tokens in visual]
        scores = [log_probability(model, row, r) / len(r) ** length_penalty for r in reports]
        best = reports[max(range(len(reports)), key=scores.__getitem__)]
        assert report.ids == [token for token in best if token != EOS]
        assert report.ended == ("eos" if best[-1] == EOS else "limit")


@torch.no_grad()
def naive_beams(model: UVLM, visual: list[Tensor], width: int, limit: int) -> list[int]:
    """One row, whole sequences again in every step, no early stop."""
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    finished: list[tuple[float, list[int]]] = []
    for _ in range(limit):
        candidates = []
        for score, tokens in live:
            logits = model(visual, torch.tensor([[BOS, *tokens]]))[0, -1]
            for token, value in enumerate(torch.log_softmax(logits, dim=-1).tolist()):
                candidates.append((score + value, [*tokens, token]))
        candidates.sort(key=lambda pair: -pair[0])
        candidates = candidates[: 2 * width]
        finished += [(s / len(t), t[:-1]) for s, t in candidates if t[-1] == EOS]
        live = [(s, t) for s, t in candidates if t[-1] != EOS][:width]
    finished += [(s / len(t), t) for s, t in live]
    return max(finished, key=lambda pair: pair[0])[1]


@pytest.mark.parametrize("width", [2, 3, 5])
def test_beams_equal_a_search_without_cache_and_early_stop(width: int) -> None:
    model, visual = tiny_writer(12), tiny_visual()
    found = write_reports(model, visual, Decoding(10, num_beams=width))
    for case, report in enumerate(found):
        row = [tokens[case : case + 1] for tokens in visual]
        assert report.ids == naive_beams(model, row, width, 10)


def test_beams_say_something_likelier_than_greedy() -> None:
    model, visual = tiny_writer(12), tiny_visual()
    plain = greedy(model, visual, 10)
    beams = write_reports(model, visual, Decoding(10, num_beams=6))
    gains = []
    for case, (one, other) in enumerate(zip(plain, beams, strict=True)):
        row = [tokens[case : case + 1] for tokens in visual]
        scores = []
        for ids in (one, other.ids):
            tokens = [*ids, EOS] if len(ids) < 10 else ids
            scores.append(log_probability(model, row, tokens) / len(tokens))
        gains.append(scores[1] - scores[0])
    assert min(gains) > -1e-5
    assert max(gains) > 1e-3


def test_beams_keep_the_minimum_and_the_ban_of_ngrams() -> None:
    model, visual = tiny_writer(12), tiny_visual()
    decoding = Decoding(12, num_beams=3, min_tokens=6, no_repeat_ngram=2, length_penalty=0.0)
    for report in write_reports(model, visual, decoding):
        assert len(report.ids) >= 6
        pairs = list(itertools.pairwise(report.ids))
        assert len(set(pairs)) == len(pairs)


def test_a_loop_of_beams_is_told_and_cut() -> None:
    model, visual = tiny_writer(12), tiny_visual()
    assert isinstance(model.decoder, LanguageDecoder)
    model.decoder.embedding.weight.data.mul_(6.0)  # loud words follow themselves
    decoding = Decoding(20, num_beams=2, stop_after_repeats=4)
    whole = write_reports(endless(model), visual, Decoding(20, num_beams=2))
    cut = write_reports(model, visual, decoding)
    assert "loop" in {report.ended for report in cut}
    for long, short in zip(whole, cut, strict=True):
        assert long.ids[: len(short.ids)] == short.ids
        assert (len(short.ids) < len(long.ids)) == (short.ended == "loop")

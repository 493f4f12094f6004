"""Guided writing against a naive loop that reads both rows again for every word."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.inference.tiny_writer import BOS, EOS, tiny_visual, tiny_writer
from uvlm.inference.decoding import Decoding
from uvlm.inference.writing import write_reports
from uvlm.model.cache import Cache
from uvlm.model.cues import CueForm, CueSizes, CueTokens
from uvlm.model.uvlm import UVLM


@pytest.fixture
def model() -> UVLM:
    return cued(tiny_writer())


def cued(uvlm: UVLM) -> UVLM:
    torch.manual_seed(3)
    width = uvlm.decoder.embed(torch.tensor([BOS])).shape[-1]
    uvlm.cues = CueTokens(CueSizes(3, (2,)), width, CueForm())
    return uvlm.eval()


@pytest.fixture
def seen() -> list[Tensor]:
    evidence = 3 * torch.randn(6, 3, 3, generator=torch.Generator().manual_seed(1))
    return [*tiny_visual(), evidence]


@torch.no_grad()
def naive(model: UVLM, seen: list[Tensor], case: int, strength: float, limit: int) -> list[int]:
    own = [x[case : case + 1] for x in seen]
    without = [*own[:-1], torch.full_like(own[-1], torch.nan)]
    tokens = [BOS]
    while len(tokens) <= limit:
        ids = torch.tensor([tokens])
        cues, none = (model(x, ids)[0, -1].double() for x in (own, without))
        chosen = int((cues + strength * (cues - none)).argmax())
        if chosen == EOS:
            break
        tokens.append(chosen)
    return tokens[1:]


@pytest.mark.slow
@pytest.mark.parametrize("strength", [0.0, 0.5, 4.0])
def test_guided_reports_equal_a_naive_loop(
    strength: float, model: UVLM, seen: list[Tensor]
) -> None:
    written = write_reports(model, seen, Decoding(16, cue_guidance=strength))
    assert [w.ids for w in written] == [naive(model, seen, n, strength, 16) for n in range(6)]


def test_guidance_changes_what_is_written_and_without_it_nothing_is_read_twice(
    model: UVLM, seen: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, guided = (
        [w.ids for w in write_reports(model, seen, Decoding(16, cue_guidance=strength))]
        for strength in (0.0, 4.0)
    )
    assert plain != guided
    rows: list[int] = []
    prefill = model.prefill

    def counted(visual: list[Tensor], capacity: int) -> Cache:
        rows.append(len(visual[0]))
        return prefill(visual, capacity)

    monkeypatch.setattr(model, "prefill", counted)
    write_reports(model, seen, Decoding(16))
    assert rows == [6]


def test_unknown_evidence_guides_nowhere(model: UVLM, seen: list[Tensor]) -> None:
    unknown = [*seen[:-1], torch.full_like(seen[-1], torch.nan)]
    plain, guided = (
        [w.ids for w in write_reports(model, unknown, Decoding(16, cue_guidance=strength))]
        for strength in (0.0, 4.0)
    )
    assert plain == guided


def test_a_model_without_cues_is_not_guided() -> None:
    visual, model = tiny_visual(), tiny_writer()
    plain, guided = (
        [w.ids for w in write_reports(model, visual, Decoding(16, cue_guidance=strength))]
        for strength in (0.0, 4.0)
    )
    assert plain == guided

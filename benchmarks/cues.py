"""What cue tokens cost: a training step of stage 3 and a written report, with them and without."""

from __future__ import annotations

from typing import Final

import torch

from benchmarks.decoding import token_times
from benchmarks.measure import cpu_seconds_of_both
from benchmarks.ratios import Ratio
from benchmarks.report_step import ReportLoss, training_step
from benchmarks.sizes import SPECIALS, Size
from uvlm.model.build import build_uvlm
from uvlm.model.cues import CueSizes
from uvlm.model.uvlm import UVLM
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.attributes import VALUE_NAMES

MOST: Final = 1.10  # times as long as without cues
_KNOWN: Final = CueSizes.of(ABNORMALITIES, VALUE_NAMES)


def measure(size: Size) -> list[Ratio]:
    """Measure all rows of this family."""
    vocabulary, text = size.compact_vocabulary, size.tokens * 3 // 4
    token_ids = torch.randint(5, vocabulary, (1, text + 1))
    visual, models = size.visual(), (size.uvlm(vocabulary), cued(size))
    evidence = torch.randn(1, len(ABNORMALITIES), 1 + len(VALUE_NAMES))
    seen = visual, [*visual, evidence]
    plain, with_cues = (
        training_step(model, ReportLoss(size, model, x, token_ids), bf16=True)
        for model, x in zip(models, seen, strict=True)
    )
    steps = cpu_seconds_of_both(plain, with_cues, size.repeats)
    writing = cpu_seconds_of_both(
        lambda: token_times(models[0], seen[0], size.tokens),
        lambda: token_times(models[1], seen[1], size.tokens),
        size.repeats,
    )
    added, words = f"{len(ABNORMALITIES)} cue tokens", f"{vocabulary:,} words"
    how = f"medians of {size.repeats} in turn; at most {MOST:.2f} times as long is asked for"
    return [
        Ratio(f"report training step with {added}, {words}, bf16", "the same without", *steps, "s",
              1 / MOST, f"batch 1, {text} text tokens, {how}."),
        Ratio(f"greedy decoding with {added}, {size.tokens} tokens, {words}, fp32",
              "the same without", *writing, "s", 1 / MOST,
              f"reading the visual block included, {how}."),
    ]  # fmt: skip


def cued(size: Size) -> UVLM:
    """Build an untrained model with cues, else as `Size.uvlm` does."""
    torch.manual_seed(0)
    params = size.params
    plan = params.injection.model_copy(update={"cues": "both"})
    words = size.compact_vocabulary, SPECIALS
    parts = params.encoder, params.decoder, plan, size.grid
    return build_uvlm(*parts, *words, cue_sizes=_KNOWN).eval()

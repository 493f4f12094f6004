"""Writing reports: compared with the released code, transformers' cache, and one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from time import process_time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import released
from benchmarks.measure import cpu_seconds, cpu_seconds_of_both
from benchmarks.ratios import Ratio
from benchmarks.sizes import SPECIALS, Size
from uvlm.inference.decoding import Decoding
from uvlm.inference.writing import write_reports
from uvlm.model.uvlm import UVLM

NEVER = -1  # an <eos> that no token is


def measure(size: Size) -> list[Ratio]:
    """Measure all rows of this family."""
    model, visual = size.uvlm(size.vocabulary), size.visual()
    lengths = sorted({1, *(round(size.tokens * share / 3) for share in (1, 2, 3))})
    theirs = released_seconds(model, visual, lengths)
    times = [token_times(model, visual, size.tokens) for _ in range(min(2, size.repeats))]
    ours = median(sum(one) for one in times)
    early = median(times[0][size.tokens // 8 - size.tokens // 32 : size.tokens // 8 + 8])
    late = median(times[0][-max(8, size.tokens // 16) :])
    compact = size.uvlm(size.compact_vocabulary)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours_compact = sum(token_times(compact, visual, size.tokens))
    words, few = f"{size.vocabulary:,} words", f"{size.compact_vocabulary:,} words"
    way = "whole sequence anew, all logits"
    measured_at = ", ".join(map(str, lengths))
    return [
        Ratio(f"greedy decoding, {size.tokens} tokens, {words}, fp32", way, theirs, ours, "s", 30,
              f"theirs is one step at {measured_at} tokens, integrated; ours is the median of "
              f"{len(times)} whole reports, reading the visual block included."),
        Ratio(f"the last of {size.tokens} tokens", f"token {size.tokens // 8}, also ours",
              1e3 * early, 1e3 * late, "ms", 1 / 1.1, "medians of the tokens around."),
        Ratio(f"greedy decoding, {size.tokens} tokens, {few}, bf16", f"as above, {words}, fp32",
              theirs, ours_compact, "s", 100, "theirs as above; ours is one whole report."),
        against_transformers(size, model, visual),
        batch_of_eight(size, compact, visual),
    ]  # fmt: skip


@torch.no_grad()
def released_seconds(model: UVLM, visual: Sequence[Tensor], lengths: Sequence[int]) -> float:
    """CPU seconds of a whole report, from single steps at these lengths."""
    seconds = []
    for length in lengths:
        token_ids = torch.full((1, length), SPECIALS.bos)
        seconds.append(cpu_seconds(lambda: released.all_logits(model, visual, token_ids), 2))  # noqa: B023
    return float(np.interp(np.arange(1, lengths[-1] + 1), lengths, seconds).sum())


@torch.no_grad()
def token_times(model: UVLM, visual: Sequence[Tensor], num_tokens: int) -> list[float]:
    """CPU seconds of each token; the first includes the visual block."""
    tokens = torch.full((len(visual[0]),), SPECIALS.bos)
    times, start = [], process_time()
    cache = model.prefill(visual, capacity=num_tokens)
    for _ in range(num_tokens):
        tokens = model.next_logits(tokens, cache).argmax(dim=-1)
        end = process_time()
        times.append(end - start)
        start = end
    return times


def against_transformers(size: Size, model: UVLM, visual: Sequence[Tensor]) -> Ratio:
    """Our loop against Qwen3's `generate` with its cache, after the same number of positions."""
    num_tokens = min(64, size.tokens)
    qwen = qwen_of_equal_size(size, size.vocabulary)
    model.specials = replace(SPECIALS, eos=NEVER)
    prefix = torch.randn(1, visual[0].shape[1] + 3, size.params.decoder.width)

    def theirs() -> None:
        mask = torch.ones(prefix.shape[:2], dtype=torch.long)
        qwen.generate(
            inputs_embeds=prefix, attention_mask=mask, max_new_tokens=num_tokens,
            min_new_tokens=num_tokens, do_sample=False, use_cache=True, pad_token_id=0,
        )  # fmt: skip

    def ours() -> None:
        write_reports(model, visual, Decoding(num_tokens))

    seconds = cpu_seconds_of_both(theirs, ours, size.repeats)
    counts = [sum(p.numel() for p in m.parameters()) / 1e6 for m in (qwen, model.decoder)]
    return Ratio(
        f"greedy decoding, {num_tokens} tokens, fp32", "transformers' Qwen3 with its cache",
        *seconds, "s", 1.0,
        f"medians of {size.repeats} in turn, reading the visual block included; "
        f"{counts[0]:.1f} M weights there, {counts[1]:.1f} M here.",
    )  # fmt: skip


def qwen_of_equal_size(size: Size, vocabulary: int) -> Any:
    """Build a random Qwen3 as wide and deep; its feed-forward has three matrices, ours two."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    decoder = size.params.decoder
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=decoder.width,
        intermediate_size=round(decoder.ffn * 2 / 3),
        num_hidden_layers=decoder.layers,
        num_attention_heads=decoder.heads,
        num_key_value_heads=decoder.heads,
        head_dim=decoder.width // decoder.heads,
        tie_word_embeddings=True,
        bos_token_id=SPECIALS.bos,
        eos_token_id=None,
        pad_token_id=SPECIALS.pad,
        attn_implementation="sdpa",
    )
    return Qwen3ForCausalLM(config).eval()


def batch_of_eight(size: Size, model: UVLM, visual: Sequence[Tensor]) -> Ratio:
    """Eight reports at once against one after the other."""
    num_tokens = size.tokens // 2
    eight = [tokens.expand(8, -1, -1) for tokens in visual]
    single, together = cpu_seconds_of_both(
        lambda: token_times(model, visual, num_tokens),
        lambda: token_times(model, eight, num_tokens),
        size.repeats,
    )
    return Ratio(
        f"8 reports of {num_tokens} tokens at once, {size.compact_vocabulary:,} words, fp32",
        "8 times one", 8 * single, together, "s", 2.5,
        f"medians of {size.repeats} in turn; theirs is one report, times 8.",
    )  # fmt: skip

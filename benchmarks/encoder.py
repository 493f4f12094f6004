"""The encoder's forward pass on a CPU: as prepared for inference, against fp32 as it is."""

from __future__ import annotations

import copy

import torch

from benchmarks.measure import cpu_seconds_of_both
from benchmarks.ratios import Ratio
from benchmarks.sizes import Size
from uvlm.model.build import build_encoder
from uvlm.model.fast_norm import use_group_norms


def measure(size: Size) -> list[Ratio]:
    """Measure all rows of this family."""
    torch.manual_seed(0)
    encoder = build_encoder(size.params.encoder).eval()
    fast = copy.deepcopy(encoder).to(memory_format=torch.channels_last_3d)
    use_group_norms(fast)
    x = torch.randn(1, 1, *size.patch)

    @torch.no_grad()
    def theirs() -> list[torch.Tensor]:
        return list(encoder(x))

    @torch.no_grad()
    def ours() -> list[torch.Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return list(fast(x))

    seconds = cpu_seconds_of_both(theirs, ours, size.repeats)
    with torch.no_grad():
        pairs = [*zip(theirs(), fast(x), strict=True)]
    largest = max(float((one - other).abs().max()) for one, other in pairs)
    return [
        Ratio(f"encoder forward, {' x '.join(map(str, size.patch))}", "fp32, eager", *seconds,
              "s", 2.0,
              f"medians of {size.repeats} in turn; bf16, channels last, group norms of one channel "
              f"(which in fp32 change features by at most {largest:.0e}).")
    ]  # fmt: skip

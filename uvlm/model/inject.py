"""Multi-layer visual injection (paper eq. 5).

    h_j(v) = LM_j( h_{j-1}(v) + Proj_j( Align_r( f_{N-j+1} ) ) ),   h_j(t) = LM_j( h_{j-1}(t) )

Features are added before language layer j and only at visual positions; deep stages feed early
layers. Stages and layers count from 1, as in the paper. `after_attention` adds them between the
layer's attention and its feed-forward instead, as the authors' release does.

B batch, L sequence, K visual tokens, E width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from uvlm.errors import ConfigError

FIRST_VISUAL = 1  # position 0 of the sequence holds <start_of_image>

Plan = dict[int, int]
Position = Literal["before_layer", "after_attention"]


def injection_plan(
    kind: Literal["multi_layer", "input_only"], layer_by_stage: Mapping[int, int]
) -> Plan:
    """Map every language layer to the encoder stage that feeds it, in the order of layers.

    The plan is empty for `input_only`: features then enter at the input alone.
    """
    if kind == "input_only":
        return {}
    plan: Plan = {}
    for stage, layer in layer_by_stage.items():
        if layer in plan:
            fact = f"stages {plan[layer]} and {stage} both feed layer {layer}"
            raise ConfigError("injection.layer_by_stage", fact, "use a different layer for each")
        plan[layer] = stage
    return dict(sorted(plan.items()))


def inject(hidden: Tensor, visual: Tensor) -> Tensor:
    """Add `visual` (B, K, E) to the K visual positions of `hidden` (B, L, E); leave text alone."""
    num_visual = visual.shape[1]
    sizes = [FIRST_VISUAL, num_visual, hidden.shape[1] - FIRST_VISUAL - num_visual]
    before, tokens, after = hidden.split(sizes, dim=1)
    return torch.cat([before, tokens + visual, after], dim=1)  # autograd needs `hidden` unchanged

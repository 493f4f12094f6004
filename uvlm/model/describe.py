"""What a set of parameters builds, counted without allocating it, for `uvlm info` and the tracker.

Modules are built on PyTorch's meta device, so the paper's sizes cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from uvlm.config import Params
from uvlm.model.align import feature_grids, num_visual_tokens, token_counts
from uvlm.model.build import build_classifier, build_unet, build_uvlm
from uvlm.model.cues import CueSizes
from uvlm.model.inject import injection_plan
from uvlm.model.pretrained import Pretrained, QwenOrigin, read_architecture
from uvlm.model.uvlm import SpecialIds

QWEN3_VOCABULARY_SIZE = 151_669
Row = tuple[str, str | int]


class _WithoutCompiler(TorchFunctionMode):
    """Keeps from the meta device what torch does in Python there: it would import its compiler.

    That takes more than a second. Random numbers have no place in a tensor without memory anyway,
    and the few positions of `arange` and masks of regions, made by `zeros`, may be real.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run one function of torch."""
        kwargs = kwargs or {}
        if func.__name__ == "normal_":  # of torch.nn.init, or of the tensor
            return args[0] if args else kwargs["tensor"]
        is_real = func in (torch.arange, torch.zeros)
        return func(*args, **(kwargs | {"device": "cpu"} if is_real else kwargs))


def count_parameters(module: nn.Module) -> int:
    """Count the weights of a module; shared ones count once."""
    return sum(parameter.numel() for parameter in module.parameters())


def describe(
    params: Params, num_classes: int = 49, num_abnormalities: int = 18, num_values: int = 8
) -> list[Row]:
    """List visual tokens K, stage grids, injection plan and parameter counts as (name, value).

    `num_classes` of the label scheme, `num_abnormalities` and the `num_values` of their attributes
    only size output layers and cues.
    """
    encoder, injection, grid = params.encoder, params.injection, params.preprocess.grid
    reference = injection.reference_stage
    grids = feature_grids(grid, encoder.strides)
    own = token_counts(grid, encoder.strides, reference, injection.deeper)
    plan = injection_plan(injection.kind, injection.layer_by_stage)
    plan_text = " ".join(f"f{stage}->L{layer}" for layer, stage in plan.items())
    with torch.device("meta"), _WithoutCompiler():
        unet = build_unet(encoder, num_classes)
        sizes = num_abnormalities, num_values if params.classifier.attributes else 0
        classifier = build_classifier(encoder, params.classifier, grid, *sizes)
        # Behind encoder and classifier, so that what these cannot do is said without a Qwen3 too.
        architecture = None if params.decoder.kind == "scratch" else read_architecture()
        vocabulary_size = _vocabulary_size(params, architecture)
        qwen = QwenOrigin(Pretrained(architecture, sha256="")) if architecture else None
        specials = SpecialIds(0, 1, 2, 3, 4)
        words, queries = (vocabulary_size, specials, qwen), params.classifier.num_queries
        cues = CueSizes(num_abnormalities, (sizes[1],) if sizes[1] else (), queries)
        uvlm = build_uvlm(encoder, params.decoder, injection, grid, *words, cues)
    decoder = count_parameters(uvlm.decoder)
    wider = (QWEN3_VOCABULARY_SIZE - vocabulary_size) * params.decoder.width
    return [
        ("visual tokens K", num_visual_tokens(grid, encoder.strides, reference)),
        ("reference stage", reference),
        ("stage grids", " ".join("x".join(map(str, stage_grid)) for stage_grid in grids)),
        ("tokens by stage", " ".join(map(str, own))),
        ("injection", plan_text or "input only"),
        ("injected", injection.position.replace("_", " ")),
        ("vocabulary", vocabulary_size),
        ("encoder parameters", count_parameters(unet.encoder)),
        ("unet parameters", count_parameters(unet)),
        ("classifier parameters", count_parameters(classifier)),
        ("decoder parameters", decoder),
        ("with Qwen3's vocabulary", decoder if qwen else decoder + wider),
        ("decoder trained", sum(p.numel() for p in uvlm.decoder.parameters() if p.requires_grad)),
        ("projection parameters", count_parameters(uvlm.projections)),
    ]


def _vocabulary_size(params: Params, architecture: Mapping[str, Any] | None) -> int:
    """Count the ids of the tokenizer; a Qwen3 with fewer rows comes with a smaller tokenizer."""
    if params.tokenizer.kind == "bpe":
        return params.tokenizer.vocabulary_size
    rows = int(architecture["vocab_size"]) if architecture else QWEN3_VOCABULARY_SIZE
    return min(QWEN3_VOCABULARY_SIZE, rows)

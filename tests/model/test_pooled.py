"""Pooled tokens: averages that no layer has to learn, behind the image and in front of cues."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from tests.model.conftest import GRID, SPECIALS
from uvlm.config import ClassifierConfig, DecoderConfig, EncoderConfig, InjectionConfig
from uvlm.errors import ConfigError
from uvlm.model.align import align, feature_grids
from uvlm.model.build import build_classifier, build_encoder, build_uvlm
from uvlm.model.cues import CueSizes
from uvlm.model.pooled import PooledTokens, Pooler, num_pooled

Pooling = Literal["queries", "regions", "both"]
HEAD = ClassifierConfig(num_queries=4, heads=2, dropout=0.0)
SIZES = CueSizes(3, (2,), num_queries=4)


@pytest.mark.parametrize("deeper", ["zeros", "interpolated"])
@pytest.mark.parametrize("pooling", ["queries", "regions", "both"])
def test_pooled_are_the_queries_and_averages_of_halves(
    pooling: Pooling, deeper: Literal["zeros", "interpolated"], encoder_config: EncoderConfig
) -> None:
    torch.manual_seed(0)
    classifier = build_classifier(encoder_config, HEAD, GRID, 3).eval()
    grids = feature_grids(GRID, encoder_config.strides)
    features = build_encoder(encoder_config).eval()(torch.randn(2, 1, *GRID))
    aligned = align(features, 4, "average", deeper)
    found = Pooler(pooling, classifier, grids, 4, deeper)(aligned)
    deepest = features[-1]  # (2, 8, 1, 2, 2)
    queries = classifier.embed(deepest).unflatten(1, (4, 8))
    right, left = (deepest[..., x].mean(dim=(2, 3)) for x in (0, 1))
    regions = torch.stack([right, left] * 4, dim=1)  # one slice has no upper half
    expected = {"queries": [queries], "regions": [regions], "both": [queries, regions]}[pooling]
    torch.testing.assert_close(found, torch.cat(expected, dim=1))
    assert found.shape[1] == num_pooled(pooling, 4)
    assert not found.requires_grad  # the classifier does not learn from reports


def test_tokens_are_standardised_over_training_cases() -> None:
    tokens = PooledTokens(3, 5, 8)
    pooled = 7 + 3 * torch.randn(50, 3, 5, generator=torch.Generator().manual_seed(0))
    pooled[:, 1, 2] = 4.0
    tokens.standardise(pooled)
    for place in range(3):
        own = pooled[:, place].numpy()
        x = (own - own.mean(axis=0)) / own.std(axis=0).clip(1e-30)
        x[:, (own.std(axis=0) < 1e-6)] = 0  # says nothing
        expected = torch.from_numpy(x) @ tokens.linear.weight.T + tokens.names.weight[place]
        torch.testing.assert_close(tokens(pooled)[:, place], expected, atol=1e-5, rtol=1e-4)


def test_pooled_tokens_stand_between_the_image_and_the_cues(
    encoder_config: EncoderConfig,
    decoder_config: DecoderConfig,
    injection_config: InjectionConfig,
    visual: list[Tensor],
    token_ids: Tensor,
) -> None:
    changes = {"cues": "both", "pooled": "both"}
    parts = encoder_config, decoder_config, injection_config.model_copy(update=changes)
    torch.manual_seed(0)
    uvlm = build_uvlm(*parts, GRID, 40, SPECIALS, None, SIZES).eval()
    pooled, evidence = torch.randn(2, 12, 8), torch.randn(2, 3, 3)
    seen = [*visual, pooled, evidence]
    block, _ = uvlm._visual_block(seen)
    assert uvlm.pooled is not None
    assert uvlm.cues is not None
    behind = [uvlm.pooled(pooled), uvlm.cues(evidence)]
    assert torch.equal(block[:, 33:48], torch.cat(behind, dim=1))
    uvlm.pooled = uvlm.cues = None
    plain, _ = uvlm._visual_block(visual)
    assert torch.equal(torch.cat([block[:, :33], block[:, 48:]], dim=1), plain)
    with pytest.raises(ConfigError, match=r"injection\.pooled"):
        build_uvlm(*parts[:2], injection_config.model_copy(update={"pooled": "queries"}), GRID, 40,
                   SPECIALS)  # fmt: skip


def test_words_written_from_the_cache_see_pooled_tokens(
    encoder_config: EncoderConfig,
    decoder_config: DecoderConfig,
    injection_config: InjectionConfig,
    visual: list[Tensor],
    token_ids: Tensor,
) -> None:
    plan = injection_config.model_copy(update={"pooled": "regions"})
    torch.manual_seed(0)
    uvlm = build_uvlm(encoder_config, decoder_config, plan, GRID, 40, SPECIALS, None, SIZES).eval()
    seen = [*visual, torch.randn(2, 8, 8)]
    whole = uvlm(seen, token_ids)
    cache = uvlm.prefill(seen, token_ids.shape[1])
    for t in range(token_ids.shape[1]):
        torch.testing.assert_close(uvlm.next_logits(token_ids[:, t], cache), whole[:, t])
    other = [*visual, seen[-1].flip(1)]
    assert ((uvlm(other, token_ids) - whole).abs().amax(dim=-1) > 1e-6).all()
    longest = torch.full((2, decoder_config.max_report_tokens + 2), 9)
    assert uvlm(seen, longest).shape == (*longest.shape, 40)

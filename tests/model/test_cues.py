"""Cue tokens: what they hold, who sees them, and that nothing else changes with them."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from tests.model.conftest import GRID, SPECIALS
from uvlm.config import ClassifierConfig, DecoderConfig, EncoderConfig, InjectionConfig
from uvlm.errors import ConfigError
from uvlm.model.attribute_head import AttributeHead, region_averages
from uvlm.model.build import build_classifier, build_uvlm
from uvlm.model.cues import CueForm, CueReadout, CueSizes, CueTokens, likeliest, shifted
from uvlm.model.uvlm import UVLM
from uvlm.text.attributes import VALUE_NAMES, VALUES

SIZES = CueSizes(3, (2,))
ONE, BY_KIND = CueForm(), CueForm(tokens="by_kind")
HEAD = ClassifierConfig(num_queries=4, heads=2, dropout=0.0)


@pytest.fixture
def configs(
    encoder_config: EncoderConfig, decoder_config: DecoderConfig, injection_config: InjectionConfig
) -> tuple[EncoderConfig, DecoderConfig, InjectionConfig]:
    return encoder_config, decoder_config, injection_config.model_copy(update={"cues": "both"})


@pytest.fixture(params=[False, True], ids=["input", "readout"])
def is_read_again(request: pytest.FixtureRequest) -> bool:
    assert isinstance(request.param, bool)
    return request.param


@pytest.fixture
def cued(
    configs: tuple[EncoderConfig, DecoderConfig, InjectionConfig], is_read_again: bool
) -> UVLM:
    torch.manual_seed(0)
    injection = configs[2].model_copy(update={"cue_readout": is_read_again})
    return build_uvlm(*configs[:2], injection, GRID, 40, SPECIALS, None, SIZES).eval()


@pytest.fixture
def evidence() -> Tensor:
    return 3 * torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(4))


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def test_a_token_is_the_name_moved_by_how_sure_the_classifier_is() -> None:
    cues = CueTokens(SIZES, 8, ONE)
    thresholds = [0.5, 0.2, 0.9]
    cues.set_thresholds(torch.tensor(thresholds))
    evidence = torch.tensor([[[1.0, -2.0, 0.5], [-30.0, 4.0, 0.0], [7.0, 1.0, -1.0]]])
    tokens = cues(evidence)
    for a, (presence, *values) in enumerate(evidence[0].tolist()):
        beyond = presence - math.log(thresholds[a] / (1 - thresholds[a]))
        features = [2 * sigmoid(beyond) - 1, min(max(beyond / 4, -1.5), 1.5)]
        features += [2 * sigmoid(value) - 1 for value in values]
        expected = cues.names.weight[a].clone()
        for column, feature in enumerate(features):
            expected = expected + feature * cues.directions.weight[:, column]
        torch.testing.assert_close(tokens[0, a], expected)


def test_at_the_threshold_a_claim_is_neither_made_nor_denied() -> None:
    cues = CueTokens(SIZES, 8, ONE)
    cues.set_thresholds(torch.tensor([0.3, 0.5, 0.8]))
    at = torch.tensor([[[math.log(p / (1 - p)), math.nan, math.nan] for p in (0.3, 0.5, 0.8)]])
    torch.testing.assert_close(cues(at)[0], cues.names.weight)
    torch.testing.assert_close(shifted(shifted(at, 2.0), -2.0), at, equal_nan=True)
    assert torch.equal(shifted(at, 1.0)[..., 0], at[..., 0] + 1.0)


def test_what_is_unknown_leaves_the_name_alone(evidence: Tensor) -> None:
    cues = CueTokens(SIZES, 8, ONE)
    some = evidence.clone()
    some[0, 1] = math.nan
    tokens, whole = cues(some), cues(evidence)
    assert torch.equal(tokens[0, 1], cues.names.weight[1])
    assert torch.equal(tokens[1], whole[1])
    tokens.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in cues.parameters() if p.grad is not None)


@pytest.mark.parametrize(("kind", "read"), [("presence", slice(0, 1)), ("attributes", slice(1, 3))])
def test_cues_of_one_kind_read_nothing_of_the_other(
    kind: Literal["presence", "attributes"], read: slice, evidence: Tensor
) -> None:
    both, cues = CueTokens(SIZES, 8, ONE), CueTokens(SIZES, 8, CueForm(kind))
    cues.load_state_dict(both.state_dict())
    known = torch.full_like(evidence, math.nan)
    known[..., read] = evidence[..., read]
    assert torch.equal(cues(evidence), both(known))
    assert not torch.equal(cues(evidence), both(evidence))


def test_one_token_by_kind_holds_its_kind_alone() -> None:
    """By hand: presence and both kinds of values, each added to the names of the two."""
    sizes = CueSizes(2, (2, 3))
    cues = CueTokens(sizes, 8, BY_KIND)
    evidence = 2 * torch.randn(3, 2, 6, generator=torch.Generator().manual_seed(1))
    tokens = cues(evidence).unflatten(1, (2, 3))
    columns = {0: [0, 1], 1: [2, 3], 2: [4, 5, 6]}  # of the features
    assert cues.of_kind is not None
    for b, a, part in itertools.product(range(3), range(2), range(3)):
        logits = evidence[b, a].tolist()
        features = [2 * sigmoid(logits[0]) - 1, min(max(logits[0] / 4, -1.5), 1.5)]
        features += [2 * sigmoid(value) - 1 for value in logits[1:]]
        expected = cues.names.weight[a] + cues.of_kind.weight[part]
        for column in columns[part]:
            expected = expected + features[column] * cues.directions.weight[:, column]
        torch.testing.assert_close(tokens[b, a, part], expected)


@pytest.mark.parametrize(("known", "count"), [("presence", 1), ("attributes", 2), ("both", 3)])
def test_by_kind_there_is_a_token_of_what_is_known(
    known: Literal["presence", "attributes", "both"], count: int
) -> None:
    sizes = CueSizes(4, (2, 3))
    evidence = torch.randn(1, 4, 6)
    assert CueTokens(sizes, 8, CueForm(known, "by_kind"))(evidence).shape[1] == 4 * count
    assert CueTokens(sizes, 8, CueForm(known))(evidence).shape[1] == 4


def test_the_likeliest_value_is_said_and_nothing_of_what_is_unknown() -> None:
    rows = [
        ([0.2, -0.1], [-0.5, -0.9, -0.1], [1, -1, -1, -1, 1]),  # the least unlikely lobe
        ([0.3, 0.1], [-0.5, 0.4, 0.2], [1, 1, -1, 1, 1]),  # both, as both are likely
        ([0.0, 0.0], [0.1, -0.1, 0.0], [0, 0, 1, -1, -1]),  # never fitted: no side
        ([math.nan] * 2, [math.nan] * 3, [0] * 5),
    ]
    for side, lobe, expected in rows:
        assert likeliest(torch.tensor([*side, *lobe]), (2, 3)).tolist() == expected
    cues = CueTokens(SIZES, 8, CueForm(values="likeliest"))
    evidence = torch.tensor([[[0.4, 0.1, -0.2], [0.4, 5.0, -5.0], [0.4, 0.3, 0.2]]])
    moved = cues(evidence)[0] - cues.names.weight
    torch.testing.assert_close(moved[0], moved[1])  # how sure the classifier is says nothing
    assert not torch.allclose(moved[0], moved[2])


def test_values_are_counted_by_their_kinds() -> None:
    assert CueSizes.of("abc", VALUE_NAMES) == CueSizes(3, tuple(map(len, VALUES.values())))
    assert CueSizes.of("abc", ()) == CueSizes(3, ())


def test_cues_come_behind_the_image_and_move_no_visual_token(
    cued: UVLM, visual: list[Tensor], evidence: Tensor
) -> None:
    block, injections = cued._visual_block([*visual, evidence])
    cues, cued.cues = cued.cues, None
    plain, same = cued._visual_block(visual)
    assert cues is not None
    assert block.shape[1] == plain.shape[1] + 3
    assert torch.equal(block[:, :-4], plain[:, :-1])
    assert torch.equal(block[:, -4:-1], cues(evidence))
    assert torch.equal(block[:, -1:], plain[:, -1:])
    assert all(torch.equal(injections[layer], same[layer]) for layer in same)


def test_every_word_sees_every_cue(
    cued: UVLM, visual: list[Tensor], evidence: Tensor, token_ids: Tensor
) -> None:
    before = cued([*visual, evidence], token_ids)
    for a in range(3):
        other = evidence.clone()
        other[:, a] += 2.0
        moved = (cued([*visual, other], token_ids) - before).abs().amax(dim=-1)
        assert (moved > 1e-6).all()


def test_words_written_from_the_cache_see_the_same_cues(
    cued: UVLM, visual: list[Tensor], evidence: Tensor, token_ids: Tensor
) -> None:
    seen = [*visual, evidence]
    whole = cued(seen, token_ids)
    cache = cued.prefill(seen, token_ids.shape[1])
    for t in range(token_ids.shape[1]):
        torch.testing.assert_close(cued.next_logits(token_ids[:, t], cache), whole[:, t])


def test_beams_read_the_cues_of_their_row(
    cued: UVLM, visual: list[Tensor], evidence: Tensor, token_ids: Tensor
) -> None:
    seen, twice = [*visual, evidence], token_ids[:, :1].repeat_interleave(2, dim=0)
    alone, beams = cued.prefill(seen, 2), cued.prefill(seen, 2)
    beams.repeat(2)
    expected = cued.next_logits(token_ids[:, 0], alone).repeat_interleave(2, dim=0)
    torch.testing.assert_close(cued.next_logits(twice[:, 0], beams), expected)


@torch.no_grad()
def test_text_reads_cues_by_the_equation_of_the_module() -> None:
    """A naive loop over texts, positions and heads."""
    torch.manual_seed(3)
    readout = CueReadout(8, 2)
    hidden, tokens = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    found = readout(hidden, tokens)
    cues = readout.norm(tokens)
    for b, t in itertools.product(range(2), range(3)):
        read = []
        for head in (slice(0, 4), slice(4, 8)):
            query = readout.query(hidden[b, t])[head]
            scores = [float(query @ readout.key(cue)[head]) / 2 for cue in cues[b]]
            total = sum(math.exp(score) for score in scores)
            shares = [math.exp(score) / total for score in scores]
            values = [readout.value(cue)[head] for cue in cues[b]]
            read.append(sum(s * value for s, value in zip(shares, values, strict=True)))
        expected = hidden[b, t] + readout.out(torch.cat(read))
        torch.testing.assert_close(found[b, t], expected)


def test_a_readout_alone_carries_cues_past_a_decoder_that_ignores_them(
    cued: UVLM, visual: list[Tensor], evidence: Tensor, token_ids: Tensor, is_read_again: bool
) -> None:
    """What layers make of the cue tokens is cut off; only the readout can still tell."""
    block = cued._visual_block

    def blind(seen: list[Tensor]) -> tuple[Tensor, dict[int, Tensor]]:
        return block([*seen[:-1], torch.full_like(seen[-1], torch.nan)])

    cued._visual_block = blind  # type: ignore[method-assign,assignment]
    one, other = (cued([*visual, e], token_ids) for e in (evidence, -evidence))
    assert torch.equal(one, other) != is_read_again


def test_the_longest_report_still_fits_behind_the_cues(
    cued: UVLM, visual: list[Tensor], evidence: Tensor, decoder_config: DecoderConfig
) -> None:
    longest = torch.full((2, decoder_config.max_report_tokens + 2), 9)
    assert cued([*visual, evidence], longest).shape == (*longest.shape, 40)


def test_without_cues_a_model_is_the_same_to_the_bit(
    cued: UVLM,
    encoder_config: EncoderConfig,
    decoder_config: DecoderConfig,
    injection_config: InjectionConfig,
) -> None:
    torch.manual_seed(0)
    parts = encoder_config, decoder_config, injection_config
    plain = build_uvlm(*parts, GRID, 40, SPECIALS, None, SIZES).eval()
    state = cued.state_dict()
    added = {name for name in state if name.startswith(("cues.", "readout."))}
    assert plain.cues is None
    assert state.keys() - added == plain.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in plain.state_dict().items())


def test_cues_without_a_classifier_are_refused(
    configs: tuple[EncoderConfig, DecoderConfig, InjectionConfig],
) -> None:
    with pytest.raises(ConfigError, match=r"injection\.cues"):
        build_uvlm(*configs, GRID, 40, SPECIALS)


def test_a_second_head_leaves_the_first_as_it_is(encoder_config: EncoderConfig) -> None:
    torch.manual_seed(2)
    plain = build_classifier(encoder_config, HEAD, GRID, 3).eval()
    torch.manual_seed(2)
    both = build_classifier(encoder_config, HEAD, GRID, 3, 5).eval()
    deepest = torch.randn(2, 8, 1, 2, 2)
    evidence = both.evidence(deepest)
    assert evidence.shape == (2, 3, 1 + 5)
    assert torch.equal(both(deepest), plain(deepest))
    assert torch.equal(evidence[..., 0], plain(deepest))
    assert (evidence[..., 1:] == 0).all()  # nothing is fitted yet
    assert torch.equal(plain.evidence(deepest), plain(deepest)[..., None])


def test_regions_are_averages_of_halves_by_a_naive_loop() -> None:
    grid = (4, 3, 6)
    tokens = torch.randn(2, 4 * 3 * 6, 5)
    head = AttributeHead(5, 3, 2, grid)
    found = head.pooled(tokens).unflatten(1, (24, 5))
    volume = tokens.unflatten(1, grid)
    place = 0
    for rows in (range(3), range(1), range(2, 3)):  # all, front, back
        for slices in (range(4), range(2), range(2, 4), range(1, 3)):
            for columns in (range(3), range(3, 6)):
                part = volume[:, list(slices)][:, :, list(rows)][:, :, :, list(columns)]
                torch.testing.assert_close(found[:, place], part.mean(dim=(1, 2, 3)))
                place += 1
    first = torch.einsum("rk,bkc->brc", region_averages(grid), tokens)
    torch.testing.assert_close(found[:, :8], first)


@pytest.mark.parametrize("grid", [(1, 1, 1), (1, 2, 2), (3, 5, 7)])
def test_every_region_of_any_grid_has_voxels(grid: tuple[int, int, int]) -> None:
    for weights, count in (
        (region_averages(grid), 8),
        (region_averages(grid, front_and_back=True), 24),
    ):
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(count))


@pytest.mark.parametrize("count", [40, 400])
def test_the_fit_is_the_ridge_of_scikit_learn(count: int) -> None:
    """Once with fewer cases than features, once with more; two values are known together."""
    rng = np.random.default_rng(1)
    head = AttributeHead(4, 2, 3, (2, 2, 2))
    pooled = rng.normal(3, 2, (count, 96))
    said = rng.integers(-1, 2, (count, 2, 3))
    said[..., 2] = np.where(said[..., 0] < 0, -1, 1 - said[..., 0])
    head.fit(torch.from_numpy(pooled).float(), torch.from_numpy(said).float())
    x = (pooled - pooled.mean(axis=0)) / pooled.std(axis=0)
    for a in range(2):
        for v in range(3):
            known = said[:, a, v] >= 0
            model = Ridge(alpha=known.sum()).fit(x[known], 2 * said[known, a, v] - 1)
            np.testing.assert_allclose(head.weight[a, v].numpy(), model.coef_, atol=1e-5)
            np.testing.assert_allclose(float(head.bias[a, v]), model.intercept_, atol=1e-5)


def test_a_value_of_too_few_cases_stays_unknown() -> None:
    head = AttributeHead(2, 1, 2, (2, 2, 2))
    said = torch.full((30, 1, 2), -1.0)
    said[:3, 0, 0] = 1
    said[:, 0, 1] = torch.arange(30) % 2
    head.fit(torch.randn(30, 48), said)
    logits = head(torch.randn(3, 8, 2))
    assert (logits[:, 0, 0] == 0).all()
    assert (logits[:, 0, 1] != 0).all()


def test_a_mirrored_volume_has_the_other_side_and_the_same_height() -> None:
    """A bright voxel, right or left, above or below, in a channel among noise."""
    generator = torch.Generator().manual_seed(0)
    volumes = torch.randn(240, 4, 4, 6, 6, generator=generator)  # (N, C, D, H, W)
    said = torch.zeros(240, 1, 4)
    for number in range(240):
        is_left, is_high = number % 2, number // 2 % 2
        z, y, x = torch.randint(0, 2, (3,), generator=generator).tolist()
        volumes[number, 1, z + 2 * is_high, y + 2, x + 4 * is_left] += 80
        said[number, 0] = torch.tensor([1 - is_left, is_left, is_high, 1 - is_high])
    head = AttributeHead(4, 1, 4, (4, 6, 6))
    tokens = volumes.flatten(2).transpose(1, 2)
    head.fit(head.pooled(tokens[:160]), said[:160])
    mirrored = volumes.flip(-1).flatten(2).transpose(1, 2)
    truth = said[160:, 0] > 0
    assert torch.equal(head(tokens[160:])[:, 0] > 0, truth)
    assert torch.equal(head(mirrored[160:])[:, 0] > 0, truth[:, [1, 0, 2, 3]])

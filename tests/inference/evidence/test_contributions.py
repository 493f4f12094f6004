"""Maps of a classifier: what places add up to its logit, and what covering a place costs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from uvlm.inference.evidence.contributions import contributions
from uvlm.inference.evidence.occlusion import blocks_of, covered, occlusion
from uvlm.model.classifier import Classifier


def classifier(places: int = 12) -> Classifier:
    torch.manual_seed(0)
    made = Classifier(16, 5, num_queries=3, heads=4, grid_tokens=places, dropout=0.1).eval()
    for weight in made.parameters():  # norms and biases too, which start at ones and zeros
        weight.data.add_(0.3 * torch.randn_like(weight))
    return made


def test_contributions_and_the_constant_add_up_to_the_logits() -> None:
    model, deepest = classifier(), 2 * torch.randn(4, 12, 16)
    parts, constant = contributions(model, deepest)
    assert parts.shape == (4, 5, 12)
    with torch.no_grad():
        expected = model(deepest)
    torch.testing.assert_close(parts.sum(-1) + constant, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_place_that_no_query_attends_to_contributes_nothing() -> None:
    model, deepest = classifier(), torch.randn(1, 12, 16)
    bias = model.attention.in_proj_bias.data
    bias.zero_()
    query = (model.queries @ model.attention.in_proj_weight[:16].T).detach()
    # A key against which every query has a large negative product, in every head.
    key = -50 * torch.linalg.lstsq(query, torch.ones(3, 1)).solution[:, 0]
    for head in range(4):
        part = slice(4 * head, 4 * head + 4)
        solved = torch.linalg.lstsq(query[:, part], torch.ones(3, 1)).solution[:, 0]
        key[part] = -200 * solved
    wanted = torch.linalg.solve(model.attention.in_proj_weight[16:32].detach(), key)
    model.positions.data[7] = wanted - model.norm(deepest)[0, 7].detach()
    parts, _ = contributions(model, deepest)
    assert parts[0, :, 7].abs().max() < 1e-5 < parts[0, :, 6].abs().max()


def test_blocks_cover_every_voxel_once() -> None:
    for shape, per_axis in (((7, 9, 11), 3), ((2, 5, 5), 4), ((8, 8, 8), 1)):
        times = np.zeros(shape, int)
        for block in blocks_of(shape, per_axis):
            times[block] += 1
        assert (times == 1).all()


def test_a_covered_block_looks_like_what_is_around_it() -> None:
    voxels = np.full((9, 9, 9), -0.5, np.float32)
    voxels[3:6, 3:6, 3:6] = 1.0
    block = (slice(3, 6),) * 3
    assert (covered(voxels, block) == -0.5).all()
    assert voxels[4, 4, 4] == 1.0


def test_the_map_is_the_fall_of_the_logit_for_each_covered_block() -> None:
    voxels = np.random.default_rng(0).normal(size=(4, 6, 6)).astype(np.float32)
    weight = np.random.default_rng(1).normal(size=(2, 4, 6, 6))

    def logits_of(batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        logits: npt.NDArray[np.float64] = np.einsum("bzyx,azyx->ba", batch.astype(float), weight)
        return logits

    found = occlusion(voxels, logits_of, per_axis=2)
    assert found.shape == (2, 2, 2, 2)
    for place, block in zip(np.ndindex(2, 2, 2), blocks_of(voxels.shape, 2), strict=True):
        change = (voxels - covered(voxels, block)).astype(float)
        expected = np.einsum("zyx,azyx->a", change, weight)
        assert found[:, *place] == pytest.approx(expected, abs=1e-5)

"""Projection: padding stays exactly zero, standardisation is the usual formula."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from uvlm.model.projection import Projection

Kind = Literal["linear", "mlp"]


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_padded_tokens_are_exactly_zero_after_projection(kind: Kind) -> None:
    projection = Projection(3, 8, kind, num_tokens=4)
    projection.set_standardisation(torch.full((3,), 2.0), torch.full((3,), 0.5))
    for parameter in projection.parameters():
        torch.nn.init.normal_(parameter)
    tokens = torch.cat([torch.randn(2, 4, 3), torch.zeros(2, 6, 3)], dim=1)
    projected = projection(tokens)
    assert projected.shape == (2, 10, 8)
    assert torch.count_nonzero(projected[:, 4:]) == 0
    assert torch.count_nonzero(projected[:, :4]) == 2 * 4 * 8


def test_linear_projection_is_a_standardised_affine_map() -> None:
    projection = Projection(3, 2, "linear", num_tokens=5)
    tokens, mean, std = torch.randn(1, 5, 3), torch.randn(3), torch.rand(3) + 0.5
    plain = projection(tokens)
    projection.set_standardisation(mean, std)
    linear = projection.net
    assert isinstance(linear, torch.nn.Linear)
    torch.testing.assert_close(plain, tokens @ linear.weight.T + linear.bias)
    torch.testing.assert_close(
        projection(tokens), ((tokens - mean) / std) @ linear.weight.T + linear.bias
    )


def test_mlp_projection_is_norm_twice_the_width_gelu_the_width_norm() -> None:
    projection = Projection(3, 2, "mlp", num_tokens=5)
    for weight in projection.parameters():
        torch.nn.init.normal_(weight)
    tokens, mean, std = torch.randn(1, 5, 3), torch.randn(3), torch.rand(3) + 0.5
    projection.set_standardisation(mean, std)
    g0, b0, w1, b1, w2, b2, g3, b3 = projection.net.parameters()
    assert (w1.shape, w2.shape) == ((4, 3), (2, 4))

    def norm(x: Tensor) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()

    inner = (norm((tokens - mean) / std) * g0 + b0) @ w1.T + b1
    gelu = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    expected = norm(gelu @ w2.T + b2) * g3 + b3
    torch.testing.assert_close(projection(tokens), expected)


def test_a_constant_channel_is_centred_and_not_divided() -> None:
    projection = Projection(2, 4, "linear", num_tokens=1)
    projection.set_standardisation(torch.tensor([7.0, 0.0]), torch.tensor([0.0, 1.0]))
    assert torch.isfinite(projection(torch.tensor([[[7.0, 1.0]]]))).all()


def test_standardisation_is_saved_with_the_weights() -> None:
    projection = Projection(2, 4, "linear", num_tokens=1)
    projection.set_standardisation(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
    other = Projection(2, 4, "linear", num_tokens=1)
    other.load_state_dict(projection.state_dict())
    tokens = torch.randn(1, 1, 2)
    assert torch.equal(other(tokens), projection(tokens))

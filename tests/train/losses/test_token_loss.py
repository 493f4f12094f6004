"""The token loss in chunks against torch's on the whole table of logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from uvlm.train.losses import token_loss
from uvlm.train.losses.token_loss import token_cross_entropy

NUM_TOKENS, WIDTH, VOCABULARY = 23, 16, 101


@pytest.fixture
def tensors() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = 3 * torch.randn(NUM_TOKENS, WIDTH, generator=generator)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator)
    return hidden, weight, torch.randint(0, VOCABULARY, (NUM_TOKENS,), generator=generator)


def leaves(hidden: Tensor, weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    one, other = (tensor.to(dtype, copy=True).requires_grad_() for tensor in (hidden, weight))
    return one, other


@pytest.mark.parametrize("rows", [1, 5, 22])
def test_chunks_give_the_loss_and_the_gradients_of_the_whole_table(
    rows: int, tensors: tuple[Tensor, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_loss, "CHUNK_ELEMENTS", rows * VOCABULARY)
    hidden, weight = leaves(*tensors[:2], torch.float32)
    loss = token_cross_entropy(hidden, weight, tensors[2])
    (0.3 * loss).backward()
    exact = leaves(*tensors[:2], torch.float64)
    expected = F.cross_entropy(exact[0] @ exact[1].t(), tensors[2])
    (0.3 * expected).backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for one, other in zip((hidden, weight), exact, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert (one.grad - other.grad).abs().max() < 1e-6 * other.grad.abs().max()


@pytest.mark.parametrize("elements", [VOCABULARY, 5 * VOCABULARY, 10**6])
def test_weighted_tokens_are_averaged_one_by_one(
    elements: int, tensors: tuple[Tensor, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_loss, "CHUNK_ELEMENTS", elements)
    counts = torch.tensor([1.0, 3.0, 1.0, 2.5] * 6)[:NUM_TOKENS]
    hidden, weight = leaves(*tensors[:2], torch.float32)
    loss = token_cross_entropy(hidden, weight, tensors[2], counts)
    (0.3 * loss).backward()
    exact = leaves(*tensors[:2], torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for state, target, count in zip(exact[0], tensors[2], counts, strict=True):
        total = total - count * (exact[1] @ state).log_softmax(dim=0)[target]
    expected = total / float(counts.sum())
    (0.3 * expected).backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for one, other in zip((hidden, weight), exact, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert (one.grad - other.grad).abs().max() < 1e-6 * other.grad.abs().max()


def test_a_small_vocabulary_gives_torchs_loss_to_the_last_bit(
    tensors: tuple[Tensor, Tensor, Tensor],
) -> None:
    hidden, weight = leaves(*tensors[:2], torch.float32)
    token_cross_entropy(hidden, weight, tensors[2]).backward()
    plain = leaves(*tensors[:2], torch.float32)
    F.cross_entropy(F.linear(*plain), tensors[2]).backward()
    assert hidden.grad is not None
    assert weight.grad is not None
    assert plain[0].grad is not None
    assert plain[1].grad is not None
    assert torch.equal(hidden.grad, plain[0].grad)
    assert torch.equal(weight.grad, plain[1].grad)


def test_a_weight_that_is_also_the_embedding_gets_both_gradients(
    tensors: tuple[Tensor, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_loss, "CHUNK_ELEMENTS", 4 * VOCABULARY)
    _, weight, targets = tensors
    tied, plain = (weight.clone().requires_grad_() for _ in range(2))
    token_cross_entropy(F.embedding(targets.flip(0), tied), tied, targets).backward()
    F.cross_entropy(F.linear(F.embedding(targets.flip(0), plain), plain), targets).backward()
    torch.testing.assert_close(tied.grad, plain.grad, atol=1e-6, rtol=1e-5)


def test_under_autocast_products_are_bf16_and_sums_are_not(
    tensors: tuple[Tensor, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_loss, "CHUNK_ELEMENTS", 5 * VOCABULARY)
    hidden, weight = leaves(*tensors[:2], torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = token_cross_entropy(hidden, weight, tensors[2])
    loss.backward()
    plain = leaves(*tensors[:2], torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = F.cross_entropy(F.linear(*plain).float(), tensors[2])
    expected.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert weight.grad is not None
    assert plain[1].grad is not None
    assert weight.grad.dtype == torch.float32
    assert (weight.grad - plain[1].grad).abs().max() < 0.02 * plain[1].grad.abs().max()


def test_without_gradients_only_the_loss_is_formed(
    tensors: tuple[Tensor, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_loss, "CHUNK_ELEMENTS", 5 * VOCABULARY)
    hidden, weight, targets = tensors
    loss = token_cross_entropy(hidden, weight, targets)
    assert not loss.requires_grad
    assert loss.item() == pytest.approx(F.cross_entropy(F.linear(hidden, weight), targets).item())

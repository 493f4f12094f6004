"""The classifier (eq. 2) against attention written out in numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from uvlm.model.classifier import Classifier

Array = npt.NDArray[np.float64]


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    classifier = Classifier(8, 5, num_queries=3, heads=2, grid_tokens=12, dropout=0.5).eval()
    for parameter in classifier.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return classifier


def layer_norm(x: Array, weight: Array, bias: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled: Array = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * weight + bias


def naive_logits(state: dict[str, Array], tokens: Array) -> Array:
    """One case (K, C): query by query, head by head."""
    values = layer_norm(tokens, state["norm.weight"], state["norm.bias"])
    to_q, to_k, to_v = np.split(state["attention.in_proj_weight"], 3)
    bias_q, bias_k, bias_v = np.split(state["attention.in_proj_bias"], 3)
    k = (values + state["positions"]) @ to_k.T + bias_k
    v = values @ to_v.T + bias_v
    pooled = []
    for query in state["queries"] @ to_q.T + bias_q:
        heads = []
        for head in (slice(0, 4), slice(4, 8)):
            weights = np.exp(k[:, head] @ query[head] / np.sqrt(4))
            heads.append(weights / weights.sum() @ v[:, head])
        mixed = np.concatenate(heads) @ state["attention.out_proj.weight"].T
        pooled.append(mixed + state["attention.out_proj.bias"])
    normed = layer_norm(np.stack(pooled), state["pooled_norm.weight"], state["pooled_norm.bias"])
    return normed.reshape(-1) @ state["linear.weight"].T + state["linear.bias"]


def test_classifier_equals_attention_in_numpy(classifier: Classifier) -> None:
    deepest = torch.randn(2, 8, 3, 2, 2)
    logits = classifier(deepest).detach().numpy()
    state = {k: v.double().numpy() for k, v in classifier.state_dict().items()}
    for case in range(2):
        tokens = deepest[case].reshape(8, 12).T.double().numpy()
        np.testing.assert_allclose(logits[case], naive_logits(state, tokens), atol=1e-5)


def test_feature_maps_and_cached_tokens_give_the_same_logits(classifier: Classifier) -> None:
    deepest = torch.randn(2, 8, 3, 2, 2)
    tokens = deepest.reshape(2, 8, 12).transpose(1, 2)
    assert torch.equal(classifier(deepest), classifier(tokens))


def test_positions_let_a_query_tell_where_a_finding_is(classifier: Classifier) -> None:
    deepest = torch.randn(1, 8, 3, 2, 2)
    mirrored = deepest.flip(-1)
    assert not torch.allclose(classifier(deepest), classifier(mirrored), atol=1e-3)
    classifier.positions.data.zero_()
    torch.testing.assert_close(classifier(deepest), classifier(mirrored))

"""The maps of a real predictor span the CT, and the measured trust comes from beside the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.inference.conftest import GRID, body, lps
from uvlm.data.contract import normalise
from uvlm.data.ct.grid import preprocess_volume
from uvlm.drafts.evidence import attention_maps, deepest_of, occlusion_maps, place_map, spread
from uvlm.inference.predictor import Predictor


def test_maps_belong_to_the_logits_of_the_probabilities(report_folder: Path) -> None:
    predictor = Predictor.load(report_folder)
    volume = lps(body())
    array, _ = preprocess_volume(volume, predictor.preprocess)
    voxels = normalise(array, predictor.preprocess)
    deepest = deepest_of(predictor, voxels[None])
    with torch.no_grad():
        logits = predictor.model.classifier(deepest)[0]
    said = predictor.predict_volume(volume).probabilities
    assert list(said.values()) == pytest.approx(torch.sigmoid(logits).tolist(), abs=1e-5)
    maps = attention_maps(predictor, deepest)
    assert maps.shape == (len(said), 2, 4, 4)
    assert occlusion_maps(predictor, voxels).shape == (len(said), 5, 5, 5)


def test_a_shown_map_covers_the_same_space_as_the_networks_grid() -> None:
    affine = np.array([[0, 0, 3.0, -7], [0, 2.0, 0, 5], [5.0, 0, 0, 1], [0, 0, 0, 1]])
    for sizes in ((8, 16, 16), (2, 4, 4), (5, 9, 7)):
        other = spread(affine, GRID, sizes)
        for corner in ((0, 0, 0), (1, 1, 1), (1, 0, 1)):
            edges = [[c * n - 0.5 for c, n in zip(corner, s, strict=True)] for s in (GRID, sizes)]
            first, second = (a @ [*e, 1] for a, e in zip((affine, other), edges, strict=True))
            assert first == pytest.approx(second)


def test_a_shown_map_peaks_in_the_strongest_place_and_has_no_negative_part() -> None:
    strength = np.full((2, 4, 4), -1.0)
    strength[1, 2, 0] = 4.0
    shown = place_map("contribution", strength, GRID, np.eye(4))
    assert shown.strength.min() == 0
    assert 3.0 < shown.strength.max() <= 4.0  # interpolated between the centres of places
    strongest = np.unravel_index(int(shown.strength.argmax()), shown.strength.shape)
    assert [int(i) // 4 for i in strongest] == [1, 2, 0]
    assert place_map("occlusion", -np.ones((2, 4, 4)), GRID, np.eye(4)).strength.max() == 0

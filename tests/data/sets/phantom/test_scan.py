"""Phantom scans: exact, reproducible, and showing what their words say."""

from __future__ import annotations

import numpy as np
import pytest

from uvlm.data.sets.phantom.abnormalities import CATEGORY_BY_ABNORMALITY
from uvlm.data.sets.phantom.anatomy import (
    AORTA,
    HEART,
    LEFT_LOWER,
    LEFT_UPPER,
    LIVER,
    RIGHT_LOWER,
    RIGHT_UPPER,
    SPLEEN,
    Body,
    body_coordinates,
    paint_anatomy,
)
from uvlm.data.sets.phantom.scan import Scan, draw_scan, reconstruct
from uvlm.text.abnormalities import ABNORMALITIES

SHAPE = (36, 54, 54)


def scan_with(*abnormalities: str, seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> Scan:
    generator = np.random.default_rng(seed)
    return draw_scan(Body.draw(generator), abnormalities, shape, generator)


def centre_of(mask: np.ndarray) -> np.ndarray:
    centre: np.ndarray = np.argwhere(mask).mean(axis=0)
    return centre


def test_the_same_seed_paints_the_same_voxels() -> None:
    first, second = (scan_with(*ABNORMALITIES[:9], seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.hu, second.hu)
    np.testing.assert_array_equal(first.organs, second.organs)


def test_all_eighteen_fit_into_one_body() -> None:
    scan = scan_with(*ABNORMALITIES)
    assert {f.abnormality for f in scan.findings} == set(ABNORMALITIES)
    assert {m.finding.abnormality for m in scan.lesions} == set(CATEGORY_BY_ABNORMALITY)


def test_lesion_masks_never_overlap() -> None:
    scan = scan_with(*ABNORMALITIES, seed=1)
    assert np.stack([m.instances > 0 for m in scan.lesions]).sum(axis=0).max() == 1


@pytest.mark.parametrize("seed", range(4))
def test_organs_lie_on_their_sides(seed: int) -> None:
    """x grows to the patient's left, y to the back, z to the head."""
    organs = scan_with(seed=seed).organs
    liver, spleen, heart = (centre_of(organs == organ) for organ in (LIVER, SPLEEN, HEART))
    assert liver[2] < heart[2] < spleen[2]
    assert liver[0] < heart[0]
    right, left = (
        np.isin(organs, (RIGHT_UPPER, RIGHT_LOWER)),
        np.isin(organs, (LEFT_UPPER, LEFT_LOWER)),
    )
    assert centre_of(right)[2] < centre_of(left)[2]
    assert centre_of(organs == LEFT_LOWER)[1] > centre_of(organs == LEFT_UPPER)[1]
    assert centre_of(organs == AORTA)[1] > heart[1]


def test_lungs_are_air_and_the_heart_is_blood() -> None:
    scan = scan_with(seed=5)
    lungs = (scan.organs >= 10) & (scan.organs <= 14) & (scan.tubes == 0)
    assert scan.hu[lungs].mean() < -700
    assert 30 < scan.hu[(scan.organs == HEART) & (scan.tubes == 0)].mean() < 250


@pytest.mark.parametrize("seed", range(3))
def test_a_located_finding_lies_where_its_words_say(seed: int) -> None:
    """A side in the report is the half of the chest in which most of the mask lies."""
    scan = scan_with("Lung nodule", "Consolidation", "Pleural effusion", "Emphysema", seed=seed)
    middle = centre_of(scan.organs == HEART)[2] - 0.06 * SHAPE[2]
    for mask in scan.lesions:
        x = centre_of(mask.instances > 0)[2]
        assert (x < middle) == (mask.finding.side == "right"), mask.finding


def test_cardiomegaly_is_a_larger_heart() -> None:
    body = Body.draw(np.random.default_rng(2))
    coordinates = body_coordinates(body, SHAPE)
    normal, large = (
        np.count_nonzero(paint_anatomy(coordinates, scale).organs == HEART) for scale in (1.0, 1.4)
    )
    assert large > 1.8 * normal


def test_nodules_are_dense_and_emphysema_is_air() -> None:
    scan = scan_with("Lung nodule", "Emphysema", seed=7)
    hu = {m.finding.abnormality: scan.hu[m.instances > 0].mean() for m in scan.lesions}
    assert hu["Lung nodule"] > 300
    assert hu["Emphysema"] == -1000


def test_each_nodule_is_an_instance_of_its_own() -> None:
    scan = scan_with("Lung nodule", seed=11)
    instances = scan.lesions[0].instances
    assert set(np.unique(instances)) >= {0, 1, 2}


def test_a_reconstruction_adds_noise_of_the_asked_strength() -> None:
    scan = scan_with(seed=4)
    generator = np.random.default_rng(0)
    quiet, noisy = (reconstruct(scan.hu, noise, generator) for noise in (0.0, 25.0))
    inside = quiet > -1000
    assert quiet.dtype == np.int16
    assert 23 < (noisy.astype(float) - quiet)[inside].std() < 27

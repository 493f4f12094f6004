from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from tests.evaluation.conftest import reference_without_texts
from uvlm.arrays import Flags, Floats
from uvlm.errors import DataError
from uvlm.evaluation.bootstrap import draw_resamples
from uvlm.evaluation.calibration import (
    NUM_BINS,
    at_temperature,
    calibration_samples,
    calibration_scores,
    fit_temperature,
    read_temperature,
    reliability,
)


def overconfident(temperature: float, cases: int = 4000) -> tuple[Flags, Floats]:
    """Labels drawn by true probabilities, and what a model says whose logits are T times those."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 1.5, (cases, 3))
    labels = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    return labels, 1 / (1 + np.exp(-temperature * logits))


def naive_ece(labels: Flags, probabilities: Floats) -> float:
    pairs = [(p, y) for p, y in zip(probabilities.ravel(), labels.ravel(), strict=True)]
    total = 0.0
    for number in range(NUM_BINS):
        inside = [(p, y) for p, y in pairs if min(int(p * NUM_BINS), NUM_BINS - 1) == number]
        if inside:
            gap = np.mean([p for p, _ in inside]) - np.mean([y for _, y in inside])
            total += len(inside) / len(pairs) * abs(float(gap))
    return total


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_of_a_model_is_found_again(temperature: float) -> None:
    labels, said = overconfident(temperature)
    assert fit_temperature(labels, said) == pytest.approx(temperature, rel=0.05)


def test_the_temperature_has_the_least_cross_entropy() -> None:
    labels, said = overconfident(1.7, cases=200)

    def loss(log_temperature: float) -> float:
        tempered = at_temperature(said, float(np.exp(log_temperature)))
        return float(log_loss(labels.ravel(), tempered.ravel()))

    best = minimize_scalar(loss, bounds=(-2, 2), method="bounded", options={"xatol": 1e-9})
    assert fit_temperature(labels, said) == pytest.approx(float(np.exp(best.x)), rel=1e-5)


def test_a_validation_split_that_is_all_right_or_all_wrong_has_a_bounded_temperature() -> None:
    labels = np.array([[1, 0], [0, 1]], dtype=bool)
    right = np.where(labels, 0.9, 0.1)
    assert 0.05 <= fit_temperature(labels, right) < 0.06
    assert fit_temperature(labels, 1 - right) == pytest.approx(20.0)
    assert np.isfinite(at_temperature(np.array([[0.0, 1.0]]), 0.05)).all()


def test_scores_equal_scikit_learn_and_a_naive_loop() -> None:
    labels, said = overconfident(2.0, cases=300)
    scores = calibration_scores(reference_without_texts(labels), said, None)
    brier = brier_score_loss(labels.ravel(), said.ravel())
    assert scores["brier"] == pytest.approx(brier, abs=1e-6)
    assert scores["ece"] == pytest.approx(naive_ece(labels, said), abs=1e-6)
    each = [naive_ece(labels[:, a : a + 1], said[:, a : a + 1]) for a in range(3)]
    assert scores["macro_ece"] == pytest.approx(np.mean(each), abs=1e-6)
    shares = labels.mean(axis=0)
    assert scores["prevalence_brier"] == pytest.approx((shares * (1 - shares)).mean(), abs=1e-6)
    share, mean = calibration_curve(labels.ravel(), said.ravel(), n_bins=NUM_BINS)
    filled = [number for number, count in enumerate(scores["bins"]["n"]) if count]
    assert [scores["bins"]["positive_share"][n] for n in filled] == pytest.approx(share, abs=1e-6)
    assert [scores["bins"]["mean_probability"][n] for n in filled] == pytest.approx(mean, abs=1e-6)
    assert sum(scores["bins"]["n"]) == labels.size


def test_in_a_bootstrap_sample_scores_are_those_of_the_cases_drawn() -> None:
    labels, said = overconfident(2.0, cases=40)
    patients = [f"patient_{number // 2}" for number in range(40)]
    resamples = draw_resamples(patients, 5, np.random.default_rng(3))
    samples = calibration_samples(labels, said, resamples)
    for number, weights in enumerate(resamples.weights):
        drawn = np.repeat(np.arange(40), weights.astype(int))
        assert samples["ece"][number] == pytest.approx(naive_ece(labels[drawn], said[drawn]))
        squares = (said[drawn] - labels[drawn]) ** 2
        assert samples["brier"][number] == pytest.approx(squares.mean())


def test_the_right_temperature_calibrates_and_leaves_the_ranking_alone() -> None:
    labels, said = overconfident(3.0)
    said = said.round(6)  # as predictions are stored
    scores = calibration_scores(reference_without_texts(labels), said, 3.0)
    assert scores["ece"] > 0.05
    assert scores["ece_tempered"] < 0.02
    assert scores["brier_tempered"] < min(scores["brier"], scores["prevalence_brier"])
    before, after = roc_auc_score(labels, said), roc_auc_score(labels, at_temperature(said, 3.0))
    assert after == pytest.approx(before, abs=1e-9)


def test_stating_the_prevalence_is_calibrated_and_worth_nothing() -> None:
    """Why an ECE never stands alone."""
    labels, _ = overconfident(1.0)
    constant = np.tile(labels.mean(axis=0), (len(labels), 1))
    scores = calibration_scores(reference_without_texts(labels), constant, None)
    assert scores["ece"] == pytest.approx(0, abs=1e-6)
    assert scores["brier"] == scores["prevalence_brier"]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_leaving_out_predictions_improves_neither_score(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 8))
    flags = st.lists(st.booleans(), min_size=2 * size, max_size=2 * size)
    values = st.lists(st.floats(0, 1), min_size=2 * size, max_size=2 * size)
    labels = np.asarray(data.draw(flags)).reshape(size, 2)
    said = np.asarray(data.draw(values)).reshape(size, 2)
    fewer = said.copy()
    fewer[sorted(data.draw(st.sets(st.integers(0, size - 1))))] = np.nan
    reference = reference_without_texts(labels)
    before, after = (calibration_scores(reference, each, 2.0) for each in (said, fewer))
    for name in ("brier", "ece", "macro_ece", "brier_tempered", "ece_tempered"):
        assert after[name] >= before[name] - 1e-6, name


def test_a_probability_of_one_is_in_the_last_bin_and_a_missing_one_in_none() -> None:
    bins = reliability(np.array([[1, 0, 0]], dtype=bool), np.array([[1.0, 0.0, np.nan]]))
    assert bins["n"] == [1, *[0] * (NUM_BINS - 2), 1]
    assert bins["positive_share"] == [0.0, *[None] * (NUM_BINS - 2), 1.0]


def test_without_probabilities_there_is_nothing_to_judge() -> None:
    assert calibration_scores(reference_without_texts(np.ones((2, 3), dtype=bool)), None, 2.0) == {}


@pytest.mark.parametrize(
    ("document", "expected"), [({"a": 0.5}, None), ({"a": 0.5, "temperature": 1.5}, 1.5)]
)
def test_thresholds_of_an_earlier_release_have_no_temperature(
    tmp_path: Path, document: dict[str, float], expected: float | None
) -> None:
    path = tmp_path / "thresholds.json"
    path.write_text(json.dumps(document))
    assert read_temperature(path) == expected
    assert read_temperature(None) is None


@pytest.mark.parametrize("value", ["0", "-1", '"warm"', "NaN", "Infinity", "[]"])
def test_a_temperature_that_is_none_is_refused_with_its_file(tmp_path: Path, value: str) -> None:
    path = tmp_path / "thresholds.json"
    path.write_text(f'{{"temperature": {value}}}')
    with pytest.raises(DataError, match="temperature") as caught:
        read_temperature(path)
    assert caught.value.subject == str(path)

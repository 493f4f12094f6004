from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from tests.evaluation.conftest import reference_of, reference_without_texts
from tests.speed import cpu_seconds
from uvlm.evaluation.bleu import bleu_counts, bleu_scores, corpus_bleu
from uvlm.evaluation.bootstrap import draw_resamples, with_interval, with_intervals
from uvlm.evaluation.classification import ranking
from uvlm.evaluation.scores import label_samples, ranking_samples, report_scores

PATIENTS = ["a", "a", "b", "c", "d", "d", "d", "e"]


def repeated_rows(weights: np.ndarray) -> np.ndarray:
    """The cases of one sample, written out as often as they count."""
    return np.repeat(np.arange(len(weights)), weights.astype(int))


def test_all_cases_of_a_patient_come_along() -> None:
    weights = draw_resamples(PATIENTS, 50, np.random.default_rng(0)).weights
    assert weights.shape == (51, 8)
    assert (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 4] == weights[:, 6]).all()
    np.testing.assert_array_equal(weights[:, [0, 2, 3, 4, 7]].sum(axis=1), 5)


def test_f1_intervals_equal_a_naive_loop_over_repeated_cases() -> None:
    rng = np.random.default_rng(1)
    labels, claimed = rng.random((8, 3)) < 0.5, rng.random((8, 3)) < 0.5
    resamples = draw_resamples(PATIENTS, 40, rng)
    naive = []
    for weights in resamples.weights[1:]:
        rows = repeated_rows(weights)
        naive.append(f1_score(labels[rows], claimed[rows], average="macro", zero_division=0))
    reference = reference_without_texts(labels, resamples)
    scores = with_intervals(label_samples(reference, claimed))
    assert scores["macro_f1"] == pytest.approx(
        f1_score(labels, claimed, average="macro", zero_division=0), abs=1e-6
    )
    assert scores["macro_f1_ci"] == pytest.approx(np.percentile(naive, [2.5, 97.5]), abs=1e-6)


def test_auroc_in_every_sample_equals_a_naive_loop() -> None:
    rng = np.random.default_rng(3)
    labels = np.array([[1, 0, 1, 0, 1, 0, 1, 0], [0, 1, 1, 0, 0, 1, 0, 1]], dtype=bool).T
    scores = rng.integers(0, 5, (8, 2)) / 5
    weights = draw_resamples(PATIENTS, 30, rng).weights
    auroc, _ = ranking(labels, scores, weights)
    compared = 0
    for sample, values in zip(weights, auroc, strict=True):
        rows = repeated_rows(sample)
        for number in range(2):
            truth = labels[rows, number]
            if truth.any() and not truth.all():
                expected = roc_auc_score(truth, scores[rows, number])
                assert values[number] == pytest.approx(expected)
                compared += 1
    assert compared > 40


def test_bleu_in_every_sample_equals_the_bleu_of_repeated_reports() -> None:
    references = [f"no nodule in lobe {n} and the heart is normal" for n in range(8)]
    texts = [f"a nodule in lobe {n % 3} and the heart is large" for n in range(8)]
    resamples = draw_resamples(PATIENTS, 10, np.random.default_rng(4))
    values = bleu_scores(resamples.sums(bleu_counts(references, texts)))["bleu_mean"]
    for weights, value in zip(resamples.weights, values, strict=True):
        rows = repeated_rows(weights)
        naive = corpus_bleu([references[r] for r in rows], [texts[r] for r in rows])
        assert value == pytest.approx(naive["bleu_mean"])


def test_cases_without_a_value_do_not_count_in_a_mean() -> None:
    resamples = draw_resamples(["a", "b", "c"], 20, np.random.default_rng(5))
    means = resamples.means(np.array([0.5, np.nan, 1.0]))
    assert means[0] == pytest.approx(0.75)
    for weights, mean in zip(resamples.weights, means, strict=True):
        total = weights[0] + weights[2]
        expected = (0.5 * weights[0] + weights[2]) / total if total else np.nan
        assert mean == pytest.approx(expected, nan_ok=True)


def test_an_undefined_number_is_none_and_no_samples_give_no_interval() -> None:
    assert with_interval("auroc", np.array([np.nan, 0.5])) == {"auroc": None}
    assert with_interval("f1", np.array([0.25])) == {"f1": 0.25}


@pytest.mark.slow
def test_a_thousand_samples_of_a_whole_test_split_take_two_seconds_at_most() -> None:
    rng = np.random.default_rng(6)
    labels = rng.random((200, 18)) < 0.25
    texts = [" ".join(rng.choice(["no", "nodule", "lobe."], 60)) for _ in range(200)]

    def score() -> None:
        resamples = draw_resamples([str(n) for n in range(200)], 1000, rng)
        reference = reference_of(texts, labels, resamples)
        report_scores(reference, texts, labels)
        with_intervals(ranking_samples(reference, rng.random((200, 18))))

    assert cpu_seconds(score) < 2.0

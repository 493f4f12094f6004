from __future__ import annotations

import numpy as np
import pytest

from tests.evaluation.conftest import NAMES, label, reference_of
from uvlm.evaluation.bootstrap import Resamples
from uvlm.evaluation.collapse import (
    COPIED_WORDS,
    collapse_audit,
    copied,
    image_shuffle,
    other_patients,
    variety,
)


def texts_of(labels: np.ndarray) -> list[str]:
    return [" ".join(np.asarray(NAMES)[row]) or "heart" for row in labels]


@pytest.mark.parametrize(
    "patients", [["a", "b"], ["a", "a", "b", "b", "c"], [str(n // 2) for n in range(40)]]
)
def test_every_case_gets_the_ct_of_another_patient(patients: list[str]) -> None:
    partners = other_patients(patients, seed=1)
    assert sorted(partners) == list(range(len(patients)))
    for case, partner in enumerate(partners):
        assert patients[case] != patients[partner]


def test_a_model_that_looks_loses_what_a_collapsed_one_never_had() -> None:
    labels = np.random.default_rng(0).random((60, 3)) < 0.4
    texts = texts_of(labels)
    reference = reference_of(texts, labels)
    looks = image_shuffle(reference, texts, labels, label, seed=0)
    same = ["nodule heart"] * 60
    blind = image_shuffle(reference, same, reference.claims(same, label), label, seed=0)
    assert looks["macro_f1_lost"] > 0.3
    assert looks["changed_share"] > 0.5
    assert blind["changed_share"] == blind["macro_f1_lost"] == 0.0


def test_copies_of_training_reports_are_found() -> None:
    long = " ".join(f"w{n}" for n in range(COPIED_WORDS + 10))
    training = ["A nodule. No mass.", f"before {long} after"]
    texts = ["A nodule. No mass.", f"{long} elsewhere", "New words. No mass."]
    twice = Resamples(np.array([[1.0, 1.0, 1.0], [2.0, 0.0, 1.0]]))
    found = copied(texts, training, twice)
    assert found["report_share"] == pytest.approx(1 / 3, abs=1e-6)
    assert found["sentence_share"] == pytest.approx(3 / 5, abs=1e-6)
    assert found["long_copy_share"] == pytest.approx(1 / 3, abs=1e-6)
    assert found["report_share_ci"] == pytest.approx([2 / 3] * 2, abs=1e-6)
    assert found["sentence_share_ci"] == pytest.approx([5 / 6] * 2, abs=1e-6)
    assert found["long_copy_share_ci"] == [0.0, 0.0]


def test_variety_counts_what_is_different() -> None:
    found = variety(["a b a b", "a b a b", "c d"])
    assert (found["reports"], found["sentences"]) == (2, 2)
    assert found["share_of_2_grams"] == pytest.approx(3 / 7, abs=1e-6)  # a b, b a, c d of seven
    assert found["share_of_4_grams"] == pytest.approx(1 / 2)


def test_recall_of_rare_findings_is_that_of_the_rarest_in_training() -> None:
    labels = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0]], dtype=bool)
    reference = reference_of(["a", "b", "c"], labels)
    training = np.array([[1, 0, 1], [1, 1, 1], [1, 0, 1]], dtype=bool)
    claimed = np.array([[1, 0, 1], [0, 1, 1], [1, 0, 0]], dtype=bool)
    audit = collapse_audit(reference, ["a", "b", "c"], claimed, label, (["a"], training), seed=0)
    assert audit["rare"]["names"] == ["effusion"]
    assert audit["rare"]["support"] == 2
    assert audit["rare"]["macro_recall"] == 0.5

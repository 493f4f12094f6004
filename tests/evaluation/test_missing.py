from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.conftest import NAMES, label, reference_of
from uvlm.evaluation.classification import Confusion, precision_recall_f1
from uvlm.evaluation.missing import wrong_claims
from uvlm.evaluation.reference import Reference
from uvlm.evaluation.scores import classifier_scores, report_scores

WORDS = [*NAMES, "heart", "lung", "no"]
METRICS = {
    *(f"bleu_{order}" for order in ("1", "2", "3", "4", "mean")),
    *(
        "macro_f1",
        "weighted_f1",
        "micro_f1",
        "macro_precision",
        "macro_recall",
        "crg",
        "rouge_l",
        "cider",
        "sacrebleu_13a",
    ),
}
words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)


def scores_of(reference: Reference, texts: Sequence[str]) -> dict[str, float]:
    return report_scores(reference, texts, reference.claims(texts, label))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_deleting_predictions_never_raises_a_metric(data: st.DataObject) -> None:
    """Any reports, right or wrong, none longer than the longest reference."""
    size = data.draw(st.integers(1, 6))
    references = data.draw(st.lists(words, min_size=size, max_size=size))
    longest = max(len(text.split()) for text in references)
    texts = [" ".join(data.draw(words).split()[:longest]) for _ in range(size)]
    flags = st.lists(st.booleans(), min_size=3 * size, max_size=3 * size)
    reference = reference_of(references, np.asarray(data.draw(flags)).reshape(size, 3))
    deleted = data.draw(st.sets(st.integers(0, size - 1)))
    fewer = ["" if number in deleted else text for number, text in enumerate(texts)]
    before, after = scores_of(reference, texts), scores_of(reference, fewer)
    assert set(before) >= METRICS
    for name in METRICS:
        assert after[name] <= before[name] + 1e-6, name  # rounded to six digits


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_deleting_probabilities_never_raises_a_metric(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 8))
    flags = st.lists(st.booleans(), min_size=3 * size, max_size=3 * size)
    may_tie = data.draw(st.booleans())
    tied = st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]), min_size=size, max_size=size)
    untied = st.permutations([number / size for number in range(size)])
    probabilities = np.asarray([data.draw(tied if may_tie else untied) for _ in range(3)]).T
    reference = reference_of(["a"] * size, np.asarray(data.draw(flags)).reshape(size, 3))
    fewer = probabilities.copy()
    fewer[sorted(data.draw(st.sets(st.integers(0, size - 1))))] = np.nan
    thresholds = np.asarray([0.1, 0.5, 0.9])
    before = classifier_scores(reference, probabilities, thresholds)
    after = classifier_scores(reference, fewer, thresholds)
    for name, value in before.items():
        if value is not None and not (may_tie and name == "macro_auprc"):
            assert after[name] <= value + 1e-6, name


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_missing_report_scores_the_worst_that_any_report_could_have(data: st.DataObject) -> None:
    flags = st.lists(st.booleans(), min_size=6, max_size=6)
    labels, claimed = (np.asarray(data.draw(flags)).reshape(2, 3) for _ in range(2))
    missing = np.asarray([True, False])

    def f1(claims: npt.NDArray[np.bool_]) -> float:
        counts = Confusion(*(part.sum(axis=0) for part in Confusion.per_case(labels, claims)))
        return float(precision_recall_f1(counts)[2].mean())

    every = [f1(np.stack([row, claimed[1]])) for row in np.ndindex(2, 2, 2)]
    assert f1(wrong_claims(labels, claimed, missing)) == min(every)


def test_leaving_out_a_report_full_of_false_alarms_does_not_pay() -> None:
    reference = reference_of(["nodule", "heart"], np.asarray([[1, 0, 0], [0, 0, 0]], dtype=bool))
    alarmed = scores_of(reference, ["nodule", "nodule effusion"])
    silent = scores_of(reference, ["nodule", ""])
    assert silent["macro_precision"] <= alarmed["macro_precision"]
    assert silent["macro_f1"] <= alarmed["macro_f1"]
    assert silent["crg"] <= alarmed["crg"]

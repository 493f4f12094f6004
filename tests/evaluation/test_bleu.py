from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uvlm.evaluation.bleu import (
    PROTOCOLS,
    bleu_counts,
    bleu_scores,
    constant_bleu_counts,
    corpus_bleu,
)

words = st.lists(st.sampled_from(["no", "nodule", "in", "the", "left", "lobe."]), max_size=12)
sentences = words.map(" ".join)
pairs = st.lists(st.tuples(sentences.filter(bool), sentences), min_size=1, max_size=6)


def naive_bleu(references: list[str], predictions: list[str], order: int) -> float:
    """Papineni's corpus BLEU with one reference, no smoothing."""
    log_sum, length, reference_length = 0.0, 0, 0
    for n in range(1, order + 1):
        matched, written = 0, 0
        for reference, prediction in zip(references, predictions, strict=True):
            grams = [tuple(prediction.split()[i : i + n]) for i in range(len(prediction.split()))]
            wanted = [tuple(reference.split()[i : i + n]) for i in range(len(reference.split()))]
            mine = Counter(gram for gram in grams if len(gram) == n)
            theirs = Counter(gram for gram in wanted if len(gram) == n)
            matched += sum((mine & theirs).values())
            written += sum(mine.values())
        if matched == 0:
            return 0.0
        log_sum += math.log(matched / written)
    length = sum(len(prediction.split()) for prediction in predictions)
    reference_length = sum(len(reference.split()) for reference in references)
    penalty = 1.0 if length >= reference_length else math.exp(1 - reference_length / length)
    return penalty * math.exp(log_sum / order)


def test_bleu_matches_a_hand_worked_pair() -> None:
    # 5 of 6 words, 3 of 5 pairs, 1 of 4 triples match; same length, so no brevity penalty.
    scores = corpus_bleu(["the cat sat on the mat"], ["the cat is on the mat"], "plain")
    assert scores["bleu_1"] == pytest.approx(5 / 6)
    assert scores["bleu_2"] == pytest.approx(math.sqrt(5 / 6 * 3 / 5))
    assert scores["bleu_3"] == pytest.approx((5 / 6 * 3 / 5 * 1 / 4) ** (1 / 3))
    assert scores["bleu_4"] == pytest.approx(0.0, abs=1e-3)
    assert scores["bleu_mean"] == pytest.approx(np.mean([scores[f"bleu_{n}"] for n in range(1, 5)]))


def test_a_report_that_stops_early_pays_the_brevity_penalty() -> None:
    scores = corpus_bleu(["a b c d e f g h"], ["a b c d"], "plain")
    assert scores["bleu_4"] == pytest.approx(math.exp(1 - 8 / 4))


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_bleu_is_the_textbook_formula_for_any_corpus(corpus: list[tuple[str, str]]) -> None:
    references, predictions = [pair[0] for pair in corpus], [pair[1] for pair in corpus]
    scores = corpus_bleu(references, predictions, "plain")
    for order in range(1, 5):
        naive = naive_bleu(references, predictions, order)
        # Where nothing of an order is written the library divides 1e-15 by 1e-9 instead of 0 by 0.
        assert scores[f"bleu_{order}"] == pytest.approx(naive, abs=1e-6 if naive else 0.04)


@settings(max_examples=30, deadline=None)
@given(pairs)
def test_bleu_equals_pycocoevalcap_to_the_last_digit(corpus: list[tuple[str, str]]) -> None:
    from pycocoevalcap.bleu.bleu import Bleu

    references, predictions = [pair[0] for pair in corpus], [pair[1] for pair in corpus]
    by_id = {number: [text] for number, text in enumerate(references)}
    mine = {number: [text] for number, text in enumerate(predictions)}
    expected, _ = Bleu(4).compute_score(by_id, mine, verbose=0)
    scores = corpus_bleu(references, predictions, "plain")
    np.testing.assert_allclose([scores[f"bleu_{n}"] for n in range(1, 5)], expected, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(pairs, st.sampled_from(sorted(PROTOCOLS)))
def test_one_report_for_all_cases_counts_as_its_copies_do(
    corpus: list[tuple[str, str]], protocol: str
) -> None:
    references, texts = [pair[0] for pair in corpus], ["", *(pair[1] for pair in corpus)]
    found = constant_bleu_counts(references, texts, protocol)
    copies = [bleu_counts(references, [text] * len(references), protocol) for text in texts]
    np.testing.assert_array_equal(found, [counts.sum(axis=0) for counts in copies])


def test_bleu_equals_sacrebleu_on_text_that_both_split_alike() -> None:
    import sacrebleu

    references = ["no nodule in the left lobe and no effusion", "the heart is large today"]
    predictions = ["no nodule in the left lung and no effusion", "the heart is large"]
    theirs = sacrebleu.corpus_bleu(predictions, [references], tokenize="none", smooth_method="none")
    assert corpus_bleu(references, predictions, "plain")["bleu_4"] == pytest.approx(
        theirs.score / 100
    )


def test_official_cleaning_glues_lines_and_pulls_up_full_stops() -> None:
    clean = PROTOCOLS["official"]
    assert clean.reference('No\nnodule . "A" .') == 'Nonodule."A".'
    assert clean.prediction('No\nnodule . "A_B" .<|eot_id|>') == "Nonodule.AB."


def test_release_cleaning_cuts_decimals_in_two() -> None:
    assert PROTOCOLS["release"].prediction("A 3.5 mm\n nodule .. ") == "A 3. 5 mm nodule."


def test_protocols_disagree_so_their_name_must_be_given() -> None:
    reference, prediction = "No nodule . Heart normal .", "No nodule. Heart normal."
    scores = {name: corpus_bleu([reference], [prediction], name)["bleu_1"] for name in PROTOCOLS}
    assert scores["plain"] < scores["official"] < scores["release"]


def test_a_missing_report_lengthens_only_the_reference() -> None:
    counts = bleu_counts(["one two three"], [""], "plain")
    assert counts.tolist() == [[0, 0, 0, 0, 0, 0, 0, 0, 0, 3]]
    assert bleu_scores(counts.sum(axis=0))["bleu_mean"] == 0.0

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uvlm.errors import SetupError
from uvlm.evaluation.bleu import PROTOCOLS, clean_pairs, corpus_bleu
from uvlm.evaluation.text_metrics import (
    cider,
    longest_common_subsequence,
    meteor,
    rouge_l,
    sacrebleu_counts,
    sacrebleu_score,
    why_no_meteor,
)

words = st.lists(st.sampled_from(["no", "nodule", "in", "the", "lobe."]), max_size=12)
sentences = words.map(" ".join)
pairs = st.lists(st.tuples(sentences.filter(bool), sentences), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def real_pairs(real_data: Path) -> tuple[list[str], list[str]]:
    """1,000 references, each beside the report of the next patient."""
    path = real_data / "reports" / "ct_rate_validation_reports.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row, _ in zip(csv.DictReader(file), range(1001), strict=False)]
    texts = [f"Findings: {r['Findings_EN']} Impression: {r['Impressions_EN']}" for r in rows]
    return texts[:-1], texts[1:]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_bleu_of_a_thousand_real_pairs_equals_pycocoevalcap(
    real_pairs: tuple[list[str], list[str]], protocol: str
) -> None:
    from pycocoevalcap.bleu.bleu import Bleu

    cleaned = clean_pairs(*real_pairs, protocol)
    wanted = {number: [reference] for number, (reference, _) in enumerate(cleaned)}
    written = {number: [prediction] for number, (_, prediction) in enumerate(cleaned)}
    expected, _ = Bleu(4).compute_score(wanted, written, verbose=0)
    scores = corpus_bleu(*real_pairs, protocol)
    assert len(cleaned) == 1000
    np.testing.assert_allclose([scores[f"bleu_{n}"] for n in range(1, 5)], expected, atol=1e-9)


@pytest.mark.slow
def test_rouge_and_cider_of_real_pairs_equal_pycocoevalcap(
    real_pairs: tuple[list[str], list[str]],
) -> None:
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    references, predictions = real_pairs[0][:30], real_pairs[1][:30]
    wanted = {number: [text] for number, text in enumerate(references)}
    written = {number: [text] for number, text in enumerate(predictions)}
    for mine, theirs in ((rouge_l, Rouge()), (cider, Cider())):
        expected = theirs.compute_score(wanted, written)[1]
        np.testing.assert_allclose(mine(references, predictions, "plain"), expected, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_rouge_equals_pycocoevalcap_for_any_corpus(corpus: list[tuple[str, str]]) -> None:
    from pycocoevalcap.rouge.rouge import Rouge

    references, predictions = [pair[0] for pair in corpus], [pair[1] for pair in corpus]
    expected = [Rouge().calc_score([p], [r]) for r, p in corpus]
    np.testing.assert_allclose(rouge_l(references, predictions, "plain"), expected, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(words, words)
def test_bit_rows_count_the_same_subsequence_as_the_textbook_table(
    first: list[str], second: list[str]
) -> None:
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    for i, a in enumerate(first, start=1):
        for j, b in enumerate(second, start=1):
            table[i, j] = (
                table[i - 1, j - 1] + 1 if a == b else max(table[i - 1, j], table[i, j - 1])
            )
    assert longest_common_subsequence(first, second) == table[-1, -1]


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_summed_counts_give_sacrebleus_own_corpus_score(corpus: list[tuple[str, str]]) -> None:
    import sacrebleu

    references, predictions = [pair[0] for pair in corpus], [pair[1] for pair in corpus]
    expected = sacrebleu.corpus_bleu(predictions, [references]).score / 100
    score = sacrebleu_score(sacrebleu_counts(references, predictions).sum(axis=0))
    assert score == pytest.approx(expected, abs=1e-9)


def test_texts_without_any_word_score_zero() -> None:
    assert cider(["", ""], ["", "a"]).tolist() == [0.0, 0.0]
    assert sacrebleu_score(sacrebleu_counts([""], [""]).sum(axis=0)) == 0.0


@pytest.mark.slow
@pytest.mark.skipif(bool(why_no_meteor()), reason=why_no_meteor() or "there is Java")
def test_meteor_knows_equal_texts_synonyms_and_strangers() -> None:
    references = ["the heart is enlarged", "no nodule in the lung", "clear lungs"]
    corpus, each = meteor(references, ["the heart is enlarged", "no nodules in the lung", "xyz"])
    assert each[0] == pytest.approx(1.0)
    assert 0.5 < each[1] < 1.0
    assert each[2] == pytest.approx(0.0)
    assert 0.0 < corpus < 1.0


def test_without_java_meteor_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(SetupError, match="no java on the PATH"):
        meteor(["a"], ["a"])

"""Corpus BLEU under named cleaning protocols, counted by pycocoevalcap.

There is no tokenizer: words are what whitespace separates. So the cleaning decides the score, and
numbers under two protocols cannot be compared.

    plain      nothing is changed
    official   what the authors of CT-RATE do before scoring; headline numbers use it
    release    what the released U-VLM code does before scoring

N cases; `...` is any leading shape, such as bootstrap samples.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from uvlm.arrays import Floats

MAX_ORDER: Final = 4
HEADLINE: Final = "official"
_SMALL, _TINY = 1e-9, 1e-15  # pycocoevalcap's guards against 0/0


class Protocol(NamedTuple):
    """How a reference and a prediction are cleaned before their words are counted."""

    reference: Callable[[str], str]
    prediction: Callable[[str], str]


def _official(text: str, remove: Sequence[str]) -> str:
    for old, new in (*((mark, "") for mark in remove), (" . ", "."), (" .", ".")):
        text = text.replace(old, new)
    return text


def _release(text: str) -> str:
    text = " ".join(text.replace('"', "").split())
    text = re.sub(r"\s*\.\s*", ". ", text)
    return re.sub(r"\.\s*\.", ".", text).strip()


PROTOCOLS: Final[Mapping[str, Protocol]] = {
    "plain": Protocol(str, str),
    "official": Protocol(
        partial(_official, remove=("\n",)),
        partial(_official, remove=("\n", "<|eot_id|>", '"', "_")),
    ),
    "release": Protocol(_release, _release),
}


def clean_pairs(
    references: Sequence[str], predictions: Sequence[str], protocol: str
) -> list[tuple[str, str]]:
    """Clean each (reference, prediction) under a named protocol."""
    clean = PROTOCOLS[protocol]
    pairs = zip(references, predictions, strict=True)
    return [(clean.reference(wanted), clean.prediction(written)) for wanted, written in pairs]


def bleu_counts(
    references: Sequence[str], predictions: Sequence[str], protocol: str = HEADLINE
) -> Floats:
    """Count what each case adds to corpus BLEU: (N, 10).

    Columns: n-grams that match, n = 1..4; n-grams written, n = 1..4; words written; words of the
    reference.
    """
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=MAX_ORDER)
    for reference, prediction in clean_pairs(references, predictions, protocol):
        scorer += (prediction, [reference])
    rows = [[*c["correct"], *c["guess"], c["testlen"], *c["reflen"]] for c in scorer.ctest]
    return np.asarray(rows, dtype=np.float64).reshape(len(rows), 2 * MAX_ORDER + 2)


def constant_bleu_counts(
    references: Sequence[str], texts: Sequence[str], protocol: str = HEADLINE
) -> Floats:
    """Sum the columns of `bleu_counts` for each text as the report of every case: (texts, 10).

    The n-grams of every text and every reference are found once.
    """
    from pycocoevalcap.bleu.bleu_scorer import precook

    clean = PROTOCOLS[protocol]
    written = [precook(clean.prediction(text), MAX_ORDER) for text in texts]
    totals = np.zeros((len(texts), 2 * MAX_ORDER + 2))
    for reference in references:
        length, wanted = precook(clean.reference(reference), MAX_ORDER)
        totals[:, -1] += length
        for row, (_, counts) in zip(totals, written, strict=True):
            for ngram in wanted.keys() & counts.keys():
                row[len(ngram) - 1] += min(wanted[ngram], counts[ngram])
    lengths = np.array([length for length, _ in written], dtype=np.float64)
    guessed = np.maximum(lengths[:, None] - np.arange(MAX_ORDER), 0)
    totals[:, MAX_ORDER:-1] = len(references) * np.column_stack([guessed, lengths])
    return totals


def bleu_scores(counts: Floats) -> dict[str, Floats]:
    """BLEU-1..4 and their mean from summed counts: (..., 10) to five arrays (...,)."""
    matched, written = counts[..., :MAX_ORDER], counts[..., MAX_ORDER : 2 * MAX_ORDER]
    length, reference_length = counts[..., -2], counts[..., -1]
    precisions = (matched + _TINY) / (written + _SMALL)  # (..., 4)
    orders = np.arange(1, MAX_ORDER + 1)
    # BLEU-n is the geometric mean of the first n precisions, so one running product gives all four.
    scores = np.cumprod(precisions, axis=-1) ** (1.0 / orders)
    # Brevity penalty: exp(1 - r / c) for a corpus shorter than its references, else 1.
    ratio = np.minimum((length + _TINY) / (reference_length + _SMALL), 1.0)
    scores = scores * np.exp(1.0 - 1.0 / ratio)[..., None]
    by_name = {f"bleu_{n}": scores[..., n - 1] for n in orders}
    return by_name | {"bleu_mean": scores.mean(axis=-1)}


def corpus_bleu(
    references: Sequence[str], predictions: Sequence[str], protocol: str = HEADLINE
) -> dict[str, float]:
    """BLEU-1..4 and their mean of a set of reports, under a named protocol."""
    totals = bleu_counts(references, predictions, protocol).sum(axis=0)
    return {name: float(score) for name, score in bleu_scores(totals).items()}

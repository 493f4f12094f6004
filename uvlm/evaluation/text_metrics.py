"""How much of a reference text a generated text repeats, beside BLEU.

    rouge_l        longest common subsequence of words, F with beta 1.2, mean over reports
    cider          TF-IDF weighted n-grams, n = 1..4; the IDF is that of the references
    sacrebleu_13a  BLEU-4 as sacrebleu counts it: 13a tokens, case kept, exponential smoothing
    meteor         METEOR 1.5 with its English tables; needs Java

ROUGE-L, CIDEr and METEOR are pycocoevalcap's, on texts cleaned under the same protocol as for BLEU;
sacrebleu cuts words and punctuation itself and gets the texts as they are. All but METEOR's corpus
value are means or sums over reports, so that a bootstrap can weight reports.

N cases; `...` is any leading shape, such as bootstrap samples.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Final

import numpy as np

from uvlm.arrays import Floats
from uvlm.errors import SetupError
from uvlm.evaluation.bleu import HEADLINE, MAX_ORDER, clean_pairs

ROUGE_BETA: Final = 1.2


def rouge_l(
    references: Sequence[str], predictions: Sequence[str], protocol: str = HEADLINE
) -> Floats:
    """ROUGE-L of each report, (N,), as pycocoevalcap defines it: words are split at single spaces.

    Its table of lengths takes a second for five reports; here each row of that table is the bits of
    one integer.
    """
    scores = []
    for reference, prediction in clean_pairs(references, predictions, protocol):
        wanted, written = reference.split(" "), prediction.split(" ")
        common = longest_common_subsequence(wanted, written)
        precision, recall = common / len(written), common / len(wanted)
        weighted = (1 + ROUGE_BETA**2) * precision * recall
        scores.append(weighted / (recall + ROUGE_BETA**2 * precision) if common else 0.0)
    return np.asarray(scores, dtype=np.float64)


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Count the words that both have in the same order, gaps allowed.

    The bit-parallel algorithm of Hyyrö (2004): bit i of `row` is 0 where the subsequence with
    first[: i + 1] is longer than that with first[:i].
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    row = everywhere = (1 << len(first)) - 1
    for word in second:
        matches = row & places.get(word, 0)
        # The carry of the sum moves each step of the lengths down to its lowest match.
        row = (row + matches | row - matches) & everywhere
    return len(first) - row.bit_count()


def cider(
    references: Sequence[str], predictions: Sequence[str], protocol: str = HEADLINE
) -> Floats:
    """CIDEr of each report, (N,), from 0 to 10."""
    from pycocoevalcap.cider.cider_scorer import CiderScorer

    scorer = CiderScorer(n=MAX_ORDER)
    for reference, prediction in clean_pairs(references, predictions, protocol):
        scorer += (prediction, [reference])
    if not any(cooked for (cooked,) in scorer.crefs):  # no n-gram in any reference
        return np.zeros(len(references))
    return np.asarray(scorer.compute_score()[1], dtype=np.float64)


def sacrebleu_counts(references: Sequence[str], predictions: Sequence[str]) -> Floats:
    """Count what each report adds to sacrebleu's BLEU: (N, 10), columns as in `bleu_counts`."""
    from sacrebleu.metrics.bleu import BLEU

    # The statistics of one segment are an internal of the pinned sacrebleu; a test holds
    # their sum against its public corpus score.
    bleu = BLEU(tokenize="13a")
    rows = bleu._extract_corpus_statistics([*predictions], [[*references]])
    counts = np.asarray(rows, dtype=np.float64).reshape(len(rows), 2 * MAX_ORDER + 2)
    return np.roll(counts, -2, axis=1)  # sacrebleu puts the two lengths first


def sacrebleu_score(counts: Floats) -> Floats:
    """BLEU-4 from summed counts, (..., 10) to (...,), in [0, 1].

    Smoothed exponentially: the k-th order without a match counts as 1 / 2^k matches.
    """
    matched, written = counts[..., :MAX_ORDER], counts[..., MAX_ORDER : 2 * MAX_ORDER]
    length, reference_length = counts[..., -2], counts[..., -1]
    nothing = matched == 0
    smoothed = np.where(nothing, 0.5 ** np.cumsum(nothing, axis=-1), matched)
    precisions = np.divide(smoothed, written, out=np.zeros_like(smoothed), where=written > 0)
    positive = (precisions > 0).all(axis=-1) & (matched.sum(axis=-1) > 0) & (length > 0)
    logs = np.log(np.where(precisions > 0, precisions, 1.0)).mean(axis=-1)  # geometric mean
    ratio = np.divide(reference_length, length, out=np.ones_like(length), where=length > 0)
    brevity = np.minimum(1.0 - ratio, 0.0)
    scores: Floats = np.where(positive, np.exp(logs + brevity), 0.0)
    return scores


def why_no_meteor() -> str:
    """Say what METEOR, a Java program, lacks on this machine; empty if nothing."""
    return "" if shutil.which("java") else "no Java"


def meteor(
    references: Sequence[str], predictions: Sequence[str], protocol: str = HEADLINE
) -> tuple[float, Floats]:
    """METEOR of the corpus and of each report, (N,).

    Raises:
        SetupError: there is no Java.
    """
    if why_no_meteor():
        fact = "is a Java program, and there is no java on the PATH"
        raise SetupError("METEOR", fact, "install a Java runtime or leave METEOR out")
    # Its program reads a line per report, so no text may hold a line break.
    wanted, written = (
        {number: [" ".join(text.split())] for number, text in enumerate(texts)}
        for texts in zip(*clean_pairs(references, predictions, protocol), strict=True)
    )
    try:
        corpus, each = _meteor_program(wanted, written)
    except (OSError, ValueError) as error:
        fact = f"its Java program failed ({type(error).__name__}: {error})"
        raise SetupError("METEOR", fact, "it needs 2 GB of memory") from None
    return corpus, np.asarray(each, dtype=np.float64)


def _meteor_program(
    wanted: dict[int, list[str]], written: dict[int, list[str]]
) -> tuple[float, list[float]]:
    """Run METEOR and end its process, which pycocoevalcap leaves running."""
    from pycocoevalcap.meteor.meteor import Meteor

    program = Meteor()
    try:
        corpus, each = program.compute_score(wanted, written)
    finally:
        for stream in (program.meteor_p.stdin, program.meteor_p.stdout, program.meteor_p.stderr):
            stream.close()
        program.meteor_p.kill()
        program.meteor_p.wait()
    return float(corpus), each

"""Numbers about one set of reports, one set of probabilities.

`*_samples` give a metric in every bootstrap sample, the data as they are first; `*_scores` turn
them into a flat dictionary, every metric followed by its 95 % interval.

N cases, A abnormalities, R bootstrap samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from uvlm.arrays import Flags, Floats
from uvlm.evaluation.bleu import HEADLINE, MAX_ORDER, bleu_counts, bleu_scores
from uvlm.evaluation.bootstrap import Resamples, Samples, with_interval, with_intervals
from uvlm.evaluation.classification import Confusion, crg, precision_recall_f1, ranking
from uvlm.evaluation.missing import is_missing, wrong_ngrams
from uvlm.evaluation.segmentation import mean_over_classes
from uvlm.evaluation.text_metrics import cider, meteor, rouge_l, sacrebleu_counts, sacrebleu_score


def label_samples(labels: Flags, claimed: Flags, resamples: Resamples) -> Samples:
    """Macro F1, precision, recall and CRG of claimed abnormalities."""
    counts = Confusion(*(resamples.sums(part) for part in Confusion.per_case(labels, claimed)))
    precision, recall, f1 = (values.mean(axis=-1) for values in precision_recall_f1(counts))
    return {
        "macro_f1": f1,
        "macro_precision": precision,
        "macro_recall": recall,
        "crg": crg(counts, resamples.weights.sum(axis=1)),
    }


def text_samples(references: Sequence[str], texts: Sequence[str], resamples: Resamples) -> Samples:
    """Overlap with the references under the headline protocol."""
    missing = is_missing(texts)
    rouge, consensus = rouge_l(references, texts), cider(references, texts)
    each = {"rouge_l": rouge, "cider": consensus}
    return {
        **bleu_samples(references, texts, resamples),
        **{name: resamples.means(np.where(missing, 0.0, values)) for name, values in each.items()},
        "sacrebleu_13a": _sacrebleu(references, texts, resamples),
    }


def bleu_samples(
    references: Sequence[str], texts: Sequence[str], resamples: Resamples, protocol: str = HEADLINE
) -> Samples:
    """BLEU-1..4 and their mean under a named protocol."""
    counts = wrong_ngrams(bleu_counts(references, texts, protocol), is_missing(texts))
    return bleu_scores(resamples.sums(counts))


def _sacrebleu(references: Sequence[str], texts: Sequence[str], resamples: Resamples) -> Floats:
    """BLEU-4 by sacrebleu, 0 where no report is long enough for four words in a row.

    What missing reports are charged with would otherwise count as written there, and its smoothing
    would give it a score.
    """
    counts, missing = sacrebleu_counts(references, texts), is_missing(texts)
    present = resamples.sums(np.where(missing[:, None], 0.0, counts))
    scores = sacrebleu_score(resamples.sums(wrong_ngrams(counts, missing)))
    return np.where(present[..., 2 * MAX_ORDER - 1] > 0, scores, 0.0)


def ranking_samples(labels: Flags, probabilities: Floats, resamples: Resamples) -> Samples:
    """Macro AUROC and AUPRC over the classes that have both kinds of cases."""
    auroc, auprc = ranking(labels, probabilities, resamples.weights)
    classes = range(labels.shape[1])
    return {
        "macro_auroc": mean_over_classes(auroc, classes),
        "macro_auprc": mean_over_classes(auprc, classes),
    }


def label_scores(labels: Flags, claimed: Flags, resamples: Resamples) -> dict[str, Any]:
    """Macro F1, precision, recall and CRG of claimed abnormalities."""
    return with_intervals(label_samples(labels, claimed, resamples))


def text_scores(
    references: Sequence[str], texts: Sequence[str], resamples: Resamples
) -> dict[str, Any]:
    """Overlap with the references, and how much the texts repeat each other."""
    copies = Counter(texts)
    return with_intervals(text_samples(references, texts, resamples)) | {
        "distinct_share": round(len(copies) / len(texts), 6),
        "most_common_share": round(copies.most_common(1)[0][1] / len(texts), 6),
    }


def meteor_scores(
    references: Sequence[str], texts: Sequence[str], resamples: Resamples
) -> dict[str, Any]:
    """METEOR of the corpus, and the mean over reports, which alone can be resampled.

    Nothing can be charged to the corpus value for a missing report, so it is not given then.

    Raises:
        SetupError: there is no Java, or its program fails.
    """
    missing = is_missing(texts)
    corpus, each = meteor(references, texts)
    return {
        "corpus": None if missing.any() else round(corpus, 6),
        **with_interval("mean_over_reports", resamples.means(np.where(missing, 0.0, each))),
    }


def per_class_samples(labels: Flags, claimed: Flags, resamples: Resamples) -> Samples:
    """Precision, recall and F1 of each class, each (1 + R, A)."""
    counts = Confusion(*(resamples.sums(part) for part in Confusion.per_case(labels, claimed)))
    return dict(zip(("precision", "recall", "f1"), precision_recall_f1(counts), strict=True))

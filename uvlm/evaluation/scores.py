"""Numbers about one set of reports, one set of probabilities, one set of masks.

Each is a flat dictionary of metrics, every one followed by its patient-bootstrap interval.

N cases, A abnormalities, C structures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from uvlm.evaluation.bleu import HEADLINE, PROTOCOLS, bleu_counts, bleu_scores, corpus_bleu
from uvlm.evaluation.bootstrap import Resamples, with_interval
from uvlm.evaluation.classification import Confusion, crg, precision_recall_f1, ranking
from uvlm.evaluation.segmentation import mean_over_classes

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def label_scores(labels: Flags, claimed: Flags, resamples: Resamples) -> dict[str, Any]:
    """Macro precision, recall, F1 and CRG of claimed abnormalities."""
    counts = Confusion(*(resamples.sums(part) for part in Confusion.per_case(labels, claimed)))
    precision, recall, f1 = (values.mean(axis=-1) for values in precision_recall_f1(counts))
    num_cases = resamples.weights.sum(axis=1)
    return {
        **with_interval("macro_f1", f1),
        **with_interval("macro_precision", precision),
        **with_interval("macro_recall", recall),
        **with_interval("crg", crg(counts, num_cases)),
    }


def macro_f1_samples(labels: Flags, claimed: Flags, resamples: Resamples) -> Floats:
    """Macro-F1 in every bootstrap sample: (1 + R,), the data as they are first."""
    counts = Confusion(*(resamples.sums(part) for part in Confusion.per_case(labels, claimed)))
    means: Floats = precision_recall_f1(counts)[2].mean(axis=-1)
    return means


def text_scores(
    references: Sequence[str], texts: Sequence[str], resamples: Resamples
) -> dict[str, Any]:
    """BLEU-1..4 and mean under the headline protocol, and how much the texts repeat."""
    sums = resamples.sums(bleu_counts(references, texts))
    numbers: dict[str, Any] = {}
    for name, values in bleu_scores(sums).items():
        numbers |= with_interval(name, values)
    copies = Counter(texts)
    return numbers | {
        "distinct_share": round(len(copies) / len(texts), 6),
        "most_common_share": round(copies.most_common(1)[0][1] / len(texts), 6),
    }


def bleu_of_other_protocols(
    references: Sequence[str], texts: Sequence[str]
) -> dict[str, dict[str, float]]:
    """BLEU under every protocol but the headline's, to show how much cleaning matters."""
    others = [name for name in PROTOCOLS if name != HEADLINE]
    return {
        other: {k: round(v, 6) for k, v in corpus_bleu(references, texts, other).items()}
        for other in others
    }


def ranking_scores(labels: Flags, probabilities: Floats, resamples: Resamples) -> dict[str, Any]:
    """Macro AUROC and AUPRC over the classes that have both kinds of cases."""
    auroc, auprc = ranking(labels, probabilities, resamples.weights)
    classes = range(labels.shape[1])
    return {
        **with_interval("macro_auroc", mean_over_classes(auroc, classes)),
        **with_interval("macro_auprc", mean_over_classes(auprc, classes)),
    }


def per_class_f1(labels: Flags, claimed: Flags) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 of each class over all cases, each (A,)."""
    counts = Confusion.per_case(labels, claimed)
    return precision_recall_f1(Confusion(*(part.sum(axis=0) for part in counts)))

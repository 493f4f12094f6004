"""Numbers about one set of reports, or of probabilities, against its reference.

`*_samples` give a metric in every bootstrap sample, (1 + R,), the data as they are first.
`*_scores` turn them into a flat dictionary, every metric followed by its 95 % interval.

N cases, A abnormalities, R bootstrap samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import compress
from typing import Any

import numpy as np

from uvlm.arrays import Flags, Floats
from uvlm.config import F1_AVERAGES
from uvlm.evaluation import text_metrics
from uvlm.evaluation.bleu import HEADLINE, MAX_ORDER, PROTOCOLS, bleu_counts, bleu_scores
from uvlm.evaluation.bootstrap import Resamples, Samples, with_interval, with_intervals
from uvlm.evaluation.classification import (
    Confusion,
    crg,
    f1_averages,
    precision_recall_f1,
    ranking,
)
from uvlm.evaluation.missing import is_missing, wrong_ngrams, wrong_probabilities
from uvlm.evaluation.reference import DEFAULT_THRESHOLD, Reference
from uvlm.evaluation.segmentation import mean_over_classes


def per_class_samples(labels: Flags, claimed: Flags, resamples: Resamples) -> Samples:
    """Precision, recall and F1 of each class, each (1 + R, A)."""
    counts = Confusion(*map(resamples.sums, Confusion.per_case(labels, claimed)))
    return dict(zip(("precision", "recall", "f1"), precision_recall_f1(counts), strict=True))


def class_counts(reference: Reference) -> dict[str, Any]:
    """Count the classes that macro values run over.

    F1, precision and recall run over all; one without a positive case counts as 0, so that not even
    a perfect report reaches more than `n_positive / n`. AUROC runs over `n_both`, AUPRC over
    `n_positive`.
    """
    positives = reference.labels.sum(axis=0)
    return {
        "n": len(reference.names),
        "n_positive": int((positives > 0).sum()),
        "n_both": int(((positives > 0) & (positives < len(reference.labels))).sum()),
        "without_positives": [*compress(reference.names, positives == 0)],
    }


def label_samples(reference: Reference, claimed: Flags) -> Samples:
    """F1 in three averages, macro precision and recall, and CRG of (N, A) claims."""
    labels, resamples = reference.labels, reference.resamples
    counts = Confusion(*map(resamples.sums, Confusion.per_case(labels, claimed)))
    precision, recall, _ = (values.mean(axis=-1) for values in precision_recall_f1(counts))
    macro = {"macro_precision": precision, "macro_recall": recall}
    # Patients differ in their number of cases, so samples differ in theirs.
    return {**f1_averages(counts), **macro, "crg": crg(counts, resamples.weights.sum(axis=1))}


def text_samples(reference: Reference, texts: Sequence[str]) -> Samples:
    """How much of the references N texts repeat, under the headline protocol."""
    missing = is_missing(texts)
    each = {
        "rouge_l": text_metrics.rouge_l(reference.texts, texts),
        "cider": text_metrics.cider(reference.texts, texts),
    }
    means = {k: reference.resamples.means(np.where(missing, 0.0, v)) for k, v in each.items()}
    sacrebleu = _sacrebleu_samples(reference, texts)
    return {**bleu_samples(reference, texts), **means, "sacrebleu_13a": sacrebleu}


def bleu_samples(reference: Reference, texts: Sequence[str], protocol: str = HEADLINE) -> Samples:
    """BLEU-1..4 and their mean under a named protocol."""
    counts = wrong_ngrams(bleu_counts(reference.texts, texts, protocol), is_missing(texts))
    return bleu_scores(reference.resamples.sums(counts))


def _sacrebleu_samples(reference: Reference, texts: Sequence[str]) -> Floats:
    """BLEU-4 by sacrebleu, 0 where no report is long enough for four words in a row.

    The n-grams that missing reports are charged with would otherwise count as written there, and
    the smoothing would give them a score.
    """
    counts, missing = text_metrics.sacrebleu_counts(reference.texts, texts), is_missing(texts)
    present = reference.resamples.sums(np.where(missing[:, None], 0.0, counts))
    charged = reference.resamples.sums(wrong_ngrams(counts, missing))
    has_4_grams = present[..., 2 * MAX_ORDER - 1] > 0  # the last of the columns of n-grams written
    return np.where(has_4_grams, text_metrics.sacrebleu_score(charged), 0.0)


def report_samples(reference: Reference, texts: Sequence[str], claimed: Flags) -> Samples:
    """Every metric of N reports and the (N, A) abnormalities they claim."""
    return {**label_samples(reference, claimed), **text_samples(reference, texts)}


def report_scores(reference: Reference, texts: Sequence[str], claimed: Flags) -> dict[str, Any]:
    """Every number about N reports, and how much they repeat each other."""
    copies = Counter(texts)
    return {
        **with_intervals(report_samples(reference, texts, claimed)),
        "distinct_share": round(len(copies) / len(texts), 6),
        "most_common_share": round(copies.most_common(1)[0][1] / len(texts), 6),
    }


def ranking_samples(reference: Reference, probabilities: Floats) -> Samples:
    """Macro AUROC and AUPRC over the classes that have both kinds of cases."""
    per_class = ranking(reference.labels, probabilities, reference.resamples.weights)
    classes = range(len(reference.names))
    means = (mean_over_classes(values, classes) for values in per_class)
    return dict(zip(("macro_auroc", "macro_auprc"), means, strict=True))


def classifier_scores(
    reference: Reference, probabilities: Floats | None, thresholds: Floats
) -> dict[str, Any]:
    """Score (N, A) probabilities at 0.5 and at tuned thresholds, (A,).

    A case without probabilities is a row of NaN and as wrong as it can be.
    """
    if probabilities is None:
        return {}
    probabilities = wrong_probabilities(reference.labels, probabilities)
    plain = label_samples(reference, probabilities >= DEFAULT_THRESHOLD)
    tuned = label_samples(reference, probabilities >= thresholds)
    averages = {f"{name}_tuned": tuned[name] for name in F1_AVERAGES}
    return with_intervals({**plain, **averages, **ranking_samples(reference, probabilities)})


def other_protocols(reference: Reference, texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """BLEU of N reports under every protocol but the headline's."""
    others = [protocol for protocol in PROTOCOLS if protocol != HEADLINE]
    return {name: with_intervals(bleu_samples(reference, texts, name)) for name in others}


def above_trivial(reference: Reference, claimed: Flags, trivial: Sequence[Flags]) -> dict[str, Any]:
    """Macro-F1 of (N, A) claims minus that of the best that never looks at an image."""
    own, *rivals = (label_samples(reference, claims)["macro_f1"] for claims in (claimed, *trivial))
    best = max(rivals, key=lambda samples: float(samples[0]))
    return with_interval("above_trivial", own - best)


def meteor_scores(reference: Reference, texts: Sequence[str]) -> dict[str, Any]:
    """METEOR of the corpus, and the mean over reports, which alone can be resampled.

    The corpus value cannot be charged for a missing report, so it is left out then.

    Raises:
        SetupError: there is no Java, or its program fails.
    """
    missing = is_missing(texts)
    corpus, each = text_metrics.meteor(reference.texts, texts)
    means = reference.resamples.means(np.where(missing, 0.0, each))
    whole = None if missing.any() else round(corpus, 6)
    return {"corpus": whole, **with_interval("mean_over_reports", means)}

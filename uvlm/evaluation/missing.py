"""What a missing report costs: it is an empty report, and an empty report is right about nothing.

    abnormalities  wrong in every class: a miss where one is present, a false alarm where none is
    probabilities  below all others where an abnormality is present, else above all others
    n-grams        as many as the longest reference has, none of which matches; no word counts
                   towards the length that the brevity penalty looks at
    ROUGE-L and the like    0

So leaving out a report never pays. Read as "claims nothing", it could: deleting reports full of
false alarms would raise precision. For abnormalities the score is exactly the worst that any report
in its place could have; for n-grams it is the worst of any report no longer than the longest
reference. Average precision is the worst only where no scores are tied.

N cases, A abnormalities.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uvlm.arrays import Flags, Floats
from uvlm.evaluation.bleu import MAX_ORDER

RULE = "an empty report, wrong in every class"


def is_missing(texts: Sequence[str]) -> Flags:
    """Tell which of N texts say nothing at all."""
    return np.asarray([not text.strip() for text in texts], dtype=bool)


def wrong_claims(labels: Flags, claimed: Flags, missing: Flags) -> Flags:
    """Claims of N reports, the opposite of the truth where a report is missing; all (N, A)."""
    return np.where(missing[:, None], ~labels, claimed)


def wrong_probabilities(labels: Flags, probabilities: Floats) -> Floats:
    """Replace NaN by the score that is most wrong; all (N, A).

    That is 2, above every probability, for a negative, and -1, -2, ... for positives.
    """
    # Positives differ from each other: tied, they would all get the precision of the last of them.
    places = -1.0 - np.arange(len(labels), dtype=np.float64)[:, None]
    return np.where(np.isnan(probabilities), np.where(labels, places, 2.0), probabilities)


def wrong_ngrams(counts: Floats, missing: Flags) -> Floats:
    """Charge (N, 10) counts of `bleu_counts` where a report is missing."""
    longest = counts[:, -1].max(initial=0.0)
    written = np.maximum(longest - np.arange(MAX_ORDER), 0.0)  # L words have L - n + 1 n-grams
    charged = counts.copy()
    charged[missing, :MAX_ORDER] = 0.0
    charged[missing, MAX_ORDER : 2 * MAX_ORDER] = written
    charged[missing, -2] = 0.0  # words written
    return charged

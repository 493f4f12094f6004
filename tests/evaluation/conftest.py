"""Three abnormalities, a labeller that looks for their words, and references to score against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from uvlm.evaluation.bootstrap import Resamples
from uvlm.evaluation.reference import Reference, TextLabels

NAMES = ("nodule", "effusion", "emphysema")


class WordLabeller:
    """An abnormality is present where its word is."""

    name = "words"

    def label(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        return np.asarray([[name in text.split() for name in NAMES] for text in texts], np.int64)


label = TextLabels(WordLabeller())


def reference_of(texts: Sequence[str], labels: npt.NDArray[np.bool_]) -> Reference:
    ids = tuple(f"case_{number}" for number in range(len(texts)))
    return Reference(ids, ids, tuple(texts), NAMES, labels, Resamples(np.ones((1, len(texts)))))

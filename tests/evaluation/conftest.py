"""Examples worked by hand; three abnormalities, and a labeller that looks for their words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uvlm.evaluation.bootstrap import Resamples
from uvlm.evaluation.reference import Reference, TextLabels

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = ("nodule", "effusion", "emphysema")


def golden(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    return document


class WordLabeller:
    """An abnormality is present where its word is."""

    name = "words"

    def label(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        return np.asarray([[name in text.split() for name in NAMES] for text in texts], np.int64)


label = TextLabels(WordLabeller())


def reference_of(
    texts: Sequence[str], labels: npt.NDArray[np.bool_], resamples: Resamples | None = None
) -> Reference:
    ids = tuple(f"case_{number}" for number in range(len(labels)))
    names = NAMES if labels.shape[1] == len(NAMES) else tuple(map(str, range(labels.shape[1])))
    once = Resamples(np.ones((1, len(labels))))
    return Reference(ids, ids, tuple(texts), names, labels, resamples or once)


def reference_without_texts(
    labels: npt.NDArray[np.bool_], resamples: Resamples | None = None
) -> Reference:
    return reference_of([""] * len(labels), labels, resamples)


def reference_without_labels(texts: Sequence[str], resamples: Resamples | None = None) -> Reference:
    return reference_of(texts, np.zeros((len(texts), len(NAMES)), dtype=bool), resamples)

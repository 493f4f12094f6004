"""Labels of side, lobe and size, read from reports, and how many a classifier has right.

N cases, A abnormalities, V values: VALUE_NAMES, each 1 where a report says it of an abnormality, 0
where it says another value of the same kind, and -1 where it says none of the kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from torch import Tensor

from uvlm.arrays import Flags, Floats
from uvlm.data.cases import Case
from uvlm.text.attributes import VALUE_NAMES, VALUES, AttributeReader, Attributes, said

NOT_SAID: Final = -1.0


def attribute_table(cases: Sequence[Case], read: AttributeReader, names: Sequence[str]) -> Floats:
    """Read what the reports of N cases say of the abnormalities that the cases have: (N, A, V)."""
    table = np.full((len(cases), len(names), len(VALUE_NAMES)), NOT_SAID)
    for row, case in zip(table, cases, strict=True):
        described = read(case.report.text)
        for a, name in enumerate(names):
            if case.abnormalities[a] and name in described:
                row[a] = _values(described[name])
    return table


def told_presence(cases: Sequence[Case]) -> Floats:
    """Read the labels of N cases as evidence of presence: (N, A, 1)."""
    return np.array([case.abnormalities for case in cases], dtype=np.float64)[..., np.newaxis]


def told_evidence(cases: Sequence[Case], names: Sequence[str], read: AttributeReader) -> Floats:
    """Read labels and reports of N cases as evidence, presence first: (N, A, 1 + V)."""
    return np.concatenate([told_presence(cases), attribute_table(cases, read, names)], axis=-1)


def of_mirrored(said: Tensor) -> Tensor:
    """Exchange right and left in what reports say, (N, A, V): what is true of mirrored CTs."""
    other = {"side right": "side left", "side left": "side right"}
    return said[..., [VALUE_NAMES.index(other.get(name, name)) for name in VALUE_NAMES]]


def attribute_shares(probabilities: Floats, truth: Floats) -> dict[str, float]:
    """Share of sides, lobes and sizes that are right, of those that reports say.

    Args:
        probabilities: (N, A, V), supposing that the abnormality is present.
        truth: (N, A, V).
    """
    found: dict[str, float] = {}
    for kind, columns in _columns():
        asked = truth[..., columns].max(axis=-1) >= 0  # (N, A)
        values = truth[..., columns][asked] > 0
        chosen = likeliest(kind, probabilities[..., columns][asked])
        if len(values):
            found[f"val_{kind}"] = float((chosen == values).all(axis=1).mean())
    return found


def likeliest(kind: str, probabilities: Floats) -> Flags:
    """Choose from (..., V) of one kind: both sides if both are likely, else the likeliest value."""
    first: Flags = probabilities == probabilities.max(axis=-1, keepdims=True)
    likely: Flags = probabilities >= 0.5
    return first | likely if kind == "side" else first


def _values(attributes: Attributes) -> list[float]:
    """Write the values of one abnormality as V numbers."""
    row: list[float] = []
    for kind, values in VALUES.items():
        given = getattr(attributes, kind)
        # Of several sizes the largest counts, as where reports are scored.
        given = {said(kind, given)} if kind == "size" and given else given
        row += [float(value in given) if given else NOT_SAID for value in values]
    return row


def _columns() -> Iterator[tuple[str, slice]]:
    """Yield the columns of each kind among the V values."""
    start = 0
    for kind, values in VALUES.items():
        yield kind, slice(start, start + len(values))
        start += len(values)

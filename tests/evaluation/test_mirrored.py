"""Sides of mirrored CTs: counted by hand, and by a model that looks and one that does not."""

from __future__ import annotations

import numpy as np

from uvlm.evaluation.bootstrap import draw_resamples
from uvlm.evaluation.mirrored import side_swaps
from uvlm.text.attributes import Attributes

NAMES = ("Nodule", "Effusion")
BOTH = frozenset({"right", "left"})


def read(text: str) -> dict[str, Attributes]:
    """Texts such as "Nodule right, Effusion both"."""
    found = {}
    for part in filter(None, text.split(", ")):
        name, _, side = part.partition(" ")
        sides = BOTH if side == "both" else frozenset({side} if side else ())
        found[name] = Attributes(side=sides)
    return found


def compare(pairs: list[tuple[str, str]], samples: int = 0) -> dict[str, object]:
    patients = [str(number) for number in range(len(pairs))]
    resamples = draw_resamples(patients, samples, np.random.default_rng(0))
    ones, others = [one for one, _ in pairs], [other for _, other in pairs]
    return side_swaps(ones, others, read, NAMES, resamples)


def test_only_what_both_reports_name_on_one_side_counts() -> None:
    found = compare(
        [
            ("Nodule right, Effusion left", "Nodule left, Effusion left"),  # one swapped, one kept
            ("Nodule right", "Nodule left"),  # swapped
            ("Nodule both", "Nodule both"),
            ("Nodule right", "Nodule both"),
            ("Nodule right", "Effusion left"),
            ("Nodule", "Nodule left"),
            ("", ""),
        ]
    )
    assert found == {"n": 3, "swapped": round(2 / 3, 6), "kept": round(1 / 3, 6)}


def test_the_interval_is_over_patients() -> None:
    pairs = [("Nodule right", "Nodule left"), ("Nodule right", "Nodule right")] * 10
    found = compare(pairs, 200)
    assert isinstance(interval := found["swapped_ci"], list)
    assert interval[0] < 0.5 < interval[1]
    assert found["swapped"] == found["kept"] == 0.5


def test_without_a_side_there_is_no_share() -> None:
    assert compare([("Nodule", "Nodule")], 10) == {"n": 0, "swapped": None, "kept": None}

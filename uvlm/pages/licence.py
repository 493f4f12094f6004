"""The licence of weights as pages show it; pipeline/licences.py computes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ingredient:
    """Something that weights were made from: what it is, and under which licence."""

    what: str
    licence: str


@dataclass(frozen=True)
class WeightsLicence:
    """The licence of weights, what it means, and what it follows from."""

    name: str
    terms: str
    ingredients: tuple[Ingredient, ...]

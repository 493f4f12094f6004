"""One abdomen with its planted lesions: which organs, how many, where and how large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from uvlm.config import AbdomenPhantomConfig
from uvlm.data.sets.phantom.anatomy import Body, Field, Labels, Mask, body_coordinates
from uvlm.data.sets.phantom.growth import Growth
from uvlm.data.sets.phantom_abdomen.anatomy import ID, KIDNEYS, LIVER, PANCREAS, paint_abdomen
from uvlm.text.abnormalities import ABDOMEN_LESIONS

_BRIGHT: Final = 0.2  # of the lesions take up more contrast than their organ


@dataclass(frozen=True)
class Site:
    """Where a kind of lesion grows: in which classes, by which class it is drawn, how far."""

    organ: tuple[int, ...]
    lesion: int
    largest: int  # voxels of one lesion
    dark_hu: float
    bright_hu: float


SITES: Final = dict(
    zip(
        ABDOMEN_LESIONS,
        (
            Site(LIVER, ID["liver_lesion"], 600, 15.0, 210.0),
            Site(KIDNEYS, ID["kidney_lesion"], 200, 5.0, 290.0),
            Site(PANCREAS, ID["pancreatic_lesion"], 80, 10.0, 210.0),
        ),
        strict=True,
    )
)


@dataclass(frozen=True, eq=False)
class Lesion:
    """One lesion: its kind, its voxels, the class it lies in, and whether it is darker."""

    kind: str
    mask: Mask
    inside: int
    is_dark: bool


@dataclass(frozen=True, eq=False)
class AbdomenScan:
    """A painted abdomen before noise; every array is (D, H, W) in canonical LPS order."""

    hu: Field
    organs: Labels  # as if there were no lesions
    lesions: tuple[Lesion, ...]


def draw_scan(
    config: AbdomenPhantomConfig, shape: tuple[int, int, int], draws: np.random.Generator
) -> AbdomenScan:
    """Paint a body and the lesions that it happens to have."""
    abdomen = paint_abdomen(body_coordinates(Body.draw(draws), shape))
    growth, lesions = Growth(draws, config.sizes), list[Lesion]()
    for kind, site in SITES.items():
        if draws.random() >= config.present[kind]:
            continue
        place = np.isin(abdomen.organs, site.organ)
        is_dark = bool(draws.random() >= _BRIGHT)
        for mask in growth.balls(place, growth.extent(), site.largest):
            abdomen.hu[mask] = site.dark_hu if is_dark else site.bright_hu
            inside = np.bincount(abdomen.organs[mask]).argmax()
            lesions.append(Lesion(kind, mask, int(inside), is_dark))
    return AbdomenScan(abdomen.hu, abdomen.organs, tuple(lesions))

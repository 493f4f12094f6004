"""Outlines lie where the labels lie, in the colour of their class, seen as radiologists look."""

from __future__ import annotations

import io
from typing import Any

import matplotlib.image
import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_rgb

from uvlm.pages.label_planes import _COLOURS, Outlined, draw_outlines

NAMES = ("background", "right_thing", "left_thing", "absent_thing")
RIGHT, LEFT, ABSENT = 1, 2, 3


def picture(marked: tuple[int, ...]) -> npt.NDArray[Any]:
    """Two boxes near the patient's front and head; x runs to the patient's left."""
    ids = np.zeros((24, 30, 40), np.uint8)
    ids[17:22, 4:10, 4:12] = RIGHT
    ids[17:22, 4:10, 28:36] = LEFT
    hu = np.full(ids.shape, -300, np.int16)
    png = draw_outlines(Outlined(hu, ids, (1.0, 1.0, 1.0), NAMES, marked))
    return matplotlib.image.imread(io.BytesIO(png), format="png")[:, :, :3]


def places(image: npt.NDArray[Any], number: int) -> npt.NDArray[np.intp]:
    """Rows and columns of the pixels that have a class's colour, above the legend."""
    colour = np.array(to_rgb(_COLOURS[number]))
    above = image[: int(0.8 * len(image))]
    return np.argwhere(np.abs(above - colour).max(axis=2) < 0.06)


def test_each_class_is_outlined_on_its_side_and_nothing_else_is_drawn() -> None:
    image = picture((RIGHT,))
    third = image.shape[1] / 3
    right, left = places(image, RIGHT), places(image, LEFT)
    axial = [found[found[:, 1] < third] for found in (right, left)]
    coronal = [found[(found[:, 1] > third) & (found[:, 1] < 2 * third)] for found in (right, left)]
    for one, other in (axial, coronal):
        assert len(one) > 20
        assert len(other) > 20
        assert one[:, 1].max() < other[:, 1].min()  # the patient's right is on the left
        assert one[:, 0].max() < 0.6 * len(image)  # front and head are up
    assert len(places(image, ABSENT)) == 0


def test_what_is_in_question_is_drawn_more_boldly() -> None:
    """The axial plane is the same one, whether one or both boxes are marked."""
    counts = []
    for marked in ((RIGHT,), (RIGHT, LEFT)):
        image = picture(marked)
        found = places(image, LEFT)
        counts.append(int((found[:, 1] < image.shape[1] / 3).sum()))
    assert counts[1] > 1.5 * counts[0] > 0

"""Where a page jumps to, and how much of a map lies in a mask."""

from __future__ import annotations

import numpy as np
import pytest

from tests.pages.evidence.conftest import AFFINE, AT, SHAPE, maps, masks, nodule
from uvlm.pages.evidence.places import PlaceMap, focus, peak, point, share_inside


def millimetres(index: tuple[int, int, int]) -> list[float]:
    """RAS millimetres by hand: x and y change sign against LPS."""
    z, y, x = index
    return [30 - 2.0 * x, 20 - 2.0 * y, 100 + 4.0 * z]


def test_a_point_is_given_in_the_millimetres_of_nifti() -> None:
    assert list(point(AFFINE, (3, 4, 5))) == millimetres((3, 4, 5))


def test_the_focus_is_a_voxel_of_the_mask_in_its_largest_slice() -> None:
    assert focus(nodule(), AFFINE) == tuple(millimetres(AT))
    ring = np.zeros(SHAPE, bool)
    ring[5, 4:15, 4:15] = True
    ring[5, 6:13, 6:13] = False  # its middle is no voxel of it
    ring[6, 4, 4] = True
    found = focus(ring, AFFINE)
    places = [tuple(millimetres((int(z), int(y), int(x)))) for z, y, x in np.argwhere(ring)]
    assert found in places
    assert found is not None
    assert found[2] == 120.0


def test_of_a_mask_on_both_sides_the_side_that_the_sentence_names_is_shown() -> None:
    both = np.zeros(SHAPE, bool)
    both[4, 10:12, 3:6] = True  # right: x runs to the left
    both[9, 10:14, 20:26] = True
    right, left = focus(both, AFFINE, ["right"]), focus(both, AFFINE, ["left"])
    assert right is not None
    assert left is not None
    assert right[0] > 0 > left[0]
    assert focus(both, AFFINE, ["right", "left"]) == left  # the larger one
    only_left = both.copy()
    only_left[4] = False
    assert focus(only_left, AFFINE, ["right"]) == left  # better than nothing
    assert focus(np.zeros(SHAPE, bool), AFFINE) is None


def test_a_map_peaks_where_it_is_strongest_and_nowhere_if_it_is_flat() -> None:
    (shown, _) = maps()["Lung nodule"]
    found = peak(shown)
    assert found is not None
    assert np.abs(np.subtract(found, millimetres(AT))).max() <= 2.0
    assert peak(PlaceMap("occlusion", np.zeros((2, 2, 2), np.float32), AFFINE)) is None


def test_the_share_inside_a_mask_is_that_of_a_loop_over_its_voxels() -> None:
    (shown, _) = maps()["Lung nodule"]
    ids = masks()
    mask = ids.array > 0
    filled = np.zeros(shown.strength.shape)
    for z, y, x in np.argwhere(mask):
        filled[z // 2, y // 2, x // 2] += 1 / 8
    expected = (shown.strength * filled).sum() / shown.strength.sum(), filled.mean()
    assert share_inside(shown, mask, AFFINE) == pytest.approx(expected)
    assert share_inside(shown, mask & False, AFFINE) is None

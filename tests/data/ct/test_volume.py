"""Axes and affines, against nibabel and against all 48 ways to lay out the same body."""

from __future__ import annotations

from importlib import import_module
from itertools import permutations, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from uvlm.data.ct.volume import (
    AxisOrder,
    Volume,
    axis_order,
    orientation_of,
    to_canonical,
)

nibabel: Any = import_module("nibabel")
ORDERS = [
    AxisOrder((file_axes[0], file_axes[1], file_axes[2]), (flips[0], flips[1], flips[2]))
    for file_axes in permutations(range(3))
    for flips in product((False, True), repeat=3)
]
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def canonical() -> Volume:
    array = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = [3.0, 0.7, 0.8]
    affine[:, 3] = [10.0, -20.0, 30.0, 1.0]
    return Volume(array, affine)


def stored(canonical: Volume, order: AxisOrder) -> Volume:
    affine = order.stored_affine(canonical.affine, canonical.array.shape)
    return Volume(order.backward(canonical.array), affine)


def place(volume: Volume, index: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    result: npt.NDArray[np.float64] = volume.affine @ [*index, 1.0]
    return result[:3]


@pytest.mark.parametrize("order", ORDERS)
def test_all_48_layouts_of_one_body_give_the_same_canonical_array(
    canonical: Volume, order: AxisOrder
) -> None:
    back = to_canonical(stored(canonical, order))
    np.testing.assert_array_equal(back.array, canonical.array)
    np.testing.assert_allclose(back.affine, canonical.affine)


@pytest.mark.parametrize("order", ORDERS)
def test_every_voxel_stays_where_it_is_in_the_patient(canonical: Volume, order: AxisOrder) -> None:
    volume = stored(canonical, order)
    for index in np.ndindex(volume.array.shape):
        point = place(volume, np.array(index))
        voxel = np.linalg.solve(canonical.affine, [*point, 1.0])[:3].round().astype(int)
        assert canonical.array[tuple(voxel)] == volume.array[index]


@pytest.mark.parametrize("order", ORDERS)
def test_orientation_is_what_nibabel_says(canonical: Volume, order: AxisOrder) -> None:
    volume = stored(canonical, order)
    ras = (RAS_FROM_LPS @ volume.affine)[:, [2, 1, 0, 3]]
    assert volume.orientation() == "".join(nibabel.aff2axcodes(ras))


def test_canonical_is_called_lps(canonical: Volume) -> None:
    assert canonical.orientation() == "LPS"
    assert axis_order(canonical.affine) == AxisOrder((0, 1, 2), (False, False, False))


def test_spacing_is_derived_along_z_y_x(canonical: Volume) -> None:
    assert canonical.spacing == pytest.approx((3.0, 0.7, 0.8))
    turned = stored(canonical, AxisOrder((2, 0, 1), (True, False, True)))
    assert turned.spacing == pytest.approx((0.7, 0.8, 3.0))


def test_an_oblique_scan_takes_the_nearest_axes() -> None:
    angle = np.deg2rad(30)
    affine = np.eye(4)
    affine[:3, :3] = [
        [0, np.sin(angle), np.cos(angle)],
        [0, np.cos(angle), -np.sin(angle)],
        [1, 0, 0],
    ]
    assert orientation_of(affine) == "LPS"


def test_leading_axes_are_carried_along() -> None:
    order = AxisOrder((2, 0, 1), (True, False, True))
    masks = np.random.default_rng(1).integers(0, 2, (3, 4, 5, 6))
    each = np.stack([order.forward(mask) for mask in masks])
    np.testing.assert_array_equal(order.forward(masks), each)
    np.testing.assert_array_equal(order.backward(each), masks)

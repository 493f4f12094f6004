"""Labels on another grid, against a loop over voxels in millimetres."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uvlm.data.ct.volume import Affine, LabelMap, ReadError, axis_order
from uvlm.data.labels.regrid import onto_grid


def affine(spacing: tuple[float, ...], origin: tuple[float, ...], axes: tuple[int, ...]) -> Affine:
    """Index (z, y, x) to LPS millimetres; `axes` says along which of x, y, z each runs."""
    matrix = np.eye(4)
    matrix[:3, :3] = 0.0
    for number, (axis, length) in enumerate(zip(axes, spacing, strict=True)):
        matrix[axis, number] = length
    matrix[:3, 3] = origin
    return matrix


def by_loop(labels: LabelMap, shape: tuple[int, ...], target: Affine) -> npt.NDArray[np.uint8]:
    """Take for every voxel the label voxel whose box holds its centre."""
    out = np.zeros(shape, np.uint8)
    to_index = np.linalg.inv(labels.affine)
    for voxel in np.ndindex(*shape):
        place = to_index @ target @ [*voxel, 1.0]
        index = [int(np.floor(round(p, 6) + 0.5)) for p in place[:3]]
        if all(0 <= i < n for i, n in zip(index, labels.array.shape, strict=True)):
            out[voxel] = labels.array[tuple(index)]
    return out


signed = st.tuples(st.sampled_from([0.7, 1.0, 1.6, 3.0]), st.booleans()).map(
    lambda pair: -pair[0] if pair[1] else pair[0]
)
grids = st.tuples(
    st.tuples(signed, signed, signed),
    st.tuples(*[st.floats(-2.0, 2.0).map(lambda value: round(value, 2))] * 3),
    st.permutations([0, 1, 2]).map(tuple),
)


@settings(max_examples=60, deadline=None)
@given(grid=grids, shape=st.tuples(*[st.integers(2, 6)] * 3), seed=st.integers(0, 10))
def test_a_voxel_gets_the_label_that_holds_its_centre(
    grid: tuple[tuple[float, ...], tuple[float, ...], tuple[int, ...]],
    shape: tuple[int, int, int],
    seed: int,
) -> None:
    array = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)
    labels = LabelMap(array, affine(*grid))
    target = affine((1.3, 1.1, 0.9), (0.0, 0.0, 0.0), (2, 1, 0))
    expected = by_loop(labels, (4, 5, 6), target)
    if not expected.any() and array.any():
        with pytest.raises(ReadError, match="beside"):
            onto_grid(labels, (4, 5, 6), target, "l.nii.gz")
    else:
        found = onto_grid(labels, (4, 5, 6), target, "l.nii.gz")
        np.testing.assert_array_equal(found, expected)


def test_the_same_voxels_in_other_axes_come_back_unchanged() -> None:
    array = np.random.default_rng(0).integers(0, 9, (4, 5, 6)).astype(np.uint8)
    canonical = affine((3.0, 0.8, 0.8), (-40.0, 10.0, 5.0), (2, 1, 0))
    for axes, flips in itertools.product(
        itertools.permutations(range(3)), [(1, 1, 1), (-1, 1, -1)]
    ):
        stored = affine(tuple(0.5 * f for f in flips), (0.0, 0.0, 0.0), axes)
        order = axis_order(stored)
        labels = LabelMap(order.backward(array), order.stored_affine(canonical, array.shape))
        np.testing.assert_array_equal(onto_grid(labels, array.shape, canonical, "l"), array)


def test_labels_beside_the_ct_are_refused_saying_where_they_lie() -> None:
    labels = LabelMap(np.ones((4, 4, 4), np.uint8), affine((1, 1, 1), (500, 0, 0), (2, 1, 0)))
    with pytest.raises(ReadError, match=r"l\.nii\.gz: lies beside the CT: .*500\.\.503") as error:
        onto_grid(labels, (4, 4, 4), affine((1, 1, 1), (0, 0, 0), (2, 1, 0)), "l.nii.gz")
    assert (error.value.reason, error.value.exit_code) == ("no_overlap", 3)


def test_a_grid_that_meets_the_ct_but_labels_nothing_in_it_is_refused() -> None:
    array = np.zeros((8, 4, 4), np.uint8)
    array[7] = 3
    labels = LabelMap(array, affine((1, 1, 1), (0, 0, 0), (2, 1, 0)))
    target = affine((1, 1, 1), (0, 0, 0), (2, 1, 0))
    with pytest.raises(ReadError, match="labels nothing inside the CT"):
        onto_grid(labels, (4, 4, 4), target, "l.nii.gz")
    empty = LabelMap(np.zeros_like(array), labels.affine)
    assert not onto_grid(empty, (4, 4, 4), target, "l.nii.gz").any()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000))
def test_no_instance_vanishes_between_the_centres_of_larger_voxels(seed: int) -> None:
    generator = np.random.default_rng(seed)
    array = np.zeros((12, 12, 12), np.uint8)
    places = generator.choice(12**3, 3, replace=False)
    array.ravel()[places] = [1, 2, 3]
    labels = LabelMap(array, affine((1, 1, 1), (0, 0, 0), (2, 1, 0)))
    target = affine((3, 3, 3), (1, 1, 1), (2, 1, 0))
    kept = onto_grid(labels, (4, 4, 4), target, "l", keep=True)
    cells = {tuple(np.array(np.unravel_index(p, array.shape)) // 3) for p in places}
    assert {tuple(cell) for cell in np.argwhere(kept)} == cells

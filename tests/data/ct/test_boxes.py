"""Boxes hold what whole arrays hold, in any order of axes and from any file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uvlm.data.ct.boxes import Box, count_ids
from uvlm.data.ct.io import read_findings, write_findings_mask
from uvlm.data.ct.volume import AxisOrder, ReadError

ORDERS = st.builds(
    AxisOrder,
    st.permutations([0, 1, 2]).map(lambda axes: (axes[0], axes[1], axes[2])),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), share=st.sampled_from([0.0, 0.01, 0.3]), order=ORDERS)
def test_a_box_is_the_whole_array_and_turns_like_it(
    seed: int, share: float, order: AxisOrder
) -> None:
    draws = np.random.default_rng(seed)
    shape = tuple(int(n) for n in draws.integers(3, 9, 3))
    whole = ((draws.random(shape) < share) * draws.integers(1, 4, shape)).astype(np.uint8)
    box = Box.around(whole)
    np.testing.assert_array_equal(box.whole(shape), whole)
    turned = order.forward(whole)
    np.testing.assert_array_equal(box.canonical(order, shape).whole(turned.shape), turned)
    if whole.any():
        edges = [box.values.max(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
        assert all(edge[0] and edge[-1] for edge in edges)
    np.testing.assert_array_equal(count_ids(whole), np.bincount(whole.ravel(), minlength=256))


def test_findings_are_read_plane_by_plane_and_a_damaged_file_is_still_refused(
    tmp_path: Path,
) -> None:
    draws = np.random.default_rng(0)
    mask = ((draws.random((3, 40, 50, 60)) < 0.05) * 2).astype(np.uint8)
    path = tmp_path / "m.nii.gz"
    write_findings_mask(path, mask)
    np.testing.assert_array_equal(read_findings(path).array, mask)
    whole = path.read_bytes()
    for damaged in (whole[:-40], whole[:-8] + b"\0\0\0\0" + whole[-4:], whole + b"more"):
        path.write_bytes(damaged)
        with pytest.raises(ReadError):
            read_findings(path)

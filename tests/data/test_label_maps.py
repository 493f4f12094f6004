"""Painting and sampling of label maps, against loops over voxels."""

from __future__ import annotations

import numpy as np
import pytest

from uvlm.data import label_maps
from uvlm.data.label_scheme import fine_classes
from uvlm.data.preprocess import Geometry

GROUND_GLASS, NODULE, LUNG = 43, 44, 10


def test_merging_is_what_a_loop_over_voxels_says() -> None:
    generator = np.random.default_rng(0)
    fine = fine_classes("chest")
    shape = (5, 6, 7)
    parts = {
        "anatomy": generator.choice([0, 10, 16, 51, 52], shape).astype(np.uint8),
        "airway": generator.choice([0, 0, 1, 2], shape).astype(np.uint8),
        "vessel": generator.choice([0, 0, 3, 4], shape).astype(np.uint8),
    }
    findings = [
        label_maps.Finding(class_id, (generator.random(shape) < 0.2).astype(np.uint8))
        for class_id in (GROUND_GLASS, NODULE)
    ]
    merged = label_maps.merge(parts, findings, ("anatomy", "airway", "vessel", "lesion"), fine)
    for voxel in np.ndindex(shape):
        expected = {0: 0, 10: 10, 16: 16, 51: 21, 52: 22}[int(parts["anatomy"][voxel])]
        if expected in (0, 10, 16):
            if parts["airway"][voxel] == 1:
                expected = 16
            if parts["vessel"][voxel]:
                expected = {3: 34, 4: 23}[int(parts["vessel"][voxel])]
        for finding in findings:
            if finding.instances[voxel]:
                expected = finding.class_id
        assert merged[voxel] == expected
    plain = label_maps.merge(parts, findings, ("anatomy",), fine)
    np.testing.assert_array_equal(plain, fine.total[parts["anatomy"]])


@pytest.mark.parametrize("grid", [(3, 4, 5), (8, 10, 12), (20, 24, 28)])
def test_no_instance_of_a_finding_vanishes_on_a_coarser_grid(grid: tuple[int, int, int]) -> None:
    shape = (10, 12, 14)
    instances = np.zeros(shape, np.uint8)
    places = [(0, 0, 0), (9, 11, 13), (3, 3, 3), (5, 9, 1)]
    for number, place in enumerate(places, start=1):
        instances[place] = number
    merged = np.where(instances > 0, NODULE, LUNG).astype(np.uint8)
    scale = tuple(n / size for n, size in zip(shape, grid, strict=True))
    geometry = Geometry(
        shape, np.diag([3.0, 3, 3, 1])[:, [2, 1, 0, 3]], grid, (scale[0], scale[1], scale[2])
    )
    on_grid = label_maps.to_grid(merged, [label_maps.Finding(NODULE, instances)], geometry)
    for place in places:
        cell = tuple(int((i + 0.5) / s) for i, s in zip(place, scale, strict=True))
        assert on_grid[cell] == NODULE
    outside = geometry.labels_to_grid(merged) == on_grid
    assert np.count_nonzero(~outside) <= len(places)

"""Painting and sampling of label maps, against loops over voxels."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uvlm.arrays import Ids
from uvlm.data.ct.boxes import Box
from uvlm.data.ct.grid import Geometry
from uvlm.data.ct.io import read_findings, write_findings_mask
from uvlm.data.label_scheme import IGNORE_ID, FineClasses, fine_classes
from uvlm.data.labels import merge as label_merge
from uvlm.data.labels.merge import Finding, merge_anatomy, paint_findings

GROUND_GLASS, NODULE, LUNG = 43, 44, 10


def merge(
    parts: Mapping[str, Ids],
    findings: Sequence[Finding],
    priority: Sequence[str],
    fine: FineClasses,
) -> Ids:
    anatomy = merge_anatomy(parts, priority, fine)
    return paint_findings(anatomy, findings if "lesion" in priority else [], fine)


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
        Finding(class_id, Box((generator.random(shape) < 0.2).astype(np.uint8)))
        for class_id in (GROUND_GLASS, NODULE)
    ]
    merged = merge(parts, findings, ("anatomy", "airway", "vessel", "lesion"), fine)
    for voxel in np.ndindex(shape):
        expected = {0: 0, 10: 10, 16: 16, 51: 21, 52: 22}[int(parts["anatomy"][voxel])]
        if expected in (0, 10, 16):
            if parts["airway"][voxel] == 1:
                expected = 16
            if parts["vessel"][voxel]:
                expected = {3: 34, 4: 23}[int(parts["vessel"][voxel])]
        for finding in findings:
            if finding.box.values[voxel]:
                expected = finding.class_id
        assert merged[voxel] == expected
    plain = merge(parts, findings, ("anatomy",), fine)
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
    on_grid = label_merge.to_grid(
        merged, [Finding(NODULE, Box(instances))], geometry, fine_classes("chest")
    )
    for place in places:
        cell = tuple(int((i + 0.5) / s) for i, s in zip(place, scale, strict=True))
        assert on_grid[cell] == NODULE
    outside = geometry.labels_to_grid(merged) == on_grid
    assert np.count_nonzero(~outside) <= len(places)


PRIORITY = ("anatomy", "airway", "vessel", "lesion")
SHAPE = (4, 5, 6)


def random_parts(seed: int) -> dict[str, Ids]:
    generator = np.random.default_rng(seed)
    return {
        "anatomy": generator.choice([0, 5, 10, 16, 51, 52], SHAPE).astype(np.uint8),
        "airway": generator.choice([0, 1, 2], SHAPE).astype(np.uint8),
        "vessel": generator.choice([0, 3, 4], SHAPE).astype(np.uint8),
    }


def random_findings(seed: int, shape: tuple[int, int, int] = SHAPE) -> list[Finding]:
    """Findings that overlap, two of them of one category, each with up to three instances."""
    generator = np.random.default_rng(seed)
    numbers = [generator.integers(0, 4, shape) for _ in range(4)]
    drawn = [np.where(generator.random(shape) < 0.15, n, 0).astype(np.uint8) for n in numbers]
    ids = (GROUND_GLASS, NODULE, NODULE, 37)
    return [Finding(number, Box.around(array)) for number, array in zip(ids, drawn, strict=True)]


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_input_does_not_matter(seed: int) -> None:
    fine, parts, findings = fine_classes("chest"), random_parts(seed), random_findings(seed)
    geometry = geometry_of(SHAPE, (3, 3, 4))
    expected = merge(parts, findings, PRIORITY, fine)
    on_grid = label_merge.to_grid(expected, findings, geometry, fine)
    for kinds in itertools.permutations(parts):
        given_parts = {kind: parts[kind] for kind in kinds}
        merged = merge(given_parts, findings, PRIORITY, fine)
        np.testing.assert_array_equal(merged, expected)
    for order in itertools.permutations(findings):
        merged = merge(parts, order, PRIORITY, fine)
        np.testing.assert_array_equal(merged, expected)
        again = label_merge.to_grid(expected, order, geometry, fine)
        np.testing.assert_array_equal(again, on_grid)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_every_lesion_voxel_is_kept(seed: int) -> None:
    findings = random_findings(seed)
    fine = fine_classes("chest")
    merged = merge(random_parts(seed), findings, PRIORITY, fine)
    for voxel in np.ndindex(SHAPE):
        covering = [f.class_id for f in findings if f.box.whole(SHAPE)[voxel]]
        if covering:
            assert merged[voxel] == max(covering, key=fine.lesion_paint_order.index)
        else:
            assert merged[voxel] <= 34


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), grid=st.sampled_from([(3, 3, 3), (4, 6, 5), (10, 9, 8)]))
def test_an_instance_is_gone_from_the_grid_only_under_later_paint(
    seed: int, grid: tuple[int, int, int]
) -> None:
    shape = (7, 8, 9)
    findings, fine = random_findings(seed, shape), fine_classes("chest")
    merged = merge({"anatomy": np.zeros(shape, np.uint8)}, findings, PRIORITY, fine)
    geometry = geometry_of(shape, grid)
    on_grid = label_merge.to_grid(merged, findings, geometry, fine)
    rank = fine.lesion_paint_order.index
    for finding in findings:
        instances = finding.box.whole(shape)
        for number in range(1, int(instances.max()) + 1):
            voxels = np.argwhere((instances == number) & (merged == finding.class_id))
            cells = {
                tuple(int((i + 0.5) / s) for i, s in zip(v, geometry.scale, strict=True))
                for v in voxels
            }
            found = {int(on_grid[cell]) for cell in cells}
            if cells and finding.class_id not in found:
                assert all(rank(i) > rank(finding.class_id) for i in found)


def test_what_is_put_back_never_covers_a_smaller_lesion() -> None:
    """Both map to one grid voxel, the nodule by its centre: the nodule has it."""
    glass, nodule = np.zeros((2, 4, 4, 4), np.uint8)
    nodule[1, 1, 1] = 1  # sampled: the centre of a grid voxel of 2 x 2 x 2 lies in it
    glass[0, 0, 0] = 1  # between the sampling points
    findings = [Finding(NODULE, Box.around(nodule)), Finding(GROUND_GLASS, Box.around(glass))]
    geometry = geometry_of((4, 4, 4), (2, 2, 2))
    assert geometry.labels_to_grid(nodule)[0, 0, 0] == 1
    fine = fine_classes("chest")
    merged = merge({"anatomy": np.zeros((4, 4, 4), np.uint8)}, findings, PRIORITY, fine)
    assert label_merge.to_grid(merged, findings, geometry, fine)[0, 0, 0] == NODULE


def test_ignored_is_what_lies_near_a_finding_with_as_many_instances_as_are_drawn() -> None:
    generator = np.random.default_rng(3)
    shape, spacing, margin = (9, 10, 11), (4.0, 2.0, 2.0), 6.0
    fine = fine_classes("chest")
    anatomy = generator.choice([0, LUNG, 16, 21, 34], shape).astype(np.uint8)
    sparse, complete = np.zeros((2, *shape), np.uint8)
    sparse[2, 2, 2], sparse[2, 2, 8], sparse[5, 5, 5] = 1, 2, 3
    complete[7, 8, 2], complete[7, 8, 3] = 1, 2
    findings = [Finding(NODULE, Box.around(sparse)), Finding(GROUND_GLASS, Box(complete))]
    merged = label_merge.paint_findings(anatomy, findings, fine)
    marked = label_merge.ignore_near_findings(merged, findings, margin, spacing, fine)
    drawn = np.argwhere(sparse)
    for voxel in np.ndindex(shape):
        distance = min(np.linalg.norm((np.array(voxel) - d) * spacing) for d in drawn)
        unsure = distance <= margin and merged[voxel] in (0, LUNG)
        assert marked[voxel] == (IGNORE_ID if unsure else merged[voxel]), voxel
    assert (marked == IGNORE_ID).sum() > 20
    off = label_merge.ignore_near_findings(merged, findings, 0.0, spacing, fine)
    np.testing.assert_array_equal(off, merged)


def test_overlaps_are_shares_of_the_smaller_claim() -> None:
    parts = {kind: np.zeros((1, 1, 12), np.uint8) for kind in ("anatomy", "airway", "vessel")}
    parts["anatomy"][0, 0, :6] = 51  # heart: nothing may cover it
    parts["anatomy"][0, 0, 6:] = LUNG  # airways and vessels run through it by nature
    parts["airway"][0, 0, 6:10] = 1
    parts["vessel"][0, 0, 5:7] = 3
    lesion = np.zeros((1, 1, 12), np.uint8)
    lesion[0, 0, 8:] = 1
    anatomy = label_merge.Anatomy(fine_classes("chest"))
    for kind, array in parts.items():
        anatomy.paint(kind, array)
    anatomy.claim([Finding(NODULE, Box.around(lesion))])
    assert anatomy.overlaps() == {
        "anatomy+vessel": 0.5,
        "airway+vessel": 0.5,
        "airway+lesion": 0.5,
    }


def geometry_of(shape: tuple[int, int, int], grid: tuple[int, int, int]) -> Geometry:
    z, y, x = (n / size for n, size in zip(shape, grid, strict=True))
    return Geometry(shape, np.diag([3.0, 3, 3, 1])[:, [2, 1, 0, 3]], grid, (z, y, x))


def test_merging_takes_two_maps_of_the_size_of_the_ct(tmp_path: Path) -> None:
    shape, generator = (64, 128, 128), np.random.default_rng(0)
    voxels = int(np.prod(shape))
    parts = {
        "anatomy": generator.choice([0, LUNG, 51], shape).astype(np.uint8),
        "airway": generator.choice([0, 1], shape).astype(np.uint8),
        "vessel": generator.choice([0, 3, 4], shape).astype(np.uint8),
    }
    mask = np.zeros((6, *shape), np.uint8)
    mask[:, 10:20, 30:40, 50:60] = 1
    write_findings_mask(tmp_path / "m.nii.gz", mask)
    tracemalloc.start()
    boxes = read_findings(tmp_path / "m.nii.gz").boxes
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    anatomy = label_merge.Anatomy(fine_classes("chest"))
    for kind, array in parts.items():
        anatomy.paint(kind, array)
    anatomy.claim([Finding(NODULE, box) for box in boxes])
    assert anatomy.overlaps()
    of_merging = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert 2 * voxels <= of_merging < 3 * voxels

"""Plausible anatomy: no flag on clean bodies, and every planted fault is found by its rule."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from uvlm.arrays import Ids
from uvlm.data.ct.io import read_label_map, read_volume
from uvlm.data.ct.volume import Affine, axis_order
from uvlm.data.label_scheme import fine_classes, look_up
from uvlm.data.labels.measure import LabelFacts, measure
from uvlm.data.labels.rules import Plausible
from uvlm.data.sets.phantom.anatomy import Body
from uvlm.data.sets.phantom.scan import draw_scan, reconstruct
from uvlm.text.abnormalities import ABNORMALITIES

FINE = fine_classes("chest")
LIVER, HEART, AIRWAY, LOWER_LOBE = 5, 21, 16, 14
AFFINE = np.array([[0.0, 0, 7, 0], [0, 7, 0, 0], [10, 0, 0, 0], [0, 0, 0, 1]])
Case = tuple[Ids, npt.NDArray[np.int16], Affine]
Fault = Callable[[Ids], Ids]


@cache
def phantom(seed: int, prevalence: float = 0.25) -> Case:
    """A body of the size of the default profile, a quarter of all abnormalities planted."""
    generator = np.random.default_rng(1000 + seed)
    present = [name for name in ABNORMALITIES if generator.random() < prevalence]
    scan = draw_scan(Body.draw(generator), present, (32, 48, 48), generator)
    anatomy = scan.organs.copy()
    free = np.isin(anatomy, [0, 10, 11, 12, 13, 14, 16])
    for tube, class_id in ((1, AIRWAY), (3, 34), (4, 23)):
        anatomy[free & (scan.tubes == tube)] = class_id
    return anatomy, reconstruct(scan.hu, 15.0, generator), AFFINE


@cache
def real(folder: Path, name: str) -> Case:
    """A real CT with TotalSegmentator's own labels."""
    names = {"chest_abdomen_3mm": "chest_abdomen_3mm.nii.gz", "dicom_series": "dicom_series"}
    volume = read_volume(folder / "ct" / names[name])
    drawn = read_label_map(folder / "ct" / f"{name}_totalsegmentator.nii.gz")
    order = axis_order(volume.affine)
    ids = axis_order(drawn.affine).forward(look_up(FINE.total, drawn.array))
    affine = order.canonical_affine(volume.affine, volume.array.shape)
    return ids, order.forward(volume.array).astype(np.int16), affine


def facts_of(case: Case, overlaps: dict[str, float] | None = None) -> LabelFacts:
    anatomy, hu, affine = case
    return measure(anatomy, affine, FINE.one_piece, (anatomy, hu), overlaps or {})


def broken(case: Case, fault: Fault) -> LabelFacts:
    return facts_of((fault(case[0].copy()), case[1], case[2]))


def flags(facts: LabelFacts, bodies: str = "phantom") -> set[tuple[str, str]]:
    rules = Plausible.of("adult" if bodies == "adult" else "phantom", FINE)
    return {(flag.rule, flag.structure) for flag in rules.judge(facts)}


def mirrored(ids: Ids) -> Ids:
    return ids[:, :, ::-1].copy()


def upside_down(ids: Ids) -> Ids:
    return ids[::-1].copy()


def back_to_front(ids: Ids) -> Ids:
    return ids[:, ::-1].copy()


def leaking(ids: Ids) -> Ids:
    """The airway runs out into a whole lobe."""
    ids[ids == LOWER_LOBE] = AIRWAY
    return ids


def halved_liver(ids: Ids) -> Ids:
    """Only the lower half is left."""
    heights = np.nonzero(ids == LIVER)[0]
    ids[int(np.median(heights)) + 1 :][ids[int(np.median(heights)) + 1 :] == LIVER] = 0
    return ids


def torn_heart(ids: Ids) -> Ids:
    """The middle third of it, side to side, is gone."""
    places = np.nonzero(ids == HEART)[2]
    low, high = np.percentile(places, [38, 62]).astype(int)
    part = ids[:, :, low : high + 1]
    part[part == HEART] = 0
    return ids


def swapped(one: int, other: int) -> Fault:
    def swap(ids: Ids) -> Ids:
        swapped_ids = ids.copy()
        swapped_ids[ids == one], swapped_ids[ids == other] = other, one
        return swapped_ids

    return swap


@pytest.mark.parametrize("seed", range(20))
def test_no_flag_on_a_clean_phantom(seed: int) -> None:
    assert flags(facts_of(phantom(seed))) == set()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (mirrored, {("side", "lung_left"), ("side", "spleen"), ("side", "stomach")}),
        (upside_down, {("side", "lung_left"), ("side", "heart"), ("density", "liver")}),
        (back_to_front, {("side", "spine"), ("density", "spine")}),
        (leaking, {("volume", "trachea_and_airway")}),
        (halved_liver, {("flat", "liver")}),
        (torn_heart, {("fragments", "heart")}),
        (swapped(11, 14), {("side", "lung_lower_lobe_left")}),
    ],
)
def test_a_planted_fault_is_found(seed: int, fault: Fault, expected: set[tuple[str, str]]) -> None:
    assert expected <= flags(broken(phantom(seed), fault))


@pytest.mark.parametrize("seed", range(8))
def test_an_airway_that_leaks_into_a_healthy_lobe_is_not_air_any_more(seed: int) -> None:
    assert ("leak", "trachea_and_airway") in flags(broken(phantom(seed, 0.0), leaking))
    assert flags(facts_of(phantom(seed, 0.0))) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chest_abdomen_3mm", "dicom_series"])
def test_no_flag_on_real_labels_that_the_border_cuts(real_data: Path, name: str) -> None:
    facts = facts_of(real(real_data, name))
    assert sum(found.is_cut for found in facts.structures.values()) > 10
    assert flags(facts, "adult") == set()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (mirrored, {("side", "kidney_left"), ("side", "spleen"), ("side", "aorta")}),
        (upside_down, {("side", "lung_left"), ("density", "lung_left")}),
        (halved_liver, {("volume", "liver"), ("flat", "liver")}),
        (swapped(2, 3), {("side", "kidney_left")}),
    ],
)
def test_a_fault_planted_in_real_labels_is_found(
    real_data: Path, fault: Fault, expected: set[tuple[str, str]]
) -> None:
    found = flags(broken(real(real_data, "chest_abdomen_3mm"), fault), "adult")
    assert expected <= found


def test_an_airway_that_is_dense_or_mostly_lung_is_flagged_by_density_and_leak() -> None:
    """Half of it lung of -700 HU: the mean passes, the share of air does not."""
    ids = np.full((4, 10, 10), AIRWAY, np.uint8)
    affine = np.diag([2.0, 2, 20, 1])[:, [2, 1, 0, 3]]
    for dense, expected in (
        (0.3, set()),
        (0.6, {("density", "trachea_and_airway")}),
        (0.75, {("density", "trachea_and_airway"), ("leak", "trachea_and_airway")}),
    ):
        hu = np.full(ids.size, -980, np.int16)
        hu[: int(dense * ids.size)] = -650
        found = flags(facts_of((ids, hu.reshape(ids.shape), affine)), "adult")
        assert found == expected


def test_kinds_that_claim_the_same_voxels_are_flagged() -> None:
    rules = Plausible.of("phantom", FINE)
    facts = facts_of(phantom(0), {"airway+vessel": 0.4, "airway+lesion": 0.9})
    (flag,) = rules.judge(facts)
    assert (flag.rule, flag.structure) == ("overlap", "airway+vessel")
    assert flag.fact == "both claim 40% of the smaller one, plausible is 5% or less"


def test_what_the_border_cuts_is_not_too_small_but_may_be_too_large() -> None:
    ids, hu = np.zeros((60, 60, 60), np.uint8), np.full((60, 60, 60), 50, np.int16)
    affine = np.diag([3.0, 3, 3, 1])[:, [2, 1, 0, 3]]
    ids[20:24, 20:24, 20:24] = LIVER
    assert ("volume", "liver") in flags(facts_of((ids, hu, affine)), "adult")
    ids[0:20, 20:24, 20:24] = LIVER
    assert ("volume", "liver") not in flags(facts_of((ids, hu, affine)), "adult")
    ids[:, :, :] = LIVER
    assert flags(facts_of((ids, hu, affine)), "adult") == {("volume", "liver")}


def test_facts_are_what_a_loop_over_voxels_says() -> None:
    anatomy, hu, _ = phantom(1)
    affine = np.array([[0.1, 0.0, -2.0, 5], [0, 3.0, 0, -7], [4.0, 0, 0, 11], [0, 0, 0, 1]])
    facts = facts_of((anatomy, hu, affine))
    assert set(facts.structures) == {int(i) for i in np.unique(anatomy) if i}
    for number, found in facts.structures.items():
        places = np.argwhere(anatomy == number)
        centre = affine[:3, :3] @ places.mean(axis=0) + affine[:3, 3]
        values = hu[anatomy == number]
        assert found.ml == pytest.approx(len(places) * 24e-3, abs=1e-2)
        assert found.centre_mm == pytest.approx(tuple(centre[::-1]), abs=0.051)
        assert found.hu == pytest.approx(values.mean(), abs=0.051)
        assert found.air == pytest.approx((values < -900).mean(), abs=1e-4)
        ends = np.array(anatomy.shape) - 1
        assert found.is_cut == bool(((places == 0) | (places == ends)).any())
    assert LabelFacts.from_json(facts.to_json()) == facts


@pytest.mark.parametrize("dataset", ["chest", "abdomen"])
@pytest.mark.parametrize("bodies", ["adult", "phantom"])
def test_the_tables_name_known_classes_and_ranges(dataset: str, bodies: str) -> None:
    fine = {name: fine_classes(name).names for name in ("chest", "abdomen")}
    rules = Plausible.of(bodies, fine_classes(dataset))  # type: ignore[arg-type]
    entries = rules.document["structures"]
    for entry in entries.values():
        assert all(member in fine["chest"] + fine["abdomen"] for member in entry["of"])
        low, high = entry["volume"]
        assert 0 < low < high
    for relation in ("left_of", "above", "behind"):
        assert all(name in entries for pair in rules.document[relation] for name in pair)
    for rule in ("hu", "least_air"):
        assert set(rules.document[rule]) <= set(entries)
    assert set(rules.document["most_flat"]) <= set(entries)

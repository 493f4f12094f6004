"""Contradictions, against masks and probabilities set by hand."""

from __future__ import annotations

import numpy as np
import pytest

from uvlm.data.ct.grid import Geometry
from uvlm.data.ct.volume import LabelMap
from uvlm.data.label_scheme import scheme
from uvlm.drafts.checks import Evidence
from uvlm.drafts.shown import STRUCTURES, Masks
from uvlm.evaluation.said import Said, SaidSentence
from uvlm.text.attributes import Attributes

NAMES = scheme("chest", "fine_lesion").names
SHAPE = (8, 10, 20)


def masks(*painted: tuple[str, tuple[slice, ...]]) -> Masks:
    """Right lung at low x, left at high x (x runs to the left); upper lobes at high z."""
    ids = np.zeros(SHAPE, np.uint8)
    for side, columns in (("right", slice(2, 8)), ("left", slice(12, 18))):
        ids[4:, 2:8, columns] = NAMES.index(f"lung_upper_lobe_{side}")
        ids[:4, 2:8, columns] = NAMES.index(f"lung_lower_lobe_{side}")
    for name, place in painted:
        ids[place] = NAMES.index(name)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 10.0, 10.0, 10.0, 1.0  # 1 ml a voxel
    geometry = Geometry(SHAPE, affine, SHAPE, (1.0, 1.0, 1.0))
    return Masks(NAMES, LabelMap(ids, affine), ids, geometry)


LOW_RIGHT = (slice(1, 3), slice(3, 5), slice(3, 5))  # 8 voxels
MUCH_RIGHT = (slice(0, 4), slice(3, 7), slice(3, 6))  # 48 voxels


def contradiction(
    said: Said, shown: Masks, probability: float | None = None, threshold: float = 0.4
) -> str | None:
    name = said.abnormality
    probabilities = {} if probability is None else {name: probability}
    evidence = Evidence(probabilities, {name: threshold}, shown)
    (claim,) = evidence.check(SaidSentence("A sentence.", "findings", (said,))).claims
    assert (claim.probability, claim.present) == (probability, said.present)
    return claim.contradiction


def said(name: str, present: bool = True, side: str = "", lobe: str = "") -> Said:
    attributes = Attributes(frozenset(side.split()), frozenset(lobe.split()))
    return Said(name, present, attributes)


@pytest.mark.parametrize(
    ("present", "probability", "words"),
    [
        (True, 0.1, "the classifier says no (0.10, below its threshold 0.40)"),
        (True, 0.4, None),
        (False, 0.4, "the classifier says yes (0.40, above its threshold 0.40)"),
        (False, 0.1, None),
        (True, None, None),
    ],
)
def test_the_classifier_contradicts_by_its_own_threshold(
    present: bool, probability: float | None, words: str | None
) -> None:
    assert contradiction(said("Cardiomegaly", present), masks(), probability) == words


def test_masks_contradict_what_they_do_not_show_and_what_is_denied() -> None:
    none, some = masks(), masks(("emphysema", LOW_RIGHT))
    much = masks(("emphysema", MUCH_RIGHT))
    assert contradiction(said("Emphysema"), none) == "the masks show no emphysema"
    assert contradiction(said("Emphysema"), some) is None
    assert contradiction(said("Emphysema", False), none) is None
    assert contradiction(said("Emphysema", False), some) is None  # too few voxels to doubt it
    assert contradiction(said("Emphysema", False), much) == "the masks show 48.0 ml of emphysema"
    # Consolidation has the same masks, so they do not contradict that there is no atelectasis.
    shared = masks(("atelectasis_or_consolidation", MUCH_RIGHT))
    assert contradiction(said("Atelectasis", False), shared) is None
    assert contradiction(said("Cardiomegaly"), none) is None  # nothing shows it


@pytest.mark.parametrize(
    ("side", "lobe", "words"),
    [
        ("right", "", None),
        ("right", "lower", None),
        ("", "", None),
        ("left", "", "nothing of it in the left side, but in the right"),
        ("right left", "", "nothing of it in the left side, but in the right"),
        ("right", "upper", "nothing of it in the upper lobes, but in the lower"),
        ("left", "upper", "in the left side, but in the right; the masks show nothing"),
    ],
)
def test_side_and_lobe_are_compared_with_where_the_mask_lies(
    side: str, lobe: str, words: str | None
) -> None:
    found = contradiction(said("Emphysema", True, side, lobe), masks(("emphysema", LOW_RIGHT)))
    assert (found is None) if words is None else (found is not None and words in found)


def test_a_mask_beside_the_lung_belongs_to_the_nearest() -> None:
    beside = masks(("pleural_effusion_or_thickening", (slice(0, 3), slice(8, 10), slice(13, 17))))
    shares = beside.shares(("pleural_effusion_or_thickening",))
    assert shares["side"]["left"] == 1.0
    assert shares["lobe"]["lower"] == 1.0


def test_without_lungs_or_masks_nothing_is_said_of_sides() -> None:
    ids = np.zeros(SHAPE, np.uint8)
    ids[LOW_RIGHT] = NAMES.index("emphysema")
    geometry = masks().geometry
    alone = Masks(NAMES, LabelMap(ids, geometry.affine), ids, geometry)
    assert contradiction(said("Emphysema", True, "left"), alone) is None
    nothing = Masks(NAMES, None, None, geometry)
    assert contradiction(said("Emphysema", True, "left"), nothing) is None
    assert nothing.structures == ()


def test_volumes_are_those_of_the_cts_own_voxels() -> None:
    found = {each.name: each.volume_ml for each in masks(("emphysema", LOW_RIGHT)).structures}
    assert found["emphysema"] == 8.0
    assert found["lung_lower_lobe_right"] == 4 * 6 * 6 - 8.0
    assert len(found) == len(NAMES) - 1


def test_every_structure_is_a_class_of_some_scheme() -> None:
    known = {*NAMES, *scheme("abdomen", "fine_lesion").names}
    assert {name for names in STRUCTURES.values() for name in names} <= known

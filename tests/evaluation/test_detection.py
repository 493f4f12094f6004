from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import floor

import numpy as np
import pytest

from tests.evaluation.conftest import golden
from uvlm.arrays import Flags
from uvlm.data.cases import Case
from uvlm.data.label_scheme import Dataset, SchemeName, lesion_sites, scheme
from uvlm.evaluation.bootstrap import draw_resamples
from uvlm.evaluation.detection import (
    CANDIDATES_MM3,
    LABELLED_ORGANS,
    choose_thresholds,
    detected_volume,
    detected_volumes,
    detection_scores,
    lesion_labels,
)
from uvlm.text.abnormalities import ABDOMEN_LESIONS

KINDS = ("blobs", "one voxel", "on the border", "outside the organ", "nothing")


def phantom(seed: int) -> tuple[Flags, Flags, tuple[float, float, float]]:
    """A tumour, an organ and a spacing; the kind of tumour goes round with the seed."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(size) for size in rng.integers(3, 9, 3))
    spacing = tuple(round(float(mm), 2) for mm in rng.uniform(0.6, 2.6, 3))
    organ = rng.random(shape) < 0.9
    tumour = np.zeros(shape, dtype=bool)
    kind = KINDS[seed % len(KINDS)]
    if kind in ("blobs", "outside the organ"):
        low = rng.integers(0, np.asarray(shape) - 2)
        tumour[tuple(slice(a, a + int(rng.integers(2, 6))) for a in low)] = True
    if kind == "one voxel":  # of up to 4.6 mm, which is wide enough to survive an erosion
        spacing = tuple(mm + 2.0 for mm in spacing)
        tumour[tuple(rng.integers(0, shape))] = True
    if kind == "on the border":
        tumour[: 1 + shape[0] // 2, : 1 + shape[1] // 2] = True
        organ[:] = True
    if kind == "outside the organ":
        organ &= ~tumour
    z, y, x = spacing
    return tumour, organ, (z, y, x)


def volume_voxel_by_voxel(tumour: Flags, organ: Flags, spacing: tuple[float, ...]) -> int:
    """The four steps, one voxel of the 1 mm grid at a time; both grids have the same middle."""
    sources = []
    for native, mm in zip(tumour.shape, spacing, strict=True):
        size = max(round(native * mm), 1)
        from_middle = [Fraction(2 * at + 1 - size, 2) / Fraction(str(mm)) for at in range(size)]
        sources.append([floor(distance + Fraction(native, 2)) for distance in from_middle])

    def is_lesion(place: tuple[int, ...]) -> bool:
        for at, source in zip(place, sources, strict=True):
            if not 0 <= at < len(source):
                return False
        z, y, x = (source[at] for at, source in zip(place, sources, strict=True))
        return bool(tumour[z, y, x] and organ[z, y, x])

    steps = list(product((-1, 0, 1), repeat=3))
    return sum(
        is_lesion(place)
        and all(is_lesion(tuple(a + d for a, d in zip(place, step, strict=True))) for step in steps)
        for place in product(*(range(len(source)) for source in sources))
    )


@pytest.mark.slow
def test_two_hundred_phantoms_equal_the_voxel_by_voxel_rule() -> None:
    found = dict.fromkeys(KINDS, 0)
    for seed in range(200):
        tumour, organ, spacing = phantom(seed)
        volume = detected_volume(tumour, organ, spacing)
        assert volume == volume_voxel_by_voxel(tumour, organ, spacing), seed
        found[KINDS[seed % len(KINDS)]] += volume > 0
    assert found["blobs"] > 5
    assert found["on the border"] > 10
    assert found["one voxel"] > 0
    assert found["outside the organ"] == found["nothing"] == 0


def test_cubes_worked_by_hand() -> None:
    for case in golden("detection")["cases"]:
        tumour = np.zeros((case["grid"],) * 3, dtype=bool)
        tumour[(slice(case["first"], case["first"] + case["size"]),) * 3] = True
        organ = np.zeros_like(tumour)
        organ[:, :, : case["organ_width"]] = True
        assert detected_volume(tumour, organ, (case["spacing"],) * 3) == case["expected"], case


def test_a_lesion_counts_where_it_is_connected_to_the_tissue_of_its_organ() -> None:
    classes = scheme("abdomen", "fine_lesion")
    sites = lesion_sites(classes)
    assert [site.organ for site in sites] == ["liver", "kidney", "pancreas"]
    label_map = np.zeros((9, 9, 24), dtype=np.uint8)
    label_map[2:7, 2:7, 2:7] = classes.names.index("kidney_lesion")
    assert detected_volumes(label_map, (1.0, 1.0, 1.0), sites) == (0, 0, 0)  # no kidney near
    label_map[:, :, 7] = classes.names.index("kidney_left")
    assert detected_volumes(label_map, (1.0, 1.0, 1.0), sites) == (0, 27, 0)
    label_map[:, :, 10:12] = classes.names.index("spleen")
    label_map[2:7, 2:7, 12:17] = classes.names.index("kidney_lesion")  # in the spleen
    label_map[2:7, 2:7, 19:] = classes.names.index("pancreatic_lesion")
    assert detected_volumes(label_map, (1.0, 1.0, 1.0), sites) == (0, 27, 0)


def test_a_lesion_around_another_one_lies_in_the_organ_too() -> None:
    classes = scheme("chest", "fine_lesion")
    sites = {site.name: site for site in lesion_sites(classes)}
    label_map = np.zeros((11, 11, 11), dtype=np.uint8)
    label_map[0] = classes.names.index("lung_upper_lobe_left")
    label_map[1:] = classes.names.index("ground_glass")
    label_map[3:8, 3:8, 3:8] = classes.names.index("nodule_or_mass")
    nodule, other = sites["nodule_or_mass"], sites["other_focal"]
    assert detected_volumes(label_map, (1.0, 1.0, 1.0), [nodule]) == (27,)
    label_map[:3] = 0
    assert detected_volumes(label_map, (1.0, 1.0, 1.0), [nodule]) == (0,)
    label_map[label_map > 0] = other.class_id  # may lie anywhere in the body
    assert other.organ == ""
    assert detected_volumes(label_map, (1.0, 1.0, 1.0), [other]) == (6 * 9 * 9,)


@pytest.mark.parametrize("name", ["coarse", "coarse_lesion", "fine_lesion"])
@pytest.mark.parametrize("dataset", ["chest", "abdomen"])
def test_the_classes_of_an_organ_are_its_tissue_and_its_lesions(
    dataset: Dataset, name: SchemeName
) -> None:
    classes = scheme(dataset, name)
    sites = lesion_sites(classes)
    assert {site.class_id for site in sites} == classes.lesion_ids
    for site in sites:
        assert site.name == classes.names[site.class_id]
        assert site.organ_ids <= classes.anatomy_ids
        assert bool(site.organ_ids) == bool(site.organ)
        assert (site.class_id in site.organ_lesion_ids) == bool(site.organ)
        assert site.organ_lesion_ids <= classes.lesion_ids


def test_the_threshold_of_each_organ_has_the_best_f1_of_all_candidates() -> None:
    rng = np.random.default_rng(1)
    labels = rng.random((60, 3)) < 0.5
    volumes = rng.integers(0, 250, (60, 3)) + labels * rng.integers(0, 300, (60, 3))
    chosen = choose_thresholds(volumes.astype(np.float64), labels)
    for organ in range(3):

        def f1(threshold: int, organ: int = organ) -> float:
            claimed = volumes[:, organ] > threshold
            hits = int((claimed & labels[:, organ]).sum())
            return 2 * hits / max(int(claimed.sum() + labels[:, organ].sum()), 1)

        best = max(f1(candidate) for candidate in CANDIDATES_MM3)
        assert f1(int(chosen[organ])) == pytest.approx(best)
        assert chosen[organ] == min(c for c in CANDIDATES_MM3 if f1(c) == best)


def test_a_missing_mask_is_wrong_about_every_lesion() -> None:
    labels = np.array([[True, False], [True, False], [False, True]])
    volumes = np.array([[50.0, 0.0], [np.nan, np.nan], [0.0, 90.0]])
    resamples = draw_resamples(["a", "b", "c"], 0, np.random.default_rng(0))
    scores = detection_scores(["x", "y"], labels, volumes, np.array([10, 10]), resamples)
    assert scores["lesions"]["x"]["recall"] == 0.5
    assert scores["lesions"]["y"]["precision"] == 0.5


def test_a_lesion_that_no_test_case_has_is_not_in_the_mean() -> None:
    labels, volumes = np.array([[True, False], [False, False]]), np.array([[50.0, 0], [0, 90.0]])
    resamples = draw_resamples(["a", "b"], 0, np.random.default_rng(0))
    scores = detection_scores(["x", "y"], labels, volumes, np.array([10, 10]), resamples)
    assert (scores["macro_f1"], scores["n_lesions"]) == (1.0, 1)
    assert scores["lesions"]["y"] == {"support": 0, "threshold_mm3": 10}


def test_lesions_of_the_abdomen_are_those_of_its_table_and_of_the_chest_those_drawn() -> None:
    abdomen = lesion_sites(scheme("abdomen", "coarse_lesion"))
    assert tuple(site.name.replace("_", " ").capitalize() for site in abdomen) == ABDOMEN_LESIONS
    assert tuple(site.organ for site in abdomen) == LABELLED_ORGANS
    case = Case("a", "a", "a", "test", "", None, {}, (1, 0, 1), "", "")
    assert lesion_labels([case], abdomen).tolist() == [[True, False, True]]
    chest = lesion_sites(scheme("chest", "fine_lesion"))
    drawn = replace(case, abnormalities=(1,) * 18, finding_categories={"0": "2d", "1": "2d"})
    found = lesion_labels([drawn], chest)[0]
    assert [site.name for site, flag in zip(chest, found, strict=True) if flag] == [
        "nodule_or_mass"
    ]


def test_a_volume_equal_to_the_threshold_is_no_detection() -> None:
    labels, volumes = np.array([[True], [True]]), np.array([[30], [31]])
    resamples = draw_resamples(["a", "b"], 10, np.random.default_rng(0))
    scores = detection_scores(["liver"], labels, volumes, np.array([30]), resamples)
    assert scores["lesions"]["liver"]["recall"] == scores["macro_recall"] == 0.5
    assert scores["lesions"]["liver"]["precision"] == 1.0
    assert scores["lesions"]["liver"]["support"] == scores["n"] == 2
    assert scores["lesions"]["liver"]["recall_ci"] == [0.0, 1.0]

"""Label schemes: the published ids, the sizes of the paper, and folding against a naive loop."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import get_args

import numpy as np
import pytest

from uvlm.data.label_scheme import (
    IGNORE_ID,
    Dataset,
    SchemeName,
    fine_classes,
    look_up,
    scheme,
)
from uvlm.errors import ConfigError

# Smallest TotalSegmentator `total` id of each chest anatomy id that has one, ids 1 to 33.
SMALLEST_TOTAL_ID = [*range(1, 17), 18, 19, 20, 25, 51, 52, 53, 54, 62, 63, 64, 69, 79, 80, 92]
SMALLEST_TOTAL_ID += [116, 117]
CHEST_COARSE = {
    "spleen": [1],
    "kidney": [2, 3, 8, 9],
    "liver": [4, 5, 27],
    "stomach": [6, 17, 18, 19],
    "pancreas": [7],
    "lung": [10, 11, 12, 13, 14, 23, 34],
    "esophagus": [15],
    "trachea": [16],
    "heart": [21, 24],
    "aorta": [22],
    "vena_cava": [25, 26],
    "spine": [20, 29],
    "ribs": [28, 31, 33],
    "sternum": [32],
    "muscles": [30],
}


@pytest.mark.parametrize(
    ("dataset", "name", "classes", "lesions"),
    [
        ("chest", "coarse", 16, 0),
        ("chest", "coarse_lesion", 30, 14),
        ("chest", "fine_lesion", 49, 14),
        ("abdomen", "coarse", 13, 0),
        ("abdomen", "coarse_lesion", 16, 3),
        ("abdomen", "fine_lesion", 42, 3),
    ],
)
def test_the_schemes_have_the_papers_numbers_of_classes(
    dataset: Dataset, name: SchemeName, classes: int, lesions: int
) -> None:
    chosen = scheme(dataset, name)
    assert chosen.num_classes == len(set(chosen.names)) == classes
    assert len(chosen.lesion_ids) == lesions
    assert chosen.anatomy_ids | chosen.lesion_ids == set(range(1, classes))
    assert not chosen.anatomy_ids & chosen.lesion_ids
    assert chosen.lut[0] == 0


def test_anatomy_ids_follow_the_order_of_the_published_classes() -> None:
    table = fine_classes("chest").total
    assert np.count_nonzero(table) == 102
    smallest = [int(np.flatnonzero(table == anatomy)[0]) for anatomy in range(1, 34)]
    assert smallest == SMALLEST_TOTAL_ID
    assert 34 not in table


def test_lesion_categories_are_numbered_35_to_48() -> None:
    fine = fine_classes("chest")
    codes = [f"1{letter}" for letter in "abcdef"] + [f"2{letter}" for letter in "abcdefgh"]
    assert fine.lesion_id_by_category == {code: 35 + i for i, code in enumerate(codes)}
    assert sorted(fine.lesion_paint_order) == list(range(35, 49))
    assert fine.lesion_paint_order[-1] == fine.lesion_id_by_category["2d"]  # nodules on top


def test_coarse_chest_classes_hold_the_fine_ones_of_the_table() -> None:
    coarse = scheme("chest", "coarse")
    assert coarse.names == ("background", *CHEST_COARSE)
    for name, fine_ids in CHEST_COARSE.items():
        found = [i for i in range(35) if coarse.names[coarse.lut[i]] == name]
        assert found == fine_ids
    assert {coarse.names[i] for i in coarse.lut[35:]} == {"lung"}


def test_lesions_keep_their_order_in_the_coarse_lesion_scheme() -> None:
    assert scheme("chest", "coarse_lesion").lut[35:].tolist() == list(range(16, 30))
    assert scheme("abdomen", "coarse_lesion").lut[39:].tolist() == [13, 14, 15]


def test_fine_is_the_identity() -> None:
    assert scheme("chest", "fine_lesion").lut.tolist() == list(range(49))


def test_vessels_and_airways_get_their_anatomy_ids() -> None:
    fine = fine_classes("chest")
    assert look_up(fine.airway, np.array([0, 1, 2, 3, 4])).tolist() == [0, 16, 0, 0, 0]
    assert look_up(fine.vessel, np.array([0, 1, 2, 3, 4])).tolist() == [0, 0, 0, 34, 23]


def test_ids_beyond_the_table_become_background() -> None:
    assert scheme("chest", "fine_lesion").fold_total(np.array([117, 118, 255])).tolist() == [
        33,
        0,
        0,
    ]


def test_the_published_classes_are_those_of_the_installed_totalsegmentator() -> None:
    """By its own class map; and every class folds to the group that its name says."""
    class_map = pytest.importorskip("totalsegmentator.map_to_binary").class_map
    document = json.loads(files("uvlm.data").joinpath("schemes/totalsegmentator.json").read_text())
    for task, names in document.items():
        assert dict(enumerate(names, start=1)) == class_map[task]
    fine = fine_classes("chest")
    for number, label in class_map["total"].items():
        group = group_of(label)
        assert fine.names[fine.total[number]] == (group or "background"), label
    tubes = {fine.names[fine.airway[i] or fine.vessel[i]]: n for i, n in class_map[LUNG].items()}
    assert tubes == {
        "trachea_and_airway": "lung_airways",
        "background": "lung_airways_wall",
        "pulmonary_artery": "lung_arteries",
        "pulmonary_vein": "lung_veins",
    }


def test_every_chest_class_is_named_as_in_the_papers_dataset() -> None:
    """Names and order of the published dataset.json; R and L are right and left."""
    names = fine_classes("chest").names
    assert len(PAPER_NAMES) == len(names) - 1 == 48
    for ours, theirs in zip(names[1:], PAPER_NAMES, strict=True):
        words = theirs.lower().replace(" ", "_")
        words = re.sub("_r$", "_right", re.sub("_l$", "_left", words))
        assert ours == RENAMED.get(words, words)


def test_coarse_abdomen_classes_hold_the_fine_ones_of_the_table() -> None:
    coarse = scheme("abdomen", "coarse")
    assert coarse.names == ("background", *ABDOMEN_COARSE)
    for name, fine_ids in ABDOMEN_COARSE.items():
        assert [i for i in range(42) if coarse.names[coarse.lut[i]] == name] == fine_ids


def test_abdomen_ids_are_those_of_the_published_masks() -> None:
    fine = fine_classes("abdomen")
    assert fine.names == ("background", *ABDOMEN_MASKS)
    assert fine.anatomy.tolist() == list(range(42))
    assert fine.lesions_come_with_anatomy
    assert not fine_classes("chest").lesions_come_with_anatomy


@pytest.mark.parametrize("name", get_args(SchemeName))
def test_ignored_voxels_stay_ignored_and_are_no_class(name: SchemeName) -> None:
    chosen = scheme("chest", name)
    assert chosen.num_classes <= IGNORE_ID
    ids = np.arange(256).astype(np.uint8)
    folded = chosen.fold(ids)
    np.testing.assert_array_equal(folded[:49], chosen.lut)
    assert (folded[49:255] == 0).all()
    assert folded[IGNORE_ID] == IGNORE_ID


def test_the_abdomen_has_no_counterpart_of_total() -> None:
    with pytest.raises(ConfigError, match="abdomen"):
        scheme("abdomen", "coarse").fold_total(np.zeros(3, np.uint8))


LUNG = "lung_vessels"
PAPER_NAMES = [
    *("Spleen", "Kidney R", "Kidney L", "Gallbladder", "Liver", "Stomach", "Pancreas"),
    *("Adrenal gland R", "Adrenal gland L", "Lung upper lobe L", "Lung lower lobe L"),
    *("Lung upper lobe R", "Lung middle lobe R", "Lung lower lobe R", "Esophagus"),
    *("Trachea and Airway", "Small bowel", "Duodenum", "Colon", "Spine", "Heart", "Aorta"),
    *("Pulmonary vein", "Head and neck vessels", "Superior vena cava", "Inferior vena cava"),
    *("Portal vein and splenic vein", "Upper limb bones", "Spinal cord", "Muscles", "Ribs"),
    *("Sternum", "Costal cartilages", "Pulmonary artery", "Bronchial wall thickening"),
    *("Bronchiectasis", "Emphysema", "Septal thickening", "Micronodules"),
    *("Other non-focal lung abnormalities", "Linear abnormalities"),
    *("Atelectasis and consolidation", "Groundglass opacity", "Pulmonary nodules and masses"),
    *("Pleural effusion or thickening", "Honeycombing", "Pneumothorax"),
    "Other focal lung abnormalities",
]
RENAMED = {
    "other_non-focal_lung_abnormalities": "other_non_focal",
    "linear_abnormalities": "linear_opacity",
    "atelectasis_and_consolidation": "atelectasis_or_consolidation",
    "groundglass_opacity": "ground_glass",
    "pulmonary_nodules_and_masses": "nodule_or_mass",
    "other_focal_lung_abnormalities": "other_focal",
}
ABDOMEN_COARSE = {
    "liver": [14, 15, 25, *range(31, 40)],
    "spleen": [1],
    "kidney": [2, 3, 22, 23, 40],
    "stomach": [4, 8, 9, 10, 11],
    "pancreas": [5, 6, 7, 41],
    "aorta": [12, 16, 17, 18],
    "postcava": [13, 19],
    "bladder": [20, 30],
    "esophagus": [21],
    "gall_bladder": [24],
    "lung": [26, 27],
    "femur": [28, 29],
}
ABDOMEN_MASKS = [
    *("spleen", "kidney_left", "kidney_right", "stomach", "pancreas_head", "pancreas_body"),
    *("pancreas_tail", "duodenum", "intestine", "colon", "rectum", "aorta", "postcava"),
    *("portal_vein_and_splenic_vein", "hepatic_vessel", "superior_mesenteric_artery"),
    *("celiac_trunk", "celiac_aa", "veins", "bladder", "esophagus", "adrenal_gland_left"),
    *("adrenal_gland_right", "gall_bladder", "common_bile_duct", "lung_left", "lung_right"),
    *("femur_left", "femur_right", "prostate", *(f"liver_segment_{i}" for i in range(1, 9))),
    *("liver_lesion", "kidney_lesion", "pancreatic_lesion"),
]
GROUPS = {
    r"vertebrae_\w+|sacrum": "spine",
    r"rib_\w+": "ribs",
    r"heart|atrial_appendage_left": "heart",
    r"(brachiocephalic|subclavian|common_carotid)_\w+": "head_and_neck_vessels",
    r"(humerus|scapula|clavicula)_\w+": "upper_limb_bones",
    r"(autochthon|iliopsoas|gluteus)_\w+": "muscles",
    r"trachea": "trachea_and_airway",
    r"thyroid_gland|urinary_bladder|prostate|kidney_cyst_\w+|iliac_\w+|femur_\w+|hip_\w+": "",
    r"brain|skull": "",
}


def group_of(label: str) -> str:
    """The chest class of a published class, "" for none."""
    for pattern, group in GROUPS.items():
        if re.fullmatch(pattern, label):
            return group
    return label

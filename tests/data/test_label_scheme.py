"""Label schemes: the published ids, the sizes of the paper, and folding against a naive loop."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from uvlm.data.io import read_label_map
from uvlm.data.label_scheme import Dataset, SchemeName, fine_classes, look_up, scheme
from uvlm.errors import ConfigError

REAL = os.environ.get("UVLM_REAL_DATA")
needs_real_data = pytest.mark.skipif(not REAL, reason="UVLM_REAL_DATA names no folder of real data")

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


def test_the_abdomen_has_no_counterpart_of_total() -> None:
    with pytest.raises(ConfigError, match="abdomen"):
        scheme("abdomen", "coarse").fold_total(np.zeros(3, np.uint8))


@needs_real_data
@pytest.mark.parametrize("name", get_args(SchemeName))
def test_a_real_segmentation_folds_as_a_loop_over_its_own_class_names_does(
    name: SchemeName,
) -> None:
    """The class names come from the file's own header, the groups from their wording."""
    path = Path(REAL or "") / "ct/chest_abdomen_3mm_totalsegmentator.nii.gz"
    header = gzip.decompress(path.read_bytes())[:13168].decode("latin-1")
    published = {
        int(key): label
        for key, label in re.findall(r'Label Key="(\d+)"[^>]*><!\[CDATA\[(\w+)\]\]', header)
    }
    assert len(published) == 117
    labels = read_label_map(path).array
    chosen, fine = scheme("chest", name), fine_classes("chest")
    expected = np.zeros_like(labels)
    for key in np.unique(labels):
        if key:
            group = group_of(published[int(key)])
            expected[labels == key] = chosen.lut[fine.names.index(group)] if group else 0
    np.testing.assert_array_equal(chosen.fold_total(labels), expected)
    assert len(np.unique(expected)) > 10


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

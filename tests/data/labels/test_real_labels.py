"""TotalSegmentator's labels of a real CT, folded into our classes: counts, places, densities."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from tests.data.test_label_scheme import group_of
from uvlm.data.ct.io import read_label_map, read_volume
from uvlm.data.ct.volume import axis_order
from uvlm.data.label_scheme import SchemeName, fine_classes, scheme

CT, TOTAL = "ct/chest_abdomen_3mm.nii.gz", "ct/chest_abdomen_3mm_totalsegmentator.nii.gz"


@pytest.mark.parametrize("name", get_args(SchemeName))
def test_a_real_segmentation_folds_as_a_loop_over_its_own_class_names_does(
    real_data: Path, name: SchemeName
) -> None:
    """The class names come from the file's own header, the groups from their wording."""
    path = real_data / TOTAL
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


@pytest.mark.parametrize("name", ["fine_lesion", "coarse"])
def test_a_real_segmentation_has_the_voxel_counts_of_a_loop_over_classes(
    real_data: Path, name: SchemeName
) -> None:
    labels = read_label_map(real_data / TOTAL).array
    chosen, fine = scheme("chest", name), fine_classes("chest")
    counted = np.bincount(chosen.fold_total(labels).ravel(), minlength=chosen.num_classes)
    expected = np.zeros(chosen.num_classes, np.int64)
    for number in range(118):
        expected[chosen.lut[fine.total[number]]] += np.count_nonzero(labels == number)
    np.testing.assert_array_equal(counted, expected)
    assert counted.sum() == labels.size


def test_the_folded_structures_are_where_and_what_their_names_say(real_data: Path) -> None:
    """Lungs are air, the aorta lies left of the inferior vena cava, the liver on the right."""
    volume = read_volume(real_data / CT)
    drawn = read_label_map(real_data / TOTAL)
    order, fine = axis_order(volume.affine), fine_classes("chest")
    hu = order.forward(volume.array)
    ids = order.forward(scheme("chest", "fine_lesion").fold_total(drawn.array))
    middle = ids.shape[2] / 2

    def left(name: str) -> float:
        """How far to the left, in voxels: x runs to the patient's left."""
        return float(np.argwhere(ids == fine.names.index(name))[:, 2].mean())

    lungs = np.isin(ids, [i for i, n in enumerate(fine.names) if n.startswith("lung_")])
    assert hu[lungs].mean() < -600
    assert left("aorta") > left("inferior_vena_cava")
    assert left("liver") < middle < left("spleen")
    assert left("kidney_right") < middle < left("kidney_left")
    assert hu[ids == fine.names.index("spine")].mean() > 150

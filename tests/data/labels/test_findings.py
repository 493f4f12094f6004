"""Findings masks: categories, grids of their own, refusals, and what nobody drew."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.data.conftest import AFFINE, ORDER, SHAPE
from uvlm.data.cases import Case, read_index
from uvlm.data.ct.grid import preprocess_volume
from uvlm.data.ct.io import read_volume, write_findings_mask
from uvlm.data.ct.volume import ReadError
from uvlm.data.label_scheme import IGNORE_ID, fine_classes
from uvlm.data.labels.findings import read_case_findings
from uvlm.errors import DataError
from uvlm.files import store_root
from uvlm.store import load_array, read_manifest, resolve, rows_by_case

if TYPE_CHECKING:
    from tests.data.conftest import Stages

nibabel: Any = import_module("nibabel")
GROUND_GLASS, NODULE = 43, 44


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "scheme", "is_ignored"),
    [
        ("train", "fine_lesion", True),
        ("train", "coarse_lesion", True),
        ("train", "coarse", False),
        ("test", "fine_lesion", False),
    ],
)
def test_unsure_voxels_are_ignored_in_training_cases_that_teach_lesions(
    stages: Stages, split: str, scheme: str, is_ignored: bool
) -> None:
    stages.all()
    section = stages.params.label_maps.model_copy(
        update={"ignore_margin_mm": 20.0, "scheme": scheme}
    )
    stages.params = stages.params.model_copy(update={"label_maps": section})
    case = next(c for c in read_index(stages.manifest("index")) if c.split == split)
    mask = np.zeros((2, *SHAPE), np.uint8)
    mask[0, 6, 4:8:2, 4] = 1, 2
    mask[0, 7, 5, 5] = 3
    write_findings_mask(store_root() / str(case.findings_mask), ORDER.backward(mask))
    before = rows_by_case(stages.manifest("label_maps"))
    assert stages.label_maps()["kept"] == 11
    row = next(r for r in read_manifest(stages.manifest("label_maps")) if r.case == case.case_id)
    grid = load_array(resolve(row, "label_maps"), row.sha256)
    assert "ignored" not in before[case.case_id].extra
    assert row.extra.get("ignored", 0) == np.count_nonzero(grid == IGNORE_ID)
    assert ("ignored" in row.extra) == is_ignored
    assert str(IGNORE_ID) not in row.extra["voxels"]


def findings_case(stages: Stages) -> Case:
    stages.index()
    return read_index(stages.manifest("index"))[0]


def test_a_findings_mask_with_an_affine_of_its_own_is_resampled(
    stages: Stages, tmp_path: Path
) -> None:
    """Drawn on a grid twice as fine in other axes; published masks have the identity."""
    case = findings_case(stages)
    volume = read_volume(store_root() / case.volume)
    _, geometry = preprocess_volume(volume, stages.params.preprocess)
    drawn = np.zeros((2, *SHAPE), np.uint8)
    drawn[0, 6:8, 4:8, 4:8], drawn[1, 7, 5, 5] = 2, 1
    fine = drawn.repeat(2, 1).repeat(2, 2).repeat(2, 3)
    affine = AFFINE.copy()
    affine[:3, :3] /= 2
    affine[:3, 3] -= AFFINE[:3, :3] @ [0.25, 0.25, 0.25]
    path = store_root() / str(case.findings_mask)
    ras = (np.diag([-1.0, -1, 1, 1]) @ affine)[:, [2, 1, 0, 3]]
    nibabel.save(nibabel.Nifti1Image(fine.transpose(0, 3, 2, 1), ras), path)
    findings = read_case_findings(case, geometry, fine_classes("chest"), store_root())
    assert [finding.class_id for finding in findings] == [GROUND_GLASS, NODULE]
    for finding, expected in zip(findings, drawn, strict=True):
        np.testing.assert_array_equal(finding.box.whole(SHAPE), expected)
    ras[0, 3] += 900.0
    nibabel.save(nibabel.Nifti1Image(fine.transpose(0, 3, 2, 1), ras), path)
    with pytest.raises(DataError, match="lies beside the CT"):
        read_case_findings(case, geometry, fine_classes("chest"), store_root())


def test_findings_follow_their_category_codes_not_their_order(stages: Stages) -> None:
    case = findings_case(stages)
    volume = read_volume(store_root() / case.volume)
    _, geometry = preprocess_volume(volume, stages.params.preprocess)
    swapped = replace(case, finding_categories={"1": "2c", "0": "2d"})
    fine = fine_classes("chest")
    plain, other = (
        {
            f.class_id: f.box.whole(SHAPE)
            for f in read_case_findings(c, geometry, fine, store_root())
        }
        for c in (case, swapped)
    )
    np.testing.assert_array_equal(plain[GROUND_GLASS], other[NODULE])
    np.testing.assert_array_equal(plain[NODULE], other[GROUND_GLASS])


@pytest.mark.parametrize(
    ("categories", "shape", "reason"),
    [
        ({"0": "2c"}, (2, *SHAPE), "findings_mismatch"),
        ({"0": "2c", "1": "9z"}, (2, *SHAPE), "findings_category"),
        ({"0": "2c", "1": "2d"}, (2, 5, 6, 7), "grid_mismatch"),
    ],
)
def test_findings_that_do_not_fit_their_table_or_ct_are_refused(
    stages: Stages, categories: dict[str, str], shape: tuple[int, ...], reason: str
) -> None:
    case = replace(findings_case(stages), finding_categories=categories)
    volume = read_volume(store_root() / case.volume)
    _, geometry = preprocess_volume(volume, stages.params.preprocess)
    write_findings_mask(store_root() / str(case.findings_mask), np.ones(shape, np.uint8))
    with pytest.raises(ReadError) as error:
        read_case_findings(case, geometry, fine_classes("chest"), store_root())
    assert error.value.reason == reason

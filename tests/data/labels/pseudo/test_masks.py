"""A folder of vessel masks: on the CT's grid, on another one, or not over it at all."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from uvlm.config import VesselConfig
from uvlm.data.ct.io import read_grid, write_label_map
from uvlm.data.ct.volume import LabelMap
from uvlm.data.labels.regrid import onto_grid
from uvlm.errors import SetupError
from uvlm.files import store_root
from uvlm.store import load_array, read_manifest, resolve

if TYPE_CHECKING:
    from tests.data.conftest import Dataset, Stages

CASES = [f"train_{i}_a_1" for i in range(1, 9)] + [f"valid_{i}_a_1" for i in range(1, 4)]


@pytest.fixture
def masks(stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a mask for every case: an artery (1) above a vein (2), on the CT's grid."""
    folder = tmp_path / "hipas"
    folder.mkdir()
    monkeypatch.setenv("UVLM_VESSEL_MASKS", str(folder))
    section = VesselConfig(backend="masks", artery_id=1, vein_id=2)
    labellers = stages.params.pseudo_label.model_copy(update={"vessel": section})
    stages.params = stages.params.model_copy(update={"pseudo_label": labellers})
    stages.index()
    for case in CASES:
        shape, affine = read_grid(ct(case))
        array = np.zeros(shape, np.uint8)
        array[2, 3:5] = 1
        array[7, 3:5] = 2
        write_label_map(folder / f"{case}.nii.gz", LabelMap(array, affine))
    return folder


def ct(case: str) -> Path:
    (found,) = (store_root() / "raw/hand/ct_rate/dataset").glob(f"*_fixed/*/*/{case}.nii.gz")
    return found


def test_arteries_and_veins_get_the_ids_of_lung_vessels(stages: Stages, masks: Path) -> None:
    assert stages.pseudo_label("vessel") == {"kept": 11}
    for row in read_manifest(stages.manifest("vessel")):
        labels = load_array(resolve(row, "pseudo_label@vessel"))
        counts = dict(zip(*np.unique(labels, return_counts=True), strict=True))
        assert set(counts) == {0, 3, 4}
        assert counts[3] == counts[4]
        assert row.extra["options"] == {"artery_id": 1, "vein_id": 2}


def test_masks_at_twice_the_resolution_give_the_same_labels(stages: Stages, masks: Path) -> None:
    stages.pseudo_label("vessel")
    before = {row.case: row.sha256 for row in read_manifest(stages.manifest("vessel"))}
    for case in CASES:
        shape, affine = read_grid(ct(case))
        array = np.zeros(shape, np.uint8)
        array[2, 3:5] = 1
        array[7, 3:5] = 2
        fine = affine @ np.array(
            [[0.5, 0, 0, -0.25], [0, 0.5, 0, -0.25], [0, 0, 0.5, -0.25], [0, 0, 0, 1]]
        )
        doubled = array.repeat(2, 0).repeat(2, 1).repeat(2, 2)
        write_label_map(masks / f"{case}.nii.gz", LabelMap(doubled, fine))
    assert stages.pseudo_label("vessel") == {"kept": 11}
    assert {row.case: row.sha256 for row in read_manifest(stages.manifest("vessel"))} == before


def test_what_cannot_be_used_is_refused_by_name(stages: Stages, masks: Path) -> None:
    def rewrite(case: str, change: Any) -> None:
        shape, affine = read_grid(ct(case))
        array, moved = change(np.ones(shape, np.uint8), affine.copy())
        write_label_map(masks / f"{case}.nii.gz", LabelMap(array, moved))

    def far_away(array: Any, affine: Any) -> Any:
        affine[:3, 3] += 1000
        return array, affine

    rewrite("train_1_a_1", far_away)
    rewrite("train_2_a_1", lambda array, affine: (array * 7, affine))
    (masks / "train_3_a_1.nii.gz").unlink()
    (masks / "train_4_a_1.nii").write_bytes(b"a second one")
    assert stages.pseudo_label("vessel")["kept"] == 7
    assert stages.reasons("pseudo_label_vessel") == {
        "train_1_a_1": "no_overlap",
        "train_2_a_1": "class_ids",
        "train_3_a_1": "missing_file",
        "train_4_a_1": "ambiguous_file",
    }
    quarantine = (stages.root / "quarantine/pseudo_label_vessel.jsonl").read_text()
    assert str(masks) not in quarantine  # the list is the same on every machine


def test_a_changed_mask_costs_one_case(
    stages: Stages, masks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.pseudo_label("vessel")
    before = {row.case: row.key for row in read_manifest(stages.manifest("vessel"))}
    shape, affine = read_grid(ct("train_5_a_1"))
    write_label_map(masks / "train_5_a_1.nii.gz", LabelMap(np.full(shape, 2, np.uint8), affine))
    stages.pseudo_label("vessel")
    after = {row.case: row.key for row in read_manifest(stages.manifest("vessel"))}
    assert [case for case in before if after[case] != before[case]] == ["train_5_a_1"]


@pytest.mark.parametrize("value", [None, "/nowhere"])
def test_without_a_folder_nothing_begins(
    stages: Stages, dataset: Dataset, masks: Path, value: str | None, monkeypatch: Any
) -> None:
    if value is None:
        monkeypatch.delenv("UVLM_VESSEL_MASKS")
    else:
        monkeypatch.setenv("UVLM_VESSEL_MASKS", value)
    with pytest.raises(SetupError, match="UVLM_VESSEL_MASKS"):
        stages.pseudo_label("vessel")
    assert not stages.manifest("vessel").exists()


def nearest(labels: LabelMap, shape: tuple[int, ...], affine: npt.NDArray[Any]) -> Any:
    """Find the nearest label of every voxel by looking at all of them."""
    indices = np.array([*np.ndindex(labels.array.shape)])
    centres = np.array([labels.affine @ (*index, 1) for index in indices])[:, :3]
    out = np.zeros(shape, np.uint8)
    for index in np.ndindex(shape):
        place = affine @ (*index, 1)
        best = int(np.square(centres - place[:3]).sum(axis=1).argmin())
        away = np.linalg.solve(labels.affine, place)[:3] - indices[best]
        if (np.abs(away) <= 0.5).all():
            out[index] = labels.array.ravel()[best]
    return out


def test_regridding_is_the_nearest_label_of_a_search_over_all() -> None:
    generator = np.random.default_rng(0)
    for turn, flip in itertools.product(((0, 1, 2), (2, 0, 1)), (1, -1)):
        spacing = np.array([2.0, 1.3, 1.7])
        affine = np.eye(4)
        affine[:3, :3] = np.diag(spacing * [1, flip, 1])[:, turn]
        affine[:3, 3] = generator.normal(0, 1, 3)
        labels = LabelMap(generator.integers(0, 5, (4, 5, 6)).astype(np.uint8), affine)
        target = np.diag([1.1, 1.9, -0.9, 1.0])
        target[:3, 3] = [0.1, 0.2, 3.3]
        found = onto_grid(labels, (5, 4, 6), target, "labels")
        expected = nearest(labels, (5, 4, 6), target)
        assert expected.any()
        np.testing.assert_array_equal(found, expected)

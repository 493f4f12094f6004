"""Masks that come with the CTs: read in the CT's own grid, and refused on any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from uvlm.config import AnatomyConfig, BackendConfig
from uvlm.data.cases import Case, write_index
from uvlm.data.ct.io import read_grid, read_label_map, read_volume, write_label_map, write_volume
from uvlm.data.ct.volume import AxisOrder, LabelMap, Volume
from uvlm.data.label_scheme import fine_classes
from uvlm.data.labels.pseudo.stage import PseudoLabels
from uvlm.data.sets.abdomen_atlas.layout import image, mask
from uvlm.files import store_root
from uvlm.store import Shard, every_case, load_array, read_manifest, resolve

if TYPE_CHECKING:
    from tests.data.conftest import Dataset, Stages

MASK = "ct_rate/dataset/ts_seg/ts_total/train_fixed/train_1/train_1_a/train_1_a_1.nii.gz"
PROVENANCE = {"backend", "version", "licence", "weights_sha256", "options"}


def use(stages: Stages, section: BackendConfig) -> None:
    """Choose the source of anatomy."""
    labellers = stages.params.pseudo_label.model_copy(update={"anatomy": section})
    stages.params = stages.params.model_copy(update={"pseudo_label": labellers})


@pytest.fixture
def ct_rate(stages: Stages) -> Stages:
    """An index, with CT-RATE's own masks as the source of anatomy."""
    stages.index()
    use(stages, AnatomyConfig(backend="ct_rate_masks", fast=False))
    return stages


def test_every_row_says_where_its_labels_come_from(ct_rate: Stages) -> None:
    ct_rate.pseudo_label("anatomy")
    ct_rate.pseudo_label("airway")
    for row in read_manifest(ct_rate.manifest("anatomy")):
        assert {*row.extra} == {*PROVENANCE, "affine"}
        assert row.extra["backend"] == "ct_rate_masks"
        assert row.extra["licence"] == "CC-BY-NC-SA-4.0"
    assert {r.extra["licence"] for r in read_manifest(ct_rate.manifest("airway"))} == {"Apache-2.0"}


def test_a_mask_of_another_shape_is_refused(ct_rate: Stages, dataset: Dataset) -> None:
    path = dataset.raw(MASK)
    found = read_label_map(path)
    write_label_map(path, LabelMap(found.array[:-1], found.affine))
    assert ct_rate.pseudo_label("anatomy") == {"kept": 10, "grid_mismatch": 1}
    (line,) = (ct_rate.root / "quarantine/pseudo_label_anatomy.jsonl").read_text().splitlines()
    refusal = json.loads(line)
    assert refusal["case"] == "train_1_a_1"
    assert refusal["file"] == f"raw/hand/{MASK}"  # without the place of the store
    assert "11 x 14 x 10 voxels, not 12 x 14 x 10" in refusal["fact"]


def test_a_mask_at_another_place_is_refused(ct_rate: Stages, dataset: Dataset) -> None:
    path = dataset.raw(MASK)
    found = read_label_map(path)
    moved = found.affine.copy()
    moved[:3, 3] += 5.0
    write_label_map(path, LabelMap(found.array, moved))
    assert ct_rate.pseudo_label("anatomy") == {"kept": 10, "grid_mismatch": 1}
    assert ct_rate.reasons("pseudo_label_anatomy") == {"train_1_a_1": "grid_mismatch"}


def test_a_mirrored_mask_is_refused_though_its_shape_is_right(
    ct_rate: Stages, dataset: Dataset
) -> None:
    path = dataset.raw(MASK)
    found = read_label_map(path)
    mirrored = found.affine.copy()
    mirrored[:3, 2] *= -1
    write_label_map(path, LabelMap(found.array, mirrored))
    assert ct_rate.pseudo_label("anatomy") == {"kept": 10, "grid_mismatch": 1}


def test_the_grid_of_a_nifti_file_is_read_without_its_voxels(path: Path, volume: Volume) -> None:
    shape, affine = read_grid(path)
    assert shape == volume.array.shape
    np.testing.assert_array_equal(affine, read_volume(path).affine)
    path.write_bytes(path.read_bytes()[:600])  # the voxels are gone
    assert read_grid(path)[0] == shape


def test_shares_fill_the_store_and_the_whole_run_only_assembles(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.index()
    stages.pseudo_label("vessel")
    whole = stages.manifest("vessel").read_bytes()
    for array in (store_root() / "pseudo_label").rglob("*.b2nd"):
        array.unlink()
    stages.manifest("vessel").unlink()
    for number in (1, 2, 3):
        labels = PseudoLabels.of(stages.params, "vessel")
        every_case.run_shard(labels, stages.cases(), Shard(number, 3))
        assert not stages.manifest("vessel").exists()

    def never(*_: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr("uvlm.store.once.save_array", never)
    stages.pseudo_label("vessel")
    assert stages.manifest("vessel").read_bytes() == whole


ORDER = AxisOrder((2, 0, 1), (True, False, True))
AFFINE = np.array([[0.0, 0, 2, -40], [0, 2, 0, -50], [3, 0, 0, 60], [0, 0, 0, 1]])
SHAPE = (12, 14, 10)
STRUCTURES = {
    "spleen": (1, 0),
    "aorta": (12, 4),
    "liver_segment_8": (38, 8),
    "kidney_lesion": (40, 10),
}


def atlas(stages: Stages, structures: dict[str, tuple[int, int]]) -> Path:
    """One CT of AbdomenAtlas with masks of some structures."""
    case_id, root = "BDMAP_00000001", Path("raw/atlas/abdomen_atlas")
    affine = ORDER.stored_affine(AFFINE, SHAPE)
    volume = root / image(case_id)
    empty = ORDER.backward(np.zeros(SHAPE, np.int16))
    write_volume(store_root() / volume, Volume(empty, affine))
    for name, (_, z) in structures.items():
        drawn = np.zeros(SHAPE, np.uint8)
        drawn[z : z + 6] = 1  # overlaps what begins four slices later
        path = store_root() / root / mask(case_id, name)
        write_label_map(path, LabelMap(ORDER.backward(drawn), affine))
    case = Case(
        case_id=case_id,
        scan_id=case_id,
        patient_id=case_id,
        split="train",
        volume=volume.as_posix(),
        findings_mask=None,
        finding_categories={},
        abnormalities=(0, 0, 0),
        findings="Normal.",
        impression="",
    )
    write_index(stages.manifest("index"), [case])
    use(stages, AnatomyConfig(backend="abdomen_atlas_masks", fast=False))
    return store_root() / root


def test_structures_of_abdomen_atlas_become_one_map_in_the_order_of_the_scheme(
    stages: Stages,
) -> None:
    names = fine_classes("abdomen").names
    assert {name: names.index(name) for name in STRUCTURES} == {
        name: number for name, (number, _) in STRUCTURES.items()
    }
    root = atlas(stages, STRUCTURES)
    assert stages.pseudo_label("anatomy") == {"kept": 1}
    (row,) = read_manifest(stages.manifest("anatomy"))
    labels = load_array(resolve(row, "pseudo_label@anatomy"))
    planes = [{1}] * 4 + [{12}] * 4 + [{38}] * 2 + [{40}] * 2
    assert [set(np.unique(plane)) for plane in labels] == planes
    changed = root / mask("BDMAP_00000001", "spleen")
    found = read_label_map(changed)
    write_label_map(changed, LabelMap(np.zeros_like(found.array), found.affine))
    stages.pseudo_label("anatomy")
    (again,) = read_manifest(stages.manifest("anatomy"))
    assert again.key != row.key  # a mask that changed is read again


def test_a_ct_of_abdomen_atlas_without_any_mask_is_refused(stages: Stages) -> None:
    atlas(stages, {})
    assert stages.pseudo_label("anatomy") == {"kept": 0, "missing_file": 1}

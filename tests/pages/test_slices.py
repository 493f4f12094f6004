from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.mask_files import MaskFiles
from uvlm.arrays import Ids
from uvlm.data.cases import Case
from uvlm.data.label_scheme import scheme
from uvlm.pages.slices import MaskedSlice, choose_slice
from uvlm.store import write_manifest

CLASSES = scheme("chest", "fine_lesion")
HEART = CLASSES.names.index("heart")
LESION = min(CLASSES.lesion_ids)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UVLM_DATA_ROOT", str(tmp_path / "store"))
    return tmp_path


def chosen(root: Path, label_maps: list[Ids], *, predicted: bool = True) -> MaskedSlice | None:
    files, ids = MaskFiles(), []
    for number, labels in enumerate(label_maps):
        name = f"scan_{number}"
        case = Case(name, name, name, "test", "v", None, {}, (0,) * 18, "Lungs.", "")
        files.add(case, labels, labels if predicted else None)
        ids.append(name)
    write_manifest(root / "generate.jsonl", [])
    files.write(root)
    paths = (root / f"{name}.jsonl" for name in ("preprocess", "label_maps", "generate"))
    return choose_slice(ids, CLASSES, *paths)


def block(z: int, size: int, number: int) -> Ids:
    labels = np.zeros((4, 8, 8), np.uint8)
    labels[z, :size, :size] = number
    return labels


def test_the_largest_lesion_area_is_shown_however_large_an_organ_is(root: Path) -> None:
    found = chosen(root, [block(1, 8, HEART), block(2, 3, LESION), block(3, 4, LESION)])
    assert found is not None
    assert (found.case_id, found.z, found.shown) == ("scan_2", 3, "lesion")


def test_without_lesions_the_largest_labelled_area_is_shown_and_called_so(root: Path) -> None:
    found = chosen(root, [block(1, 3, HEART), block(2, 5, HEART)])
    assert found is not None
    assert (found.case_id, found.z, found.shown) == ("scan_1", 2, "labelled")


def test_empty_label_maps_and_scans_without_a_prediction_show_nothing(root: Path) -> None:
    assert chosen(root, [np.zeros((4, 8, 8), np.uint8)]) is None
    assert chosen(root, [block(1, 3, LESION)], predicted=False) is None

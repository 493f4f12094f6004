"""A CT of known voxels, masks that follow from its HU alone, and a draft about them."""

from __future__ import annotations

import json
import shutil
import subprocess
import warnings
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset

from benchmarks.dicom_series import Edit, write_series
from uvlm.arrays import Ids
from uvlm.data.ct.io import read_volume
from uvlm.data.ct.volume import AxisOrder, LabelMap, Volume
from uvlm.data.label_scheme import scheme
from uvlm.dicom import objects as objects_module
from uvlm.dicom.objects import Content, Written, write_objects
from uvlm.text.draft import Draft

NAMES: Final = scheme("chest", "fine_lesion").names
LIVER, EFFUSION, NODULE = map(
    NAMES.index, ("liver", "pleural_effusion_or_thickening", "nodule_or_mass")
)
ORDERS: Final = [
    AxisOrder((file_axes[0], file_axes[1], file_axes[2]), (flips[0], flips[1], flips[2]))
    for file_axes in permutations(range(3))
    for flips in product((False, True), repeat=3)
]
HEADERS: Final = {
    "SpecificCharacterSet": "ISO_IR 100", "PatientName": "Muster^Änne",
    "PatientID": "MRN 4711", "PatientBirthDate": "19500131",
    "PatientSex": "F", "StudyDate": "20260102", "StudyTime": "131415.5", "AccessionNumber": "A-1",
    "StudyID": "S1", "ReferringPhysicianName": "Doc^Tor", "StudyDescription": "Thorax nativ",
    "StudyInstanceUID": "2.25.700",
}  # fmt: skip
SENTENCES: Final = (
    {
        "text": "Nodule of 6 mm in the right lung; ≥ 2 follow-ups <b>advised</b>.",
        "part": "findings",
        "claims": (
            {"abnormality": "Lung nodule", "present": True, "contradiction": "masks show none"},
        ),
    },
    {
        "text": "Unchanged since the last CT.",
        "part": "impression",
        "unsupported_by_one_ct": "comparison with an earlier examination",
    },
)
DOCUMENT: Final[dict[str, Any]] = {
    "case_id": "ct-1", "disclaimer": "A machine wrote this.", "notes": ("Unlike training.",),
    "report": "Nodule. Unchanged.", "findings": "Nodule.", "impression": "Unchanged.",
    "withheld": None, "unlike_training": {"checked": False}, "labeller": "rules",
    "sentences": SENTENCES, "probabilities": {"Lung nodule": 0.735}, "thresholds": {},
    "structures": (), "not_trained": (),
    "provenance": {
        "read": {
            "kind": "series", "id": "1a2b3c4d", "files": 2, "slices": 2, "shape": (2, 3, 4),
            "spacing_mm": (5.0, 2.0, 1.5), "orientation": "LPS", "text": "series 1",
            "affine": ((0, 0, 1, 0), (0, 1, 0, 0), (1, 0, 0, 0), (0, 0, 0, 1)),
        },
        "voxels_sha256": "a", "request": "b", "model_sha256": "c" * 64, "contract_sha256": "d" * 64,
        "population_sha256": None, "trained_on": "phantom", "versions": {"uvlm": "1"},
        "device": "cpu", "precision": "32-true", "seconds": {"read": 0.5},
    },
}  # fmt: skip


def draft_of(**changes: Any) -> Draft:
    return Draft.model_validate_json(json.dumps(DOCUMENT | changes))


def masks_of(hu: npt.NDArray[Any], *, lesions: bool = True) -> Ids:
    """Classes as a function of HU, so that they are known in any order of the axes."""
    ids = np.zeros(hu.shape, np.uint8)
    ids[(hu >= 40) & (hu < 70)] = LIVER
    if not lesions:
        return ids
    ids[(hu >= 300) & (hu < 310)] = EFFUSION
    ids[hu >= 900] = NODULE
    return ids


def body(shape: tuple[int, int, int] = (12, 14, 17)) -> npt.NDArray[np.int16]:
    """Air around soft tissue without any symmetry, an effusion, and two nodules of 12 and 3."""
    hu = np.full(shape, -1000, np.int16)
    z, y, x = np.indices(shape)
    hu[2:-1, 2:-2, 3:-2] = (-100 + 9 * z + 5 * y + 3 * x)[2:-1, 2:-2, 3:-2]
    hu[3:5, 9:11, 4:11] = 300
    hu[5:7, 4:6, 5:8] = 900
    hu[9, 7, 11:14] = 901
    return hu


def lps(array: npt.NDArray[np.int16], turn: npt.NDArray[np.float64] | None = None) -> Volume:
    """Voxels of 2.5 x 0.8 x 0.7 mm in canonical axes, or turned."""
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = 2.5, 0.8, 0.7
    affine[:, 3] = -40.5, -50.25, 60.125, 1
    affine[:3, :3] = affine[:3, :3] if turn is None else turn @ affine[:3, :3]
    return Volume(array, affine)


def stored(canonical: Volume, order: AxisOrder) -> Volume:
    affine = order.stored_affine(canonical.affine, canonical.array.shape)
    return Volume(order.backward(canonical.array), affine)


def tagged(**tags: object) -> Edit:
    def edit(dataset: FileDataset, number: int) -> bool:
        for name, value in (HEADERS | tags).items():
            if value is not None:
                setattr(dataset, name, value)
            elif name in dataset:
                delattr(dataset, name)
        return True

    return edit


def untouched(**values: object) -> Edit:
    """Set values as they are, legal or not."""

    def edit(dataset: FileDataset, number: int) -> bool:
        tagged()(dataset, number)
        for name, value in values.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about what is not legal
                dataset[name].value = value
        return True

    return edit


def written(ct: Path, out: Path, *, lesions: bool = False, **changes: Any) -> Written:
    """Make the objects of a CT with the masks that its HU imply; a lesion costs a picture."""
    volume = read_volume(ct)
    masks = LabelMap(masks_of(volume.array, lesions=lesions), volume.affine)
    return write_objects(Content(draft_of(**changes), volume, masks, NAMES), out)


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Write a series with these tags, then its objects, and read them back by their names."""

    def make(edit: Edit | None = None, **changes: Any) -> dict[str, Any]:
        shutil.rmtree(tmp_path / "series", ignore_errors=True)
        write_series(tmp_path / "series", lps(body()), edit=edit or tagged())
        return read(written(tmp_path / "series", tmp_path / "dicom", **changes))

    return make


def read(made: Written) -> dict[str, Any]:
    return {file.stem: dcmread(file) for file in made.files}


@pytest.fixture
def blank_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing where the pictures are not looked at: each takes a second."""
    blank = np.zeros((4, 4, 3), np.uint8)
    monkeypatch.setattr(objects_module, "pictures", lambda shown, lesions: iter([blank]))


@pytest.fixture(scope="session")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all objects of a usual CT with two nodules and an effusion."""
    folder = tmp_path_factory.mktemp("usual")
    write_series(folder / "series", lps(body()), edit=tagged())
    return written(folder / "series", folder / "dicom", lesions=True).files[0].parent


@pytest.fixture
def objects(usual: Path) -> dict[str, Any]:
    return {file.stem: dcmread(file) for file in sorted(usual.iterdir())}


def problems(path: Path) -> list[str]:
    """Errors that dicom3tools find in a file."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy of dicom3tools is not installed")
    command = ["dciodvfy", "-new", str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    lines = (told.stdout + told.stderr).splitlines()
    assert lines, "it says at least which kind of object it is"
    return [line for line in lines if line.startswith(("Error", "Abort"))]

"""However a CT lies in a user's folder, training reads the CT that `check-ct` reads, or neither."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import UID

from benchmarks.dicom_enhanced import write_enhanced
from benchmarks.dicom_series import Edit, write_series
from benchmarks.good_files import WRITERS
from tests.data.ct.formats.conftest import tagged
from uvlm.config import FolderConfig
from uvlm.data.ct.check import check_ct
from uvlm.data.ct.io import read_volume
from uvlm.data.ct.volume import Volume
from uvlm.data.sets.own.dataset import OwnData
from uvlm.files import store_root
from uvlm.store import rows_by_case

if TYPE_CHECKING:
    from tests.data.sets.own.folder import Own

Draw = Callable[..., npt.NDArray[np.int16]]
ROUNDS, CASES = 10, 20
AFFINE = np.array([[0.0, 0, 8, -40], [0, 8, 0, -50], [5, 0, 0, 60], [0, 0, 0, 1]])
FILES = ("nii.gz, ours", "mha, zlib", "nrrd, gzip")


def at_one_place(dataset: FileDataset, number: int) -> bool:
    dataset.ImagePositionPatient = ["-40", "-50", "60"]
    return True


@dataclass
class Shelf:
    """Series and files that are made once and copied into every layout."""

    root: Path
    chest: Volume
    made: dict[str, Path] = field(default_factory=dict)

    def series(self, name: str, number: str, volume: Volume, edit: Edit | None = None) -> None:
        self.made[name] = self.root / name
        write_series(self.root / name, volume, series=number, edit=edit)

    def fill(self) -> None:
        chest, affine = self.chest, self.chest.affine
        self.series("chest", "3", chest)
        self.series("equal", "4", chest)
        self.series("other patient", "5", chest, tagged(PatientID="another"))
        self.series("thick", "2", Volume(chest.array[::2], affine * [2, 1, 1, 1]))
        self.series("bolus", "6", Volume(chest.array.repeat(2, axis=0), affine), at_one_place)
        finer = Volume(chest.array.repeat(2, axis=0), affine * [0.5, 1, 1, 1])
        self.series("mip", "7", finer, tagged(ImageType=["DERIVED", "SECONDARY", "MIP"]))
        self.series("coronal", "8", Volume(finer.array, finer.affine[:, [1, 0, 2, 3]]))
        self.series("slab", "9", Volume(finer.array, affine * [0.25, 1, 1, 1]))
        scout = Volume(chest.array[:1], affine)
        self.series("scout", "1", scout, tagged(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
        capture = UID("1.2.840.10008.5.1.4.1.1.7")
        self.series("capture", "10", scout, tagged(SOPClassUID=capture, Modality="OT"))
        self.made["frames"] = self.root / "frames.dcm"
        write_enhanced(self.made["frames"], chest)
        for writer in FILES:
            (self.root / writer).mkdir()
            self.made[writer] = WRITERS[writer](self.root / writer, chest)


BESIDE = ("thick", "bolus", "mip", "coronal", "slab", "scout", "capture")
AMBIGUOUS = ("equal", "other patient")


@pytest.fixture
def shelf(tmp_path: Path, chest: Draw) -> Shelf:
    made = Shelf(tmp_path / "shelf", Volume(np.maximum(chest(16, 12, 10), -1024), AFFINE))
    made.fill()
    return made


def subfolder(case: Path, rng: random.Random) -> Path:
    names = ("DICOM", "SE0001", "1.2.840.5", "s 1", "Übersicht", "ct")
    folder = case.joinpath(*rng.choices(names, k=rng.randint(0, 3)))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def put_series(source: Path, case: Path, rng: random.Random) -> None:
    """Copy a series under any of the names that scanners and archives give."""
    folder, prefix = subfolder(case, rng), rng.choice(["IM", "1.2.840.", "slice "])
    suffix = rng.choice(["", ".dcm", ".DCM", ".IMA"])
    if prefix == "1.2.840." and suffix == "":
        prefix += f"{rng.randint(1, 10**6)}."
    elif prefix == "1.2.840.":
        prefix = "CT."
    number = rng.randint(1, 10**6) * 100
    for path in sorted(source.iterdir(), key=lambda _: rng.random()):
        number += 1
        shutil.copy(path, folder / f"{prefix}{number}{suffix}")


def put_noise(case: Path, rng: random.Random) -> None:
    """Leave what viewers, people and operating systems leave."""
    noise = (
        "notes.txt",
        "key.jpg",
        "DICOMDIR",
        "Thumbs.db",
        ".DS_Store",
        "._IM1",
        "README",
        "r.pdf",
    )
    for name in rng.sample(noise, rng.randint(0, 3)):
        (subfolder(case, rng) / name).write_bytes(b"\1" * rng.randint(0, 200))
    if rng.random() < 0.3:
        (subfolder(case, rng) / "empty" / "er").mkdir(parents=True, exist_ok=True)


def put_case(mine: Path, name: str, shelf: Shelf, rng: random.Random) -> bool:
    """Lay out one case; returns whether it is one CT."""
    case, kind = mine / name, rng.choice(["series", "series", "file", "flat", "link"])
    if kind == "flat":
        source = shelf.made[rng.choice([*FILES, "frames"])]
        shutil.copy(source, mine / f"{name}{''.join(source.suffixes)}")
        return True
    if kind == "link":
        case.symlink_to(shelf.made["chest"])
        return True
    case.mkdir()
    put_noise(case, rng)
    added = rng.sample(BESIDE, rng.randint(0, 3))
    if kind == "file":
        source = shelf.made[rng.choice(FILES)]
        stem = rng.choice([name, "ct", "image.v2"])
        shutil.copy(source, subfolder(case, rng) / f"{stem}{''.join(source.suffixes)}")
        added = [one for one in added if one in ("scout", "capture")]
        twice = [FILES[0]] if rng.random() < 0.2 else []
        for one in twice:
            shutil.copy(shelf.made[one], subfolder(case, rng) / "second.nii.gz")
    else:
        put_series(shelf.made["chest"], case, rng)
        twice = rng.sample(AMBIGUOUS, 1) if rng.random() < 0.2 else []
        added += twice
    for one in added:
        put_series(shelf.made[one], case, rng)
    return not twice


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_training_reads_what_check_ct_reads(own: Own, shelf: Shelf, seed: int) -> None:
    rng = random.Random(seed)
    shutil.rmtree(own.folder)
    own.folder.mkdir()
    is_one = {f"p{n:02d}.a": put_case(own.folder, f"p{n:02d}.a", shelf, rng) for n in range(CASES)}
    own.table(["id", "report"], [[name, f"Report {name}."] for name in is_one])
    own.fetch()
    found, refusals = OwnData(FolderConfig(**own.settings), 0).cases(rows_by_case(own.manifest))
    cases, refused = {case.case_id: case for case in found}, {one.case for one in refusals}
    assert set(cases) == {name for name, one in is_one.items() if one}
    assert refused == {name for name, one in is_one.items() if not one}
    for name, one in is_one.items():
        (path,) = [p for p in own.folder.iterdir() if p.name.startswith(name)]
        check = check_ct(path, None)
        assert check.accepted == one
        if one:
            assert check.origin
            trained = store_root() / cases[name].volume
            copies = list(trained.iterdir()) if trained.is_dir() else [trained]
            assert contents(copies) == contents(check.origin.paths)
            np.testing.assert_array_equal(read_volume(trained).array, shelf.chest.array)


def contents(paths: Iterable[Path]) -> list[bytes]:
    return sorted(path.read_bytes() for path in paths)

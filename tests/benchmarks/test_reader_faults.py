"""A sample of the campaign: two files of every damage; `make reader-faults` runs all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import damage, dicom_damage
from benchmarks.fault_plan import plan
from benchmarks.faults_page import write_page
from benchmarks.good_files import LARGE, draw_ct
from benchmarks.reader_faults import Tally, run
from benchmarks.readers import Reader, judge
from uvlm.data.ct.io import write_volume

pytestmark = pytest.mark.timeout(1800)  # half a minute on idle cores


@pytest.fixture(scope="module")
def tally() -> Tally:
    return run(per_cell=2, num_good=42)


@pytest.mark.slow
def test_nothing_damaged_is_read_in_silence_and_nothing_good_is_refused(tally: Tally) -> None:
    assert tally.problems == []
    assert tally.false_alarms == []
    assert tally.num_damaged > 300
    assert tally.total("uvlm", "silent") == tally.total("uvlm", "crash") == 0


@pytest.mark.slow
def test_the_same_files_do_fool_other_readers(tally: Tally) -> None:
    for reader in ("SimpleITK", "nibabel"):
        assert tally.total(reader, "silent") > 30
        assert tally.total(reader, "refused") > 30


@pytest.mark.slow
def test_damage_without_a_trace_is_counted_apart_and_honestly(tally: Tally) -> None:
    voxels = tally.silent["nii: bit of a voxel flipped"]
    assert voxels["uvlm"]["silent"] == voxels["SimpleITK"]["silent"] == 2


@pytest.mark.slow
def test_the_page_has_a_row_for_every_damage_and_the_sums(tally: Tally) -> None:
    page = write_page(tally)
    for kind in [*tally.detectable, *tally.silent]:
        assert f"\n| {kind} | " in page
    assert f"| uvlm | {tally.num_damaged} | 0 |" in page
    assert "**140 of 140 refused**" in page


def test_the_whole_plan_has_more_than_5000_files_and_large_ones() -> None:
    cells = [cell for base in plan() for cell in base.cells if cell.detectable]
    assert sum(cell.count for cell in cells) > 5000
    assert sum(cell.count for cell in cells if cell.kind.startswith("8.8 MB")) > 500
    assert 2 * np.prod(LARGE) > 8_000_000


def test_a_reader_that_dies_is_a_crash_and_is_replaced(tmp_path: Path) -> None:
    volume = draw_ct(3)
    write_volume(tmp_path / "ct.nii.gz", volume)
    np.savez(tmp_path / "truth.npz", array=volume.array, affine=volume.affine)
    reader = Reader("uvlm")
    try:
        reader.compare_with(tmp_path / "truth.npz")
        reader.ask(tmp_path / "ct.nii.gz")
        assert reader.answer() == "unchanged"
        reader._process.kill()
        assert reader.answer() == "crash"
        reader.ask(tmp_path / "ct.nii.gz")
        assert reader.answer() == "unchanged"
    finally:
        reader.close()


@pytest.mark.parametrize("reader", ["uvlm", "SimpleITK", "nibabel"])
def test_another_image_or_another_place_is_silent(tmp_path: Path, reader: str) -> None:
    volume = draw_ct(3)
    write_volume(tmp_path / "ct.nii.gz", volume)
    assert judge(reader, tmp_path / "ct.nii.gz", (volume.array, volume.affine)) == "unchanged"
    other = volume.array.copy()
    other[0, 0, 0] += 1
    assert judge(reader, tmp_path / "ct.nii.gz", (other, volume.affine)) == "silent"
    moved = volume.affine.copy()
    moved[0, 3] += 0.6 * volume.spacing[2]
    moved[1, 3] += 0.6 * volume.spacing[1]
    assert judge(reader, tmp_path / "ct.nii.gz", (volume.array, moved)) == "silent"
    (tmp_path / "ct.nii.gz").write_bytes(b"")
    assert judge(reader, tmp_path / "ct.nii.gz", (volume.array, volume.affine)) == "refused"


def test_every_damage_changes_the_file(tmp_path: Path) -> None:
    write_volume(tmp_path / "ct.nii.gz", draw_ct(3))
    payload = (tmp_path / "ct.nii.gz").read_bytes()
    changes = [
        damage.cut,
        damage.tail,
        damage.flip,
        damage.flip_trailer,
        damage.blank_block,
        damage.flip_header,
        damage.flip_single_field,
        *map(damage.edit_header, damage.HEADER_EDITS.values()),
    ]
    for number, change in enumerate(changes):
        assert change(payload, np.random.default_rng(number)) != payload, number
    assert len(dicom_damage.DETECTABLE) == len(dicom_damage.ENHANCED) == 6

"""What `check-ct` knows: the same verdict as the reader, and the preparation in words."""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from uvlm.config import PreprocessConfig
from uvlm.data.contract import contract_sha256, normalise
from uvlm.data.ct.check import check_ct
from uvlm.data.ct.grid import preprocess_volume
from uvlm.data.ct.io import read_volume, write_volume
from uvlm.data.ct.volume import Volume

KEYS = {
    "path",
    "accepted",
    "reasons",
    "shape",
    "spacing_mm",
    "orientation",
    "hu_percentiles",
    "preprocessing",
    "source",
}


@pytest.fixture
def config() -> PreprocessConfig:
    return PreprocessConfig(
        orientation="LPS",
        clip_hu=(-1024, 3071),
        grid=(5, 24, 28),
        resize="stretch",
        spacing_mm=None,
        normalise="window",
        window_hu=(-1000, 1000),
    )


def test_an_accepted_ct_is_described(path: Path, volume: Volume, config: PreprocessConfig) -> None:
    check = check_ct(path, config)
    found = json.loads(json.dumps(check.to_json(), allow_nan=False))
    assert set(found) == KEYS
    assert (found["path"], found["accepted"], found["reasons"]) == (str(path), True, [])
    assert found["shape"] == [10, 12, 14]
    assert found["spacing_mm"] == pytest.approx([3.0, 0.7, 0.8])
    assert found["orientation"] == read_volume(path).orientation() == "LAS"
    assert found["hu_percentiles"]["50"] == pytest.approx(np.median(volume.array), abs=0.5)
    assert found["preprocessing"]["contract_sha256"] == contract_sha256(config)
    assert found["preprocessing"]["spacing_mm"] == pytest.approx([6.0, 0.35, 0.4])
    below = np.mean(volume.array < -1024)
    assert found["preprocessing"]["steps"] == [
        "axes turned from LAS to LPS: 10 x 12 x 14 voxels (z, y, x)",
        f"clipped to -1024..3071 HU, which changes {below:.1%} of the voxels",
        "stretched to 5 x 24 x 28 voxels of 6 x 0.35 x 0.4 mm",
        "-1000..1000 HU scaled to -1..1",
    ]


def test_the_network_gets_what_training_prepares(path: Path, config: PreprocessConfig) -> None:
    check = check_ct(path, config)
    array, geometry = preprocess_volume(read_volume(path), config)
    assert check.voxels is not None
    np.testing.assert_array_equal(check.voxels, normalise(array, config))
    assert check.spacing_seen == pytest.approx(np.linalg.norm(geometry.grid_affine[:3, :3], axis=0))


def test_a_grid_that_leaves_something_out_says_so(path: Path, config: PreprocessConfig) -> None:
    changes = {"resize": "resample_pad", "spacing_mm": (3.0, 0.7, 0.8), "normalise": "zscore"}
    plan = check_ct(path, config.model_copy(update=changes)).facts["preprocessing"]
    assert "  50% of the CT along z lies outside the grid" in plan["steps"]
    assert plan["steps"][-1] == "scaled to mean 0 and standard deviation 1 of the volume"


def test_a_coarse_ct_on_a_fine_grid_says_so(path: Path, config: PreprocessConfig) -> None:
    plan = check_ct(path, config.model_copy(update={"grid": (40, 12, 14)})).facts["preprocessing"]
    assert "  4.0 grid voxels along z come from each of the CT's" in plan["steps"]


def test_without_a_contract_the_preparation_is_unknown(path: Path) -> None:
    check = check_ct(path, None)
    assert check.accepted
    assert check.to_json()["preprocessing"] is None
    assert "unknown: no params.yaml here and no --model" in check.to_text()


def test_a_refused_ct_has_a_reason_a_fact_and_a_remedy(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])
    check = check_ct(path, None)
    found = check.to_json()
    assert set(found) == KEYS
    assert not found["accepted"]
    (reason,) = found["reasons"]
    assert (reason["file"], reason["reason"]) == (str(path), "truncated_gzip")
    assert "cut off" in reason["fact"]
    assert reason["remedy"] == "copy or download it again"
    assert check.to_text().startswith(f"{path}: REFUSED (truncated_gzip)\n  the gzip stream is cut")


def test_a_file_inside_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "slice").write_bytes(b"nothing")
    check = check_ct(tmp_path / "study", None)
    assert f"{tmp_path / 'study' / 'slice'}:" in check.to_text()
    assert check.to_json()["reasons"][0]["file"].endswith("slice")


def test_nothing_is_written(path: Path, config: PreprocessConfig, volume: Volume) -> None:
    before = path.read_bytes()
    write_volume(path.with_name("b.nii.gz"), volume)
    listing = sorted(path.parent.iterdir())
    check_ct(path, config)
    assert path.read_bytes() == before
    assert sorted(path.parent.iterdir()) == listing


@pytest.mark.parametrize("config_is_known", [True, False])
def test_a_zip_is_checked_as_what_it_holds(
    path: Path, config: PreprocessConfig, tmp_path: Path, config_is_known: bool
) -> None:
    archive = tmp_path / "a zip äö.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(path, path.name)
    known = config if config_is_known else None
    alone, zipped = check_ct(path, known), check_ct(archive, known)
    assert (zipped.path, zipped.refusal) == (archive, None)
    assert zipped.facts == alone.facts
    if known is not None:
        np.testing.assert_array_equal(zipped.voxels, alone.voxels)


def test_a_refusal_inside_a_zip_names_the_zip_and_no_folder_that_is_gone(tmp_path: Path) -> None:
    damaged, leads_out, none = (tmp_path / f"{name}.zip" for name in "abc")
    with zipfile.ZipFile(damaged, "w") as packed:
        packed.writestr("ct.nii.gz", b"\x1f\x8b broken")
    with zipfile.ZipFile(leads_out, "w") as packed:
        packed.writestr("../ct.nii.gz", b"1")
    none.write_bytes(b"PK\x03\x04")
    reasons = []
    for archive in (damaged, leads_out, none):
        check = check_ct(archive, None)
        assert check.refusal is not None
        assert check.refusal.subject == str(archive)
        assert tempfile.gettempdir() + "/uvlm-" not in check.to_text(names=True)
        reasons.append(check.refusal.reason)
    assert reasons[1:] == ["path_traversal", "damaged_zip"]

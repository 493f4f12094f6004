"""The default phantoms are those of every release since 0.1.0, to the byte."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pipeline.profiles import compose, read_document
from uvlm.config import PhantomConfig, parse_params
from uvlm.data.sets.phantom.dataset import write_dataset

FEW = PhantomConfig(
    train_patients=4,
    test_patients=2,
    shape=(32, 48, 48),
    prevalence=0.25,
    second_scan_fraction=0.5,
    second_reconstruction_fraction=0.5,
    noise_hu=15.0,
    defects=True,
)
# The manifest has a digest of every file. Made when there were no other phantoms.
FEW_SHA256 = "9013e9e726af1b1c2b281e2d588b96bef3afe69223dcd0318c28d4f98e595441"


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UVLM_DATA_ROOT", str(tmp_path / "store"))
    return tmp_path / "download.jsonl"


def test_a_few_patients_are_those_of_earlier_code(manifest: Path) -> None:
    root = write_dataset(FEW, 0, manifest)
    assert root.name == "phantom-c421f4cd6b085597"
    assert hashlib.sha256(manifest.read_bytes()).hexdigest() == FEW_SHA256


@pytest.mark.slow
def test_the_default_profile_writes_what_the_lock_says(manifest: Path, root: Path) -> None:
    phantom = parse_params(compose(root, "phantom"), "phantom").download.phantom
    assert phantom is not None
    write_dataset(phantom, 0, manifest)
    [out] = read_document(root / "dvc.lock")["stages"]["download"]["outs"]
    assert hashlib.md5(manifest.read_bytes(), usedforsecurity=False).hexdigest() == out["md5"]

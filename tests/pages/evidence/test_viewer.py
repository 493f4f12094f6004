"""The viewer in the package is the one that was published, with its licences."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from uvlm.errors import SetupError
from uvlm.pages.viewer import bundle, vendor

FOLDER = Path(str(files(bundle.__package__)))
RECORD = json.loads((FOLDER / bundle.RECORD).read_text(encoding="utf-8"))


def test_the_script_is_the_file_of_the_record_and_can_stand_inside_a_page() -> None:
    payload = (FOLDER / bundle.SCRIPT).read_bytes()
    assert hashlib.sha256(payload).hexdigest() == RECORD["sha256"]
    assert len(payload) == RECORD["bytes"]
    for breaks_out in (b"</script", b"<!--", b"\r", b"\x00"):
        assert breaks_out not in payload.lower()
    assert RECORD["integrity"] == vendor.INTEGRITY
    assert (RECORD["name"], RECORD["version"]) == (vendor.PACKAGE, vendor.VERSION)


def test_every_package_in_the_script_has_its_licence() -> None:
    text = (FOLDER / bundle.LICENCES).read_text(encoding="utf-8")
    for told in (
        f"{RECORD['name']} {RECORD['version']} ({RECORD['licence']})",
        *RECORD["contains"],
    ):
        assert told in text
    assert "Copyright (c) 2021, Niivue" in text
    allowed = {"MIT", "ISC", "BSD-2-Clause"}
    assert {told.rpartition("(")[2].rstrip(")") for told in RECORD["contains"]} <= allowed


def test_a_changed_script_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (bundle.SCRIPT, bundle.RECORD):
        shutil.copy(FOLDER / name, tmp_path / name)
    monkeypatch.setattr(bundle, "files", lambda package: tmp_path)
    bundle.load_viewer.cache_clear()
    assert bundle.load_viewer().version == vendor.VERSION
    with (tmp_path / bundle.SCRIPT).open("ab") as file:
        file.write(b" ")
    bundle.load_viewer.cache_clear()
    with pytest.raises(SetupError, match=r"is not the file of viewer\.json"):
        bundle.load_viewer()
    (tmp_path / bundle.SCRIPT).unlink()
    with pytest.raises(SetupError, match="has no viewer"):
        bundle.load_viewer()
    bundle.load_viewer.cache_clear()


@pytest.mark.slow
@pytest.mark.skipif("UVLM_NPM" not in os.environ, reason="needs npm's registry: set UVLM_NPM=1")
def test_npm_brings_the_same_script_again(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "BSD-2-Clause.txt", tmp_path)
    assert vendor.vendor(tmp_path)["sha256"] == RECORD["sha256"]
    assert (tmp_path / bundle.SCRIPT).read_bytes() == (FOLDER / bundle.SCRIPT).read_bytes()


def test_without_npm_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="npm: cannot be started"):
        vendor.vendor(tmp_path)

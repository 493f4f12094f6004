"""`uvlm check-ct` as it is typed: lines, exit codes, the picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from uvlm.data.ct.io import write_volume
from uvlm.data.ct.volume import Volume


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    array = np.full((12, 16, 20), -1000, np.int16)
    array[3:, 4:, 5:] = 40
    write_volume(tmp_path / "ct.nii.gz", Volume(array, np.eye(4)[:, [2, 1, 0, 3]]))
    return tmp_path / "ct.nii.gz"


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["check-ct", *map(str, arguments)])
    return result.exit_code, result.stdout


def test_accepted_cts_exit_with_0_and_one_object_a_line(
    ct: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    code, out = run(ct, ct, "--json", "--picture", tmp_path / "planes.png")
    found = [json.loads(line) for line in out.splitlines()]
    assert (code, [row["accepted"] for row in found]) == (0, [True, True])
    assert found[0]["preprocessing"]["grid"] == [32, 48, 48]
    assert (tmp_path / "planes.png").read_bytes().startswith(b"\x89PNG")


def test_one_refused_ct_exits_with_3_and_the_others_are_still_checked(
    ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(ct.read_bytes()[:100])
    code, out = run(bad, tmp_path / "none.nii", ct, "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 3
    assert [row["accepted"] for row in found] == [False, False, True]
    assert [row["reasons"][0]["reason"] for row in found[:2]] == ["truncated_gzip", "missing_file"]
    code, out = run(bad, ct)
    assert (code, "REFUSED (truncated_gzip)" in out, "accepted" in out) == (3, True, True)


def test_usage_errors_exit_with_2(ct: Path) -> None:
    assert run()[0] == 2
    assert run(ct, "--pictures", "a.png")[0] == 2

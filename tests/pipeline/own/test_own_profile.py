"""`uvlm own`: a look at the data, a profile that fits, and nothing written over."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Hashable, Sequence
from math import prod
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from pipeline import sizes
from pipeline.own import look as look_module
from pipeline.own.profile import Request, make_own
from pipeline.profiles import compose, use_profile
from pipeline.sizes import LADDER, merged
from tests.pipeline.conftest import write_own
from uvlm.config import Params, parse_params
from uvlm.data.ct.io import write_volume
from uvlm.data.ct.volume import Volume
from uvlm.errors import ConfigError, DataError, SetupError
from uvlm.estimates import stages as stages_module
from uvlm.estimates.stages import Cts, Estimate

_ESTIMATES: dict[Hashable, list[Estimate]] = {}
COLUMNS: dict[str, str | None] = {"findings_column": None, "patient_column": None}


@pytest.fixture(autouse=True)
def _estimated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The six sizes have the same estimates in every test, and these take seconds each."""

    def estimates(params: Params, cts: Cts, stages: Sequence[str]) -> list[Estimate]:
        key = (params.model_dump_json(exclude={"download", "profile"}), cts, tuple(stages))
        if key not in _ESTIMATES:
            _ESTIMATES[key] = stages_module.estimates(params, cts, stages)
        return _ESTIMATES[key]

    monkeypatch.setattr(sizes, "estimates", estimates)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Eight CTs and their reports, under other names of columns."""
    write_own(folder := tmp_path / "mine", train_patients=4, report_column="text")
    return folder


@pytest.fixture
def project(tmp_path: Path, root: Path) -> Path:
    """A folder with conf/."""
    shutil.copytree(root / "conf", tmp_path / "project" / "conf")
    return tmp_path / "project"


def request(folder: Path, memory: str | None = "8GB", force: bool = False) -> Request:
    columns = {**COLUMNS, "findings_column": "text"}
    return Request(folder, "mine", columns, memory, minutes=30.0, force=force)


@pytest.mark.slow
def test_the_profile_composes_and_its_columns_and_sizes_arrive(mine: Path, project: Path) -> None:
    before = {path: path.read_bytes() for path in mine.iterdir()}
    shown = "\n".join(make_own(project, request(mine)))
    params = use_profile(project, "mine")
    assert params.download.folder is not None
    assert params.download.folder.findings_column == "text"
    assert list(params.preprocess.grid) in [size["preprocess"]["grid"] for size in LADDER]
    assert params.train_cls.steps < 1000
    assert {path: path.read_bytes() for path in mine.iterdir()} == before
    for told in ("8 rows, 8 usable", "read from the reports by `rules`", "uvlm use mine"):
        assert told in shown
    for stage in ("preprocess", "train_cls", "encode", "train_report", "generate", "evaluate"):
        assert f"\n{stage} " in shown


@pytest.mark.slow
def test_every_size_of_the_ladder_is_a_valid_run(root: Path) -> None:
    for size in LADDER:
        parse_params(merged(compose(root, "folder"), size), "ladder")


@pytest.mark.slow
def test_an_existing_profile_stays_unless_force_and_one_by_hand_stays_even_then(
    mine: Path, project: Path
) -> None:
    list(make_own(project, request(mine)))
    path = project / "conf" / "profile" / "mine.yaml"
    made = path.read_bytes()
    with pytest.raises(ConfigError, match="--force"):
        list(make_own(project, request(mine)))
    assert path.read_bytes() == made
    list(make_own(project, request(mine, force=True)))
    path.write_text("# by hand\n")
    with pytest.raises(ConfigError, match="not from `uvlm own`"):
        list(make_own(project, request(mine, force=True)))
    assert path.read_text() == "# by hand\n"


@pytest.mark.slow
def test_a_computer_that_is_too_small_gets_the_table_and_no_profile(
    mine: Path, project: Path
) -> None:
    with pytest.raises(SetupError, match="are too little") as caught:
        list(make_own(project, request(mine, memory="100MB")))
    assert "preprocess" in caught.value.details
    assert not (project / "conf/profile/mine.yaml").exists()


@pytest.mark.parametrize("name", ["", "../chest", "Mine", "a b", "mine.yaml"])
def test_a_name_that_is_none_is_refused(name: str, mine: Path, project: Path) -> None:
    with pytest.raises(ConfigError, match="--name"):
        list(make_own(project, Request(mine, name, COLUMNS, None, 30.0, False)))


def test_two_patients_are_too_few(mine: Path, project: Path) -> None:
    table = mine / "reports.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:3]) + "\n")
    with pytest.raises(DataError, match="2 usable patients"):
        list(make_own(project, request(mine)))


def test_what_preprocess_would_refuse_is_named_before_anything_is_written(
    mine: Path, project: Path
) -> None:
    for path in sorted(mine.glob("*.nii.gz"))[:2]:
        not_hu = np.random.default_rng(0).integers(0, 255, (20, 28, 28)).astype(np.int16)
        write_volume(path, Volume(not_hu, np.eye(4)))
    with pytest.raises(DataError, match="2 of 8 rows would be refused") as caught:
        list(make_own(project, request(mine)))
    assert len(caught.value.details.splitlines()) == 2
    assert not (project / "conf/profile/mine.yaml").exists()


def test_reports_in_another_language_are_named_and_nothing_is_written(
    mine: Path, project: Path
) -> None:
    table = mine / "reports.csv"
    lines = table.read_text().splitlines()
    case_id = lines[2].partition(",")[0]
    lines[2] = f"{case_id},Keine Rundherde. Das Herz ist normal gross. Kein Pleuraerguss beidseits."
    table.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"row 2 \(line 3\): 2 of 10 words are known"):
        list(make_own(project, request(mine)))
    assert not (project / "conf/profile/mine.yaml").exists()


@pytest.mark.slow
def test_many_cts_are_read_until_the_time_is_up_and_at_least_one(
    mine: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    for path in sorted(mine.glob("*.nii.gz")):
        image = sitk.ReadImage(path)
        sizes.append(image.GetSize()[::-1])
        for key in image.GetMetaDataKeys():  # NIfTI's own, which MetaImage does not have
            image.EraseMetaData(key)
        sitk.WriteImage(image, str(path).replace(".nii.gz", ".mha"))
        path.unlink()
    shown = "\n".join(make_own(project, request(mine)))
    z, y, x = max(sizes, key=prod)
    assert f"8 of 8 were read and accepted; up to {z} x {y} x {x}\n" in shown
    assert "patients  8, one for each CT" in shown
    monkeypatch.setattr(look_module, "_READ_FOR_S", 0.0)
    assert "1 of 8 were read" in "\n".join(make_own(project, request(mine, force=True)))


def test_the_command_ends_with_one_line_and_a_code(mine: Path, project: Path, root: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "own", str(mine), "--memory", "lots"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert run.stderr == "--memory: is 'lots'; pass a size such as 8GB or 7.5GiB\n"

"""`dvc exp run -S pseudo_label.airway.backend=atm22` on real CTs through the profile `folder`."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.dvc_yaml import read_declarations
from pipeline.profiles import compose, write_params
from uvlm.data.ct.io import read_volume, write_volume
from uvlm.data.ct.volume import Volume
from uvlm.data.label_scheme import scheme
from uvlm.store import load_array, rows_by_case

STAGES = (
    *("download", "index", "preprocess"),
    *("pseudo_label@anatomy", "pseudo_label@airway", "pseudo_label@vessel", "label_maps"),
)


@pytest.fixture
def own(real_data: Path, tmp_path: Path) -> Path:
    """Real CTs as a person's own: one for each split, so one of them is a part of another."""
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(real_data / "ct/thorax_ct-64.nrrd", folder / "thorax.nrrd")
    thorax = read_volume(folder / "thorax.nrrd")
    write_volume(folder / "upper.nii.gz", Volume(thorax.array[-40:], thorax.affine))
    shutil.copy(real_data / "ct/chest_abdomen_3mm.nii.gz", folder / "abdomen.nii.gz")
    with (folder / "reports.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "report"])
        writer.writerows([name, "No nodule."] for name in ("thorax", "upper", "abdomen"))
    return folder


@pytest.fixture
def project(root: Path, tmp_path: Path) -> Path:
    """A workspace with the profile's parameters, airways by atm22 and painted into the maps."""
    document = compose(root, "folder")
    document["pseudo_label"]["airway"]["backend"] = "atm22"
    document["preprocess"]["grid"] = [64, 64, 64]
    document["train_seg"]["patch"] = [64, 64, 64]
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(root / "dvc.yaml", folder)
    write_params(folder, document)
    return folder


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_airways_of_a_real_ct_reach_its_label_map(
    root: Path, real_data: Path, own: Path, project: Path, mlflow_away: Path
) -> None:
    environment = os.environ | {
        "DVC_ROOT": str(project),
        "PYTHONPATH": f"{mlflow_away}{os.pathsep}{root}",
        "UVLM_ATM22_WEIGHTS": str(real_data / "weights/atm22_airway_unet.pth"),
        "UVLM_OWN_DATA": str(own),
    }
    declarations = read_declarations(root)
    for name in STAGES:
        run = subprocess.run(
            [sys.executable, *declarations[name].command.split()[1:]],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, f"{name}: {run.stderr[-3000:]}"
    manifests, store = project / "data/manifests", project / "data/store"
    rows = rows_by_case(manifests / "pseudo_label_airway.jsonl")
    assert set(rows) == {"thorax", "upper", "abdomen"}
    assert {row.extra["backend"] for row in rows.values()} == {"atm22"}
    assert {row.extra["licence"] for row in rows.values()} == {"MIT"}
    airway = load_array(store / rows["thorax"].path, rows["thorax"].sha256) > 0
    hu = read_volume(own / "thorax.nrrd").array  # its axes are canonical already
    assert airway.shape == hu.shape
    assert float(hu[airway].mean()) < -850
    maps = rows_by_case(manifests / "label_maps.jsonl")
    trachea = scheme("chest", "coarse").names.index("trachea")
    grid = load_array(store / maps["thorax"].path, maps["thorax"].sha256)
    assert set(np.unique(grid)) == {0, trachea}
    share = np.count_nonzero(grid) / grid.size
    assert share == pytest.approx(np.count_nonzero(airway) / airway.size, rel=0.1)
    timing = json.loads((project / ".uvlm/timings/pseudo_label@airway.json").read_text())
    sys.stdout.write(f"three real CTs through pseudo_label@airway: {timing}\n")

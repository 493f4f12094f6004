"""A new data set is a folder and an entry of the catalogue, as docs/datasets.md says; no more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.profiles import compose, write_params

IMPORT = "from uvlm.data.sets.toy.dataset import Toy\n"
ENTRY = '    "toy": Toy,\n'
TOY = '''
"""Reports of nobody: one table, one file a CT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uvlm import store
from uvlm.config import Section, parse_section
from uvlm.data.cases import Case
from uvlm.data.sets.dataset import DataSet, Files, Label, column_by_table, local_row, table_path
from uvlm.files import store_root, write_text_atomic
from uvlm.store import CaseProgress, Refusal
from uvlm.tables import read_table


class ToyConfig(Section):
    """How many patients there are, and how many rows the adapter forgets."""

    patients: int
    forgets: int = 0


@dataclass(frozen=True)
class Toy(DataSet):
    """The set."""

    section: Mapping[str, Any]
    seed: int

    @property
    def config(self) -> ToyConfig:
        """The section, checked."""
        return parse_section(ToyConfig, self.section, "download.toy")

    def fetch(
        self, manifest: Path, label: Label, progress: CaseProgress | None = None, code: str = ""
    ) -> None:
        """Write the table and the CTs."""
        raw = store_root() / "raw" / "toy"
        names = [f"toy{number}" for number in range(self.config.patients)]
        table = "".join(f"{name},Nothing in {name}.\\n" for name in [*names, "ghost"])
        files = {f"{name}.nii.gz": f"CT of {name}" for name in names}
        for path, text in (files | {"toy.csv": "who,said\\n" + table}).items():
            write_text_atomic(raw / path, text)
        rows = [local_row(path, raw / path, "toy") for path in (*files, "toy.csv")]
        store.write_manifest(manifest, rows)

    def cases(self, files: Files) -> tuple[list[Case], list[Refusal]]:
        """Every third patient is tested on; a row without a CT is refused."""
        rows = read_table(table_path(files, "toy.csv"), ("who", "said")).rows
        cases, refusals = [], []
        for number, row in enumerate(rows[self.config.forgets :]):
            name, volume = row.values["who"], files.get(f"{row.values['who']}.nii.gz")
            if volume is None:
                refusals.append(Refusal(name, name, "missing_file", "has no CT", ""))
                continue
            split = "train" if number % 3 else "test"
            flags, said = (1,) * 18, row.values["said"]
            cases.append(
                Case(name, name, name, split, volume.path, None, {}, flags, said, "", volume.sha256)
            )
        return cases, refusals

    def rows_by_table(self, files: Files) -> dict[str, list[str]]:
        """Who is in the table, and whose CTs are there."""
        cts = [path.removesuffix(".nii.gz") for path in files if path.endswith(".nii.gz")]
        return {"volume files": cts, **column_by_table(files, "who")}
'''.lstrip()


@pytest.fixture
def project(root: Path, tmp_path: Path) -> Path:
    """The project with a toy set added to it, and parameters that choose it."""
    for name in ("uvlm", "pipeline"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "dvc.yaml", tmp_path)
    sets = tmp_path / "uvlm/data/sets"
    (sets / "toy").mkdir()
    (sets / "toy/__init__.py").write_text('"""Toy."""\n')
    (sets / "toy/dataset.py").write_text(TOY)
    lines = (sets / "catalogue.py").read_text().splitlines(keepends=True)
    lines.insert(max(n for n, line in enumerate(lines) if line.startswith("from uvlm")), IMPORT)
    lines.insert(next(n for n, line in enumerate(lines) if line.startswith('    "')), ENTRY)
    (sets / "catalogue.py").write_text("".join(lines))
    return tmp_path


def write_profile(root: Path, project: Path, **section: int) -> None:
    document: dict[str, Any] = compose(root, "phantom")
    document["download"] |= {"source": "toy", "toy": section}
    document["index"]["max_quarantined_share"] = 0.2
    write_params(project, document)


def run(project: Path, stage: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "DVC_ROOT": str(project),
        "MLFLOW_TRACKING_URI": "sqlite:////proc/nowhere/mlflow.db",
        "PYTHONPATH": str(project),
        "UVLM_DATA_ROOT": str(project / "store"),
    }
    return subprocess.run(
        [sys.executable, "-m", f"pipeline.{stage}"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_set_that_is_a_folder_and_an_entry_is_downloaded_indexed_and_counted(
    root: Path, project: Path
) -> None:
    write_profile(root, project, patients=9)
    for stage in ("download", "index"):
        done = run(project, stage)
        assert done.returncode == 0, done.stderr
    index = (project / "data/manifests/index.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["case"] for line in index) == [f"toy{n}" for n in range(9)]
    accounts = json.loads((project / "reports/index.json").read_text())["accounts"]
    assert {account["name"]: (account["rows"], account["kept"]) for account in accounts} == {
        "cases": (10, 9),
        "volume files": (9, 9),
        "toy.csv": (10, 9),
    }

    write_profile(root, project, patients=9, forgets=1)
    done = run(project, "index")
    assert done.returncode == 3
    assert "index: volume files: the row of 'toy0' is neither kept nor excluded" in done.stderr

    write_profile(root, project, patient=9)
    done = run(project, "index")
    assert done.returncode == 2
    assert "unknown parameter patient; nearest valid key is patients" in done.stderr

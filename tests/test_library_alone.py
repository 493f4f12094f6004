"""The library trains and predicts where neither DVC nor MLflow can be imported.

Quick: an import hook refuses them. Slow: a venv that has the packages of `[project.dependencies]`
and what these need, by links, and nothing else; so a dependency that nobody declared is missed too.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "library_alone.py"
PARAMS = Path(__file__).parents[1] / "params.yaml"
REFUSE = f"""
import importlib.abc, sys
from pathlib import Path
sys.path.insert(0, {str(PARAMS.parent)!r})

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("dvc", "mlflow", "hydra", "pipeline"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse())
from uvlm import Params, Predictor, load_params, read_volume
import uvlm.cli, uvlm.estimates, uvlm.train.seg, uvlm.train.cls, uvlm.train.report
print(load_params(Path(sys.argv[1])).profile)
"""


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "DVC_ROOT"}


@pytest.mark.slow
def test_everything_of_the_library_is_imported_where_dvc_and_mlflow_are_refused(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", REFUSE, str(PARAMS)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["phantom"]


def test_where_they_can_be_imported_the_script_shows_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(PARAMS)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "dvc, mlflow, hydra can be imported here" in done.stderr


def needed(name: str, extras: frozenset[str], found: dict[str, str]) -> None:
    """Collect the installed distributions that a requirement needs, by its own metadata."""
    from packaging.requirements import Requirement

    try:
        has = distribution(name)
    except PackageNotFoundError:  # of another system
        return
    for text in has.requires or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": e}) for e in extras or {""}):
            key = re.sub(r"[-_.]+", "-", requirement.name).lower()
            if key not in found:
                found[key] = requirement.name
                needed(requirement.name, frozenset(requirement.extras), found)


def link_packages(target: Path) -> None:
    """Link every top-level file and folder of the library's dependencies into a venv."""
    found: dict[str, str] = {}
    needed("uvlm", frozenset(), found)
    for name in found.values():
        try:
            has = distribution(name)
        except PackageNotFoundError:
            continue
        for file in has.files or []:
            top = file.parts[0]
            link, original = target / top, Path(str(has.locate_file(top)))
            if top not in ("..", "__pycache__") and original.exists() and not link.exists():
                link.symlink_to(original)
    (target / "uvlm").symlink_to(PARAMS.parent / "uvlm")


@pytest.mark.slow
def test_a_venv_with_its_declared_packages_alone_trains_three_stages_and_predicts(
    tmp_path: Path,
) -> None:
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv/bin/python"
    base = {"base": str(tmp_path / "venv"), "platbase": str(tmp_path / "venv")}
    link_packages(Path(sysconfig.get_path("purelib", "venv", vars=base)))
    (tmp_path / "empty").mkdir()
    own = {name: v for name, v in environment().items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), str(SCRIPT), str(PARAMS)],
        cwd=tmp_path / "empty",
        env=own,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.fullmatch(r"a report of \d+ words\n", done.stdout)
    models = {path.name for path in (tmp_path / "empty/data/models").iterdir()}
    assert models == {"tokenizer", "seg", "cls", "report"}

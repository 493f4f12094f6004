"""`make setup` names an interpreter that cannot be used; `make test` begins with the longest."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import LONGEST_FIRST


@pytest.mark.parametrize(
    ("script", "fact"),
    [
        (None, "cannot be run"),
        ("echo 'pyenv: python3.12: command not found' >&2; exit 127", "cannot be run"),
        ("exit 0", "cannot be run"),
        ('[ "$1" = -c ] && echo False', "is too old"),
    ],
    ids=["not there", "shim without a version", "no Python", "old"],
)
def test_an_interpreter_that_cannot_be_used_is_named(
    script: str | None, fact: str, root: Path, tmp_path: Path
) -> None:
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        shutil.copy(root / name, tmp_path)
    python = tmp_path / "python9"
    if script is not None:
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
    made = subprocess.run(
        ["make", "setup", f"PYTHON={python}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 2
    assert made.stderr.splitlines()[0].startswith(f"{python} {fact}: set PYTHON to ")
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("name", LONGEST_FIRST)
def test_a_file_that_is_to_begin_early_has_slow_tests(name: str, root: Path) -> None:
    assert "pytest.mark.slow" in (root / "tests" / name).read_text()

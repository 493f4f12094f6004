"""A copy of the working tree with tiny parameters, and commands that run in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.profiles import write_params, yaml_text

IDENTITY = ("-c", "user.name=test", "-c", "user.email=test@example.org")


def run(project: Path, *command: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command in a project, as a person would in a shell of its own."""
    result = subprocess.run(
        command, cwd=project, env=_shell(), capture_output=True, text=True, check=False
    )
    assert result.returncode == code, result.stdout[-4000:] + result.stderr[-4000:]
    return result


def start(project: Path, log: Path, *command: str) -> None:
    """Run a command that leaves processes behind; a pipe would be read until the last is gone."""
    with log.open("wb") as out:
        subprocess.run(command, cwd=project, env=_shell(), stdout=out, stderr=out, check=True)


def _shell() -> dict[str, str]:
    environment = {name: v for name, v in os.environ.items() if not name.startswith("DVC_ROOT")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return environment


def commit_copy(root: Path, copy: Path, document: dict[Any, Any]) -> None:
    """Copy what git knows or would add, but for dvc.lock, with these parameters; commit it."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if name != "dvc.lock" and (root / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, copy / name)
    write_params(copy, document)
    # `dvc exp run -S` composes params.yaml anew, from conf/.
    profile = copy / f"conf/profile/{document['profile']}.yaml"
    profile.write_text(f"# @package _global_\n{yaml_text(document)}", encoding="utf-8")
    run(copy, "git", "init", "--quiet", "--initial-branch", "main")
    commit(copy, "tiny")


def commit(project: Path, message: str) -> None:
    """Commit everything."""
    run(project, "git", "add", "--all")
    run(project, "git", *IDENTITY, "commit", "--quiet", "--message", message)

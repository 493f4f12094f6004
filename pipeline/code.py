"""DVC stage `code`: which code each stage reaches, one small file a stage, for it to depend on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline.dvc_yaml import Declaration, read_declarations
from pipeline.paths import code
from pipeline.reach import Sources
from pipeline.stage import Stage, run_stage
from uvlm.files import write_json_atomic


def describe(stage: Stage) -> None:
    """Write what every other stage's script reaches, with digests."""
    sources = Sources(Path.cwd())
    for script, keys in params_by_script(read_declarations(Path.cwd()).values()).items():
        write_json_atomic(code(script), sources.describe(script, keys))


def params_by_script(declarations: Iterable[Declaration]) -> dict[str, set[str]]:
    """Collect the declared parameters of every script but this; a matrix stage is one script."""
    keys: dict[str, set[str]] = {}
    for declaration in declarations:
        if declaration.script != "code":
            keys.setdefault(declaration.script, set()).update(declaration.params)
    return keys


if __name__ == "__main__":
    run_stage("code", describe)

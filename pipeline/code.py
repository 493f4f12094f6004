"""DVC stage `code`: the code that each stage reaches, in one small file for it to depend on."""

from __future__ import annotations

from pathlib import Path

from pipeline.dvc_yaml import params_by_script
from pipeline.paths import code
from pipeline.reach import Checkout
from pipeline.stage import Stage, run_stage
from uvlm.files import write_json_atomic


def describe(stage: Stage) -> None:
    """Write down what the script of every other stage reaches, with digests."""
    checkout = Checkout(Path.cwd())
    for script, keys in params_by_script(Path.cwd()).items():
        write_json_atomic(code(script), checkout.describe(script, keys))


if __name__ == "__main__":
    run_stage("code", describe)

"""DVC stage `code`: every parameter checked, all parts here, and the code that each stage reaches.

That code is one small file for each stage to depend on, so all of them come after the check.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.check_params import check_params, check_setup
from pipeline.dvc_yaml import params_by_script
from pipeline.paths import code
from pipeline.reach import Checkout
from pipeline.seen_code import recall, remember
from pipeline.stage import Stage, run_stage
from uvlm import environment
from uvlm.files import write_json_atomic


def describe(stage: Stage) -> None:
    """Check parameters and setup; write down what every other script reaches, with digests."""
    root = Path.cwd()
    # A profile that is not in git is only in the project, not in DVC's temporary copy of it.
    check_params(stage.params, environment.project_root())
    check_setup(stage.params)
    found = recall(root) or _look(root)
    for script, document in found.items():
        write_json_atomic(code(script), document)


def _look(root: Path) -> dict[str, Any]:
    """Take the sources apart."""
    checkout = Checkout(root)
    declared = params_by_script(root).items()
    found = {script: checkout.describe(script, keys) for script, keys in declared}
    remember(root, found)
    return found


if __name__ == "__main__":
    run_stage("code", describe)

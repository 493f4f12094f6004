"""A stage begins without what it does not use: importing torch or its compiler takes seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT_A_NETWORK = (
    *("download", "index", "audit", "preprocess", "pseudo_label", "label_maps", "tokenizer"),
    *("evaluate", "summarize"),
)


def printed(root: Path, code: str) -> str:
    """What an interpreter of its own prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_a_stage_without_a_network_begins_without_torch(root: Path) -> None:
    names = [f"pipeline.{name}" for name in WITHOUT_A_NETWORK]
    code = f"import sys; sys.modules['torch'] = None; import {', '.join(names)}; print('begun')"
    assert printed(root, code) == "begun\n"


@pytest.mark.slow
def test_networks_are_counted_without_torchs_compiler(root: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from uvlm.config import load_params\n"
        "from uvlm.model.describe import describe\n"
        "print(dict(describe(load_params(Path('params.yaml'))))['unet parameters'] > 0,"
        " 'torch._dynamo' in sys.modules)"
    )
    assert printed(root, code) == "True False\n"

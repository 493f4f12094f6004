"""A project whose profile `far` makes a few phantoms that no model of a test has seen."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pipeline.profiles import yaml_text

_FAR = {"train_patients": 5, "test_patients": 4, "prevalence": 0.4, "defects": False}


def write_far_project(folder: Path, root: Path, document: dict[Any, Any]) -> None:
    """Copy conf/ of `root` to `folder`, and add `far`: `document` with other phantoms."""
    shutil.copytree(root / "conf", folder / "conf")
    far = document | {"profile": "far"}
    far["download"]["phantom"] |= _FAR
    far["generate"] |= {"batch_size": 3}
    del far["seed"]  # of conf/config.yaml
    text = "# @package _global_\n" + yaml_text(far)
    (folder / "conf" / "profile" / "far.yaml").write_text(text, encoding="utf-8")

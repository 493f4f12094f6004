"""Compare the outputs of the data stages in dvc.lock with those in the committed dvc.lock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

DATA_STAGES = (
    "download", "index", "preprocess", "pseudo_label@anatomy", "pseudo_label@airway",
    "pseudo_label@vessel", "label_maps", "tokenizer", "audit",
)  # fmt: skip


def outputs(text: str) -> dict[str, Any]:
    """Read the hashes of every output of the data stages, by path."""
    stages = YAML(typ="safe").load(text)["stages"]
    return {out["path"]: out["md5"] for name in DATA_STAGES for out in stages[name]["outs"]}


def main() -> int:
    """List the paths that differ; return 1 if there are any."""
    shown = subprocess.run(
        ["git", "show", "HEAD:dvc.lock"], capture_output=True, text=True, check=True
    )
    current = outputs(Path("dvc.lock").read_text(encoding="utf-8"))
    committed = outputs(shown.stdout)
    different = [path for path in current if current[path] != committed.get(path)]
    for path in different:
        sys.stderr.write(f"{path}: differs from the committed hash\n")
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main())

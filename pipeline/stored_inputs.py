"""Whether the store has what a stage will read, before its first step.

A clone that pulled with DVC has every manifest and none of the files that they name. Each stage
would find that out at its first case and name the stage before it, which finds out the same.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Final

from pipeline.dvc_yaml import Declaration
from pipeline.paths import MANIFESTS, manifest
from uvlm.data.sets.raw import is_fetchable
from uvlm.errors import DataError
from uvlm.files import store_root
from uvlm.store import Row, read_manifest

# Looked at of each manifest: enough to see that a store is empty, in a millisecond.
_LOOKS: Final = 64
# What makes the files again, in the order of the graph; `-f` makes what DVC believes to be there.
_MAKERS: Final = {
    "download": "dvc repro -f -s download",
    "index": "dvc repro -f -s download",
    "encode": "dvc repro -f -s encode",
    "generate": "dvc repro -f -s generate",
}
_FROM_THE_CTS: Final = "dvc repro -f label_maps"
# The others read of the index only what it says, of the download only how many files it names.
_READ_RAW: Final[dict[str, Container[str]]] = {
    "index": ("preprocess", "pseudo_label", "label_maps"),
    "download": ("index",),
}


def check_stored(root: Path, declaration: Declaration) -> None:
    """Refuse a stage whose inputs are named by its manifests and not in the store.

    Raises:
        DataError: with one remedy for all of its inputs.
    """
    store, script = store_root(), declaration.script
    names = [Path(dep).stem for dep in declaration.deps if Path(dep).parent == MANIFESTS]
    read = [name for name in names if script in _READ_RAW.get(name, (script,))]
    counts = {name: _missing(root / manifest(name), store) for name in read}
    missing = {name: count for name, count in counts.items() if count}
    if not missing:
        return
    makers = list(dict.fromkeys(_MAKERS.get(name, _FROM_THE_CTS) for name in missing))
    if _FROM_THE_CTS in makers:  # it downloads as well
        makers = [maker for maker in makers if maker != _MAKERS["download"]]
    told = ", ".join(f"{count} files of {name}.jsonl" for name, count in missing.items())
    fact = f"has not what the stage {declaration.name} reads: {told}"
    remedy = f"`uvlm store pull` fetches it; `{' && '.join(makers)}` makes it here"
    raise DataError(store, fact, remedy)


def _missing(path: Path, store: Path) -> int:
    """Count the files of a manifest that are neither there nor fetched when needed."""
    rows = read_manifest(path) if path.is_file() else []
    if not any(_is_missing(row, store) for row in _spread(rows)):
        return 0
    return sum(_is_missing(row, store) for row in rows)


def _spread(rows: Sequence[Row]) -> Sequence[Row]:
    """Choose rows from the whole length of a manifest."""
    return rows[:: max(1, len(rows) // _LOOKS)]


def _is_missing(row: Row, store: Path) -> bool:
    return not (store / row.path).exists() and not is_fetchable(row, store)

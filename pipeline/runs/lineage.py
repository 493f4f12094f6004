"""Where a stage's result comes from: the data it read, the models it read, and what it made.

Noted when the stage ends, from its declaration and what lies there; MLflow gets it later. A data
set is a split of the index, told by the digest of its manifest; a model is a folder, told by the
sha256 of its config.json, which covers all weights.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from pipeline.dvc_yaml import Declaration
from pipeline.paths import CLASSIFIED, GENERATED, MODELS, REPORTS, manifest
from pipeline.runs.numbers import headline_of, numbers_of
from uvlm.config.data import SYNTHETIC
from uvlm.files import file_sha256

_SPLITS: Final = {
    "train_seg": ("train", "val"),
    "train_cls": ("train", "val"),
    "train_report": ("train", "val"),
    "classify": ("test",),
    "generate": ("test",),
    "evaluate": ("test",),
}
_SCORED: Final = {  # numbers, and the predictions that say whose they are
    "classify": (REPORTS / "classify.json", CLASSIFIED / "predictions.jsonl"),
    "evaluate": (REPORTS / "metrics.json", GENERATED / "predictions.jsonl"),
}
_CC: Final = "CC BY-NC-SA 4.0"
_LICENCES: Final = {"ct_rate": _CC, "abdomen_atlas": _CC}
_FREE, _YOURS = "free for any use", "that of your own data"


class DataNote(BaseModel):
    """One split that a stage read."""

    name: str
    digest: str
    split: str
    n: int
    source: str
    licence: str
    manifest: str


class ModelNote(BaseModel):
    """One model folder, where it lay when the stage ended.

    Args:
        kind: the name of the folder: seg, cls or report.
        sha256: of its config.json.
        contract: sha256 of its contract.json.
        path: absolute.
        by_artifact: whether MLflow gets a copy; of a sweep's arms DVC keeps the only ones.
    """

    kind: str
    sha256: str
    contract: str
    path: str
    by_artifact: bool = True


class Lineage(BaseModel):
    """What a stage read and made; `scores` are of `scored`, on the last of `data`."""

    data: tuple[DataNote, ...] = ()
    reads: tuple[ModelNote, ...] = ()
    makes: ModelNote | None = None
    scored: str | None = None
    scores: dict[str, float] = {}
    licence: str = ""


def lineage_of(root: Path, declaration: Declaration, profile: str, source: str) -> Lineage:
    """Note where the result of a stage that has just finished comes from.

    Args:
        root: the workspace.
        declaration: of the stage.
        profile: its name, which names the data set.
        source: `download.source`.
    """
    if declaration.name not in _SPLITS:
        return Lineage()
    reads = [note for dep in declaration.deps if (note := _model(root, Path(dep)))]
    made = [note for out in declaration.outs if (note := _model(root, Path(out)))]
    scored, scores = _scores(root, declaration.name)
    return Lineage(
        data=_data(root, declaration.name, profile, source),
        reads=tuple(reads),
        makes=made[0] if made else None,
        scored=scored,
        scores=scores,
        licence=licence_of(source),
    )


def licence_of(source: str) -> str:
    """Say under which licence a data set is, and so the weights that were trained on it."""
    return _LICENCES.get(source, _FREE if source in SYNTHETIC else _YOURS)


def _data(root: Path, stage: str, profile: str, source: str) -> tuple[DataNote, ...]:
    index = root / manifest("index")
    if not index.is_file():
        return ()
    with index.open(encoding="utf-8") as lines:
        counts = Counter(str(json.loads(line).get("split")) for line in lines)
    digest = file_sha256(index)
    return tuple(
        DataNote(
            name=f"{profile}-{split}",
            digest=digest,
            split=split,
            n=counts[split],
            source=source,
            licence=licence_of(source),
            manifest=str(manifest("index")),
        )
        for split in _SPLITS[stage]
    )


def _model(root: Path, folder: Path) -> ModelNote | None:
    config = root / folder / "config.json"
    if folder.parent != MODELS or not config.is_file():
        return None
    contract = root / folder / "contract.json"
    return ModelNote(
        kind=folder.name,
        sha256=file_sha256(config),
        contract=file_sha256(contract) if contract.is_file() else "",
        path=str((root / folder).resolve()),
    )


def _scores(root: Path, stage: str) -> tuple[str | None, dict[str, float]]:
    """Read the numbers that a stage wrote, and which model they are of."""
    metrics, predictions = (root / path for path in _SCORED.get(stage, ("", "")))
    if not metrics.is_file() or not predictions.is_file():
        return None, {}
    with predictions.open(encoding="utf-8") as lines:
        first: Mapping[str, Any] = json.loads(next(lines, "{}"))
    numbers = numbers_of(json.loads(metrics.read_text(encoding="utf-8")))
    return first.get("model"), headline_of(numbers)

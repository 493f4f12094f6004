"""The process in which one of clinical.py's packages scores: pairs.json in, scores.json out.

    python -m uvlm.evaluation.clinical_child NAME FOLDER

Signatures are those that the packages document; whatever they print goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Final

_GREEN_MODEL: Final = "StanfordAIMI/GREEN-radllama2-7b"
Texts = list[str]


def main(name: str, folder: str) -> None:
    """Score what `folder` holds."""
    pairs: list[list[str]] = json.loads(Path(folder, "pairs.json").read_text(encoding="utf-8"))
    written, true = (list(texts) for texts in zip(*pairs, strict=True))
    with redirect_stdout(sys.stderr):
        scores = [float(score) for score in SCORERS[name](written, true, folder)]
    Path(folder, "scores.json").write_text(json.dumps(scores), encoding="utf-8")


def _radgraph(written: Texts, true: Texts, folder: str) -> Sequence[Any]:
    """Take the package's partial reward: entities with their kind, and whether they are related."""
    scorer = importlib.import_module("radgraph").F1RadGraph(reward_level="partial")
    scores: Sequence[Any] = scorer(hyps=written, refs=true)[1]
    return scores


def _ratescore(written: Texts, true: Texts, folder: str) -> Sequence[Any]:
    scores: Sequence[Any] = (
        importlib.import_module("RaTEScore").RaTEScore().compute_score(written, true)
    )
    return scores


def _green(written: Texts, true: Texts, folder: str) -> Sequence[Any]:
    """Take the third of what it returns: the scores; its analysis of each report is not kept."""
    scorer = importlib.import_module("green_score").GREEN(_GREEN_MODEL, output_dir=folder)
    scores: Sequence[Any] = scorer(refs=true, hyps=written)[2]
    return scores


SCORERS: Final[dict[str, Callable[[Texts, Texts, str], Sequence[Any]]]] = {
    "radgraph": _radgraph,
    "ratescore": _ratescore,
    "green": _green,
}

if __name__ == "__main__":
    main(*sys.argv[1:])

"""Three metrics of other packages, where a user has them: RadGraph-F1, RaTEScore, GREEN.

    radgraph     F1 of the entities and relations that a network reads in both reports
    ratescore    similarity of the medical entities of both reports; knows synonyms and denials
    green        errors counted by a language model of 7 billion parameters; needs a GPU

None is a dependency, and each package brings its own weights: they have to be fetched once by
using the package, for here it runs in a process that keeps the Hugging Face hub offline. A package
that fails costs its own number and no other. Each value is the mean over reports, with its interval
over patients; a missing report scores 0.

N cases.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from uvlm.arrays import Floats
from uvlm.environment import inherited
from uvlm.evaluation.bootstrap import with_interval
from uvlm.evaluation.missing import is_missing
from uvlm.evaluation.reference import Reference

CLINICAL: Final = {"radgraph": "RadGraph-F1", "ratescore": "RaTEScore", "green": "GREEN"}
NOT_ASKED: Final = "not asked for (--clinical)"
_PACKAGES: Final = {"radgraph": "radgraph", "ratescore": "RaTEScore", "green": "green_score"}
_OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def clinical_scores(
    reference: Reference, texts: Sequence[str], *, wanted: bool = True
) -> dict[str, dict[str, Any]]:
    """Score N reports by what is installed; say of the rest why it is not computed."""
    if not wanted:
        return {name: {"not_computed": NOT_ASKED} for name in CLINICAL}
    return {name: _score(name, reference, texts) for name in CLINICAL}


def _score(name: str, reference: Reference, texts: Sequence[str]) -> dict[str, Any]:
    if find_spec(_PACKAGES[name]) is None:
        return {"not_computed": "not installed"}
    present = np.flatnonzero(~is_missing(texts)).tolist()
    pairs = [[texts[number], reference.texts[number]] for number in present]
    each = np.zeros(len(texts))
    if pairs:
        found = _by_package(name, pairs)
        if isinstance(found, str):
            return {"not_computed": f"its package failed: {found}"}
        each[present] = found
    return with_interval("mean", reference.resamples.means(each))


def _by_package(name: str, pairs: Sequence[Sequence[str]]) -> Floats | str:
    """Score pairs of a written and a true report in a process of its own, or say what failed."""
    with TemporaryDirectory() as folder:
        given, scored = Path(folder, "pairs.json"), Path(folder, "scores.json")
        given.write_text(json.dumps(pairs), encoding="utf-8")
        command = [sys.executable, "-m", "uvlm.evaluation.clinical_child", name, folder]
        environment = (
            inherited() | _OFFLINE | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        )
        child = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        if child.returncode or not scored.is_file():
            return (child.stderr.strip().splitlines() or [f"exit {child.returncode}"])[-1][:160]
        each = np.asarray(json.loads(scored.read_text(encoding="utf-8")), dtype=np.float64)
    if each.shape != (len(pairs),) or not np.isfinite(each).all():
        return f"it gave no number for every one of {len(pairs)} reports"
    return each

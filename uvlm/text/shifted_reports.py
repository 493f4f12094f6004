"""Reports of the validation split at several shifts of the cues, as `generate` keeps them.

    shifted_reports.json beside predictions.jsonl
    {"shifts": [{"shift": -1.0, "reports": {"valid_1_a_1": "Findings: ...", ...}}, ...]}

The stage `generate` writes the file if `generate.cue_shifts` names shifts; `evaluate` makes a curve
of it (uvlm/evaluation/operating_points.py). The test split has no part in it: whoever chooses a
shift by the curve has not seen the test.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from uvlm.errors import DataError
from uvlm.files import write_json_atomic

_NAME: Final = "shifted_reports.json"
Shifted = Mapping[float, Mapping[str, str]]  # by shift: the report of each case


def write_shifted(predictions: Path, found: Shifted) -> None:
    """Write the reports of every shift beside `predictions`."""
    shifts = [{"shift": shift, "reports": dict(reports)} for shift, reports in found.items()]
    write_json_atomic(predictions.with_name(_NAME), {"shifts": shifts})


def read_shifted(predictions: Path) -> dict[float, dict[str, str]]:
    """Read what was written beside `predictions`, by shift in order; nothing if there is no file.

    Raises:
        DataError: the file is damaged.
    """
    path = predictions.with_name(_NAME)
    if not path.exists():
        return {}
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = {float(each["shift"]): dict(each["reports"]) for each in document["shifts"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        fact = f"not readable as reports by shift ({type(error).__name__}: {error})"
        raise DataError(path, fact, "run `dvc repro generate`") from None
    return dict(sorted(found.items()))

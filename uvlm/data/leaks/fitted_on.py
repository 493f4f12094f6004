"""Record what was fitted on which cases, in a small file beside a tokenizer or a model.

    fitted_on.json    {"thresholds": {"val": ["train_1_a_1", ...]}}

Ids are those of cases or of scans. The leak audit checks them against the index, so a tokenizer or
a threshold that has seen the test split is found wherever it came from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from uvlm.data.cases import SPLITS, Case, Split, read_index
from uvlm.data.leaks.search import Use, find_leaks
from uvlm.errors import DataError
from uvlm.files import write_text_atomic

FITTED_ON: Final = "fitted_on.json"
Fits = Mapping[str, Mapping[Split, Iterable[str]]]  # objective -> side -> ids


def fits_text(fits: Fits) -> str:
    """Return the content of fitted_on.json."""
    document = {o: {split: sorted(ids) for split, ids in by.items()} for o, by in fits.items()}
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def write_fits(folder: Path, fits: Fits) -> None:
    """Write fitted_on.json into a folder."""
    write_text_atomic(folder / FITTED_ON, fits_text(fits))


def read_fits(folder: Path, cases: Iterable[Case]) -> list[Use]:
    """Read fitted_on.json of a folder as uses of the index's cases.

    Raises:
        DataError: there is no such record, or it names cases that the index lacks.
    """
    path, again = folder / FITTED_ON, f"make {folder} again with `dvc repro -f`"
    by_id: dict[str, list[Case]] = {}
    for case in cases:
        for name in {case.case_id, case.scan_id}:
            by_id.setdefault(name, []).append(case)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        fitted = [(o, s, name) for o, sides in document.items() for s in sides for name in sides[s]]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(path, f"no record of what it was fitted on ({error})", again) from None
    if unknown := [n for _, split, n in fitted if n not in by_id or split not in SPLITS]:
        fact = f"was fitted on {len(unknown)} cases that the index lacks, {unknown[0]} the first"
        raise DataError(path, fact, again)
    return [Use(objective, split, c) for objective, split, name in fitted for c in by_id[name]]


def check_fits(index: Path, folders: Iterable[Path]) -> None:
    """Fail if anything in these folders was fitted on cases of the test split."""
    cases = read_index(index)
    uses = [Use("scores", case.split, case) for case in cases if case.split == "test"]
    for folder in folders:
        uses += read_fits(folder, cases)
    find_leaks(uses).check("what was fitted")

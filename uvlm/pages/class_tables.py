"""Numbers of each class as tables: abnormalities.csv and structures.csv.

DVC's plots are drawn from them, and people open them.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from uvlm.files import write_text_atomic


def write_tables(per_class: Path, folder: Path) -> None:
    """Write abnormalities.csv and structures.csv, a row per class, for DVC's plots and for people.

    An interval has two columns; what was not measured is an empty cell.
    """
    for name, rows in json.loads(per_class.read_text(encoding="utf-8")).items():
        flat = [_flat(row) for row in rows]
        columns = list(dict.fromkeys(column for row in flat for column in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns or ["name"], restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
        write_text_atomic(folder / f"{name}.csv", text.getvalue())


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Split intervals, and join what is a list of words."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name.endswith("_ci") and value:
            flat[f"{name}_low"], flat[f"{name}_high"] = value
        elif not name.endswith("_ci"):
            flat[name] = "; ".join(value) if isinstance(value, list) else value
    return flat

"""What `uvlm table` does, in the order that it is seen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from pipeline.profiles import default_profile
from pipeline.tables.added import add_row
from pipeline.tables.document import table_document
from pipeline.tables.pages import plain_lines, write_table

OUT: Final = Path("reports") / "tables"


def make_table(
    root: Path, table: int, profile: str | None, added: Sequence[str], as_json: bool
) -> Iterator[str]:
    """Yield the table's lines, or its document as JSON, and write its pages.

    Args:
        root: the project.
        table: 1 to 5.
        profile: whose records are shown; None is that of conf/config.yaml.
        added: rows of the reader's own, each NAME=FILE.
        as_json: yield one line of JSON.
    """
    document = table_document(root, table, profile or default_profile(root))
    for row in added:
        add_row(root, document, row)
    paths = write_table(document, root / OUT)
    if as_json:
        yield json.dumps(document, ensure_ascii=False, allow_nan=False)
        return
    yield from plain_lines(document)
    yield f"written: {', '.join(str(path.relative_to(root)) for path in paths[:2])}"

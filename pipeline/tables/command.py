"""What `uvlm table` does, in the order that it is seen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from pipeline.profiles import default_profile
from pipeline.tables.added import add_row
from pipeline.tables.document import TITLES, group_document, table_document
from pipeline.tables.pages import plain_lines, write_table
from pipeline.tables.replication import replication_document
from pipeline.tables.replication_page import summary_lines, write_replication
from uvlm.errors import ConfigError

OUT: Final = Path("reports") / "tables"
REPLICATION: Final = "replication"


def make_table(
    root: Path, name: str, profile: str | None, added: Sequence[str], as_json: bool
) -> Iterator[str]:
    """Yield the table's lines, or its document as JSON, and write its pages.

    Args:
        root: the project.
        name: 1 to 5, a group of arms, a list of conf/sweep/ with records, or replication.
        profile: whose records are shown; None is that of conf/config.yaml, or the replication's.
        added: rows of the reader's own, each NAME=FILE.
        as_json: yield one line of JSON.
    """
    if name == REPLICATION:
        document, lines, paths = _replication(root, profile, added)
    else:
        document = _document(root, name, profile or default_profile(root))
        for row in added:
            add_row(root, document, row)
        lines, paths = plain_lines(document), write_table(document, root / OUT)[:2]
    if as_json:
        yield json.dumps(document, ensure_ascii=False, allow_nan=False)
        return
    yield from lines
    yield f"written: {', '.join(str(path.relative_to(root)) for path in paths)}"


def _document(root: Path, name: str, profile: str) -> dict[str, Any]:
    number = name.removeprefix("table")
    if number in map(str, TITLES):
        return table_document(root, int(number), profile)
    return group_document(root, name, profile)


def _replication(
    root: Path, profile: str | None, added: Sequence[str]
) -> tuple[dict[str, Any], list[str], list[Path]]:
    if added:
        fact = "rows of your own go into Table 2"
        raise ConfigError(REPLICATION, fact, "use `uvlm table 2 --add ...`")
    document = replication_document(root, profile)
    return document, summary_lines(document), write_replication(document, root)

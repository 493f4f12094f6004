"""Which line ends the scored texts have, because the headline BLEU depends on them.

The protocol `official` deletes LF, which glues the words on both sides together, and leaves CR,
which parts them. So the same report has one score as written on Linux and another as written on
Windows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

_NAMES: Final = {"\n": "LF", "\r\n": "CRLF", "\r": "CR"}
_BREAK: Final = re.compile(r"\r\n|\n|\r")


def count_line_breaks(texts_by_name: Mapping[str, Sequence[str]]) -> dict[str, dict[str, int]]:
    """Count the texts with each kind of line end, by the name of their set; none, no entry."""
    counts = {
        name: Counter(_NAMES[end] for text in texts for end in {*_BREAK.findall(text)})
        for name, texts in texts_by_name.items()
    }
    return {name: dict(sorted(found.items())) for name, found in counts.items() if found}


def line_breaks_text(counts: Mapping[str, Mapping[str, int]], total: int) -> str:
    """Say what was counted, and what it means for the scores."""
    sets = "; ".join(
        f"{', '.join(f'{end} in {count:,}' for end, count in found.items())} of {total:,} {name}"
        for name, found in counts.items()
    )
    return (
        f"LINE BREAKS: {sets}.\n`official` deletes LF, which glues two words into one, and leaves "
        "CR, which parts them:\nthe same texts with other line ends, or with none, have another "
        "BLEU and ROUGE-L"
    )

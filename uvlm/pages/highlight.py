"""Reports in colour: one colour per abnormality, the same on every page; normal text stays black.

A phrase that names an abnormality without claiming it stays black too, on a dotted line.

Generated text is untrusted: whatever becomes HTML is escaped by `Markup.format`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from markupsafe import Markup

from uvlm.text.abnormalities import ABDOMEN_LESIONS, ABNORMALITIES
from uvlm.text.claims import Span

# Dark enough to read on white (contrast of at least 4.5) and easy to tell apart.
_COLOURS: Final = (
    "#4c5461", "#bd4e05", "#e50606", "#0606e5", "#c72365", "#956a04",
    "#178217", "#9623c7", "#036d63", "#c72396", "#054ebd", "#5f3811",
    "#416baa", "#3d511f", "#821722", "#571782", "#6f2a5a", "#052abd",
)  # fmt: skip
_COLOUR_BY_NAME: Final = dict(zip(ABNORMALITIES, _COLOURS, strict=True)) | dict(
    zip(ABDOMEN_LESIONS, _COLOURS[1:4], strict=True)
)
_OTHER: Final = "#374151"


class Piece(NamedTuple):
    """A stretch of text about one abnormality, or about none."""

    text: str
    abnormality: str | None
    is_claimed: bool = True


def colour_of(abnormality: str) -> str:
    """Return the hex colour of an abnormality, the same on every page."""
    return _COLOUR_BY_NAME.get(abnormality, _OTHER)


def cut_at_spans(text: str, spans: Sequence[Span], named: Sequence[Span] = ()) -> Iterator[Piece]:
    """Cut a text at its spans; the pieces join to the text. Of two that meet, the first wins.

    Args:
        text: the report.
        spans: phrases that claim an abnormality.
        named: phrases that name one without claiming it; where they meet a claim, it wins.
    """
    done = 0
    free = [
        (start, end, abnormality, False)
        for start, end, abnormality in named
        if not any(a < end and start < b for a, b, _ in spans)
    ]
    for start, end, abnormality, is_claimed in sorted([*((*s, True) for s in spans), *free]):
        start = max(start, done)
        if start >= end:
            continue
        if start > done:
            yield Piece(text[done:start], None)
        yield Piece(text[start:end], abnormality, is_claimed)
        done = end
    if done < len(text):
        yield Piece(text[done:], None)


def highlight(pieces: Iterable[Piece], doubtful: Collection[str] = ()) -> Markup:
    """Write a report as HTML, its abnormal phrases coloured and the `doubtful` ones underlined."""
    return Markup("").join(_html(piece, doubtful) for piece in pieces)


def _html(piece: Piece, doubtful: Collection[str]) -> Markup:
    if piece.abnormality is None:
        return Markup("{}").format(piece.text)
    if not piece.is_claimed:
        title = f"{piece.abnormality}: named, not claimed"
        return Markup('<span class="named" title="{}">{}</span>').format(title, piece.text)
    return Markup('<mark class="{}" style="--hue:{}" title="{}">{}</mark>').format(
        "abnormal doubtful" if piece.abnormality in doubtful else "abnormal",
        colour_of(piece.abnormality),
        piece.abnormality,
        piece.text,
    )

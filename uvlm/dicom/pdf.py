"""The draft as a PDF: text, remarks, volumes and where it comes from; no name of a patient.

Every page says at its top that nobody reviewed it. The same draft gives the same bytes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from uvlm.dicom.identity import NOT_REVIEWED, plain
from uvlm.dicom.key_planes import without_glyph_warnings
from uvlm.dicom.segments import Segment
from uvlm.text.draft import Draft, Sentence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_A4_INCHES: Final = (8.27, 11.69)
_LINES: Final = 58  # a page
_TOP, _LINE_HEIGHT = 0.935, 0.0148  # of a page
_WIDTH: Final = 92  # characters of a line
_METADATA: Final = {"Title": f"Draft report ({NOT_REVIEWED})", "CreationDate": None}
_HEADINGS: Final = {"findings": "Findings", "impression": "Impression"}


def pdf_of(draft: Draft, segments: Sequence[Segment], notes: Sequence[str]) -> bytes:
    """Write the draft as a PDF."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_pdf import PdfPages

    lines = [*_lines(draft, segments, notes)]
    pages = [lines[start : start + _LINES] for start in range(0, len(lines), _LINES)]
    buffer = BytesIO()
    # Type 42: letters stay letters, which can be searched and copied.
    settings = rc_context({"pdf.fonttype": 42})
    with without_glyph_warnings(), settings, PdfPages(buffer, metadata=_METADATA) as document:
        for number, page in enumerate(pages, start=1):
            document.savefig(_page(page, number, len(pages)))
    return buffer.getvalue()


def _page(lines: Sequence[str], number: int, count: int) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_A4_INCHES)
    style: dict[str, Any] = {"va": "top", "parse_math": False, "family": "DejaVu Sans"}
    figure.text(0.08, 0.965, NOT_REVIEWED.upper(), fontsize=11, color="#b00020", **style)
    figure.text(0.92, 0.965, f"{number} of {count}", fontsize=8, ha="right", **style)
    for place, line in enumerate(lines):
        figure.text(0.08, _TOP - _LINE_HEIGHT * place, line, fontsize=9, **style)
    for text in figure.texts:
        if hasattr(text, "set_fontfeatures"):  # since 3.11, which joins letters
            text.set_fontfeatures(("-liga", "-clig"))  # a joined "ffi" could not be searched for
    return figure


def _lines(draft: Draft, segments: Sequence[Segment], notes: Sequence[str]) -> Iterator[str]:
    remarks = dict.fromkeys(filter(None, [draft.disclaimer, *draft.notes, *notes]))
    for remark in remarks:
        yield from _wrapped(remark)
    yield ""
    if draft.withheld:
        yield from _wrapped(f"The report was withheld: {draft.withheld}")
    for part, heading in _HEADINGS.items():
        said = [one for one in draft.sentences if one.part == part]
        if said:
            yield heading
            for sentence in said:
                yield from _sentence(sentence)
            yield ""
    if segments:
        yield "Volumes of the masks"
        for segment in segments:
            yield f"    {segment.label}: {segment.volume_ml:,.2f} ml"
        yield ""
    if draft.probabilities:
        yield "Probabilities by the classifier"
        for name, probability in draft.probabilities.items():
            yield from _wrapped(f"{name}: {probability:.3f}", "    ")
        yield ""
    made = draft.provenance
    yield f"Model sha256 {made.model_sha256}"
    yield f"Contract sha256 {made.contract_sha256}"
    yield from _wrapped(", ".join(f"{name} {version}" for name, version in made.versions.items()))


def _sentence(sentence: Sentence) -> Iterator[str]:
    yield from _wrapped(sentence.text)
    for fact in sentence.contradictions:
        yield from _wrapped(f"! contradicted: {fact}", "    ")
    if sentence.unsupported_by_one_ct:
        fact = f"! no single CT can show this: {sentence.unsupported_by_one_ct}"
        yield from _wrapped(fact, "    ")


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        plain(text),
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )

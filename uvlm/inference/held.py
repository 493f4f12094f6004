"""Impressions held to their findings: what names more is written again from there.

    Findings: Pleural effusion on the right. Impressions: Signs of emphysema, pleural effusion.
                                                                   ^ the findings do not name it

The token that begins such a claim is forbidden at its place, and the decoder writes on from there.
If one claim after the other is too much, it goes back to the token before (which may be a comma),
or to the beginning of the sentence if nothing else is claimed in it. In the end the sentence is
left out. Findings are never changed.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from uvlm.inference.decoding import Begun, Written
from uvlm.text.draft import Part
from uvlm.text.report import impression_places

# Finds (start, end, abnormality, whether it is claimed) in a section.
Spans = Callable[[str, Part], Sequence[tuple[int, int, str, bool]]]
Decode = Callable[[Sequence[int]], str]
WriteOn = Callable[[list[int], list[Begun]], list[Written]]  # some rows, from what has begun
_Tried = dict[tuple[int, tuple[int, ...]], set[int]]  # what was forbidden, by row and beginning
MOST_PASSES: Final = 8
_TRIES: Final = 3  # at one place, before it is left
# Behind the end of a sentence, which the full stop of "2. Nodule" is not.
_NEXT_SENTENCE: Final = re.compile(r"(?<=[.!?;])(?<!\s\d\.)\s+(?=\S)")


class _Excess(NamedTuple):
    """Tokens at which a claim begins that the findings lack, where to go back to, where to cut."""

    claim: int
    back: int
    cut: int


def hold(
    written: Sequence[Written], spans: Spans, decode: Decode, write_on: WriteOn
) -> list[Written]:
    """Write impressions again until they name nothing that their findings lack.

    Args:
        written: reports; those in order stay as they are.
        spans: finds what a section claims.
        decode: turns tokens into text.
        write_on: writes some of the reports on.

    Returns:
        One report per row; one that was changed has `ended` "held".
    """
    rows, unread = list(written), list(range(len(written)))
    tried: _Tried = defaultdict(set)
    for _ in range(MOST_PASSES):
        each = ((n, find_excess(rows[n].ids, spans, decode)) for n in unread)
        found = {n: excess for n, excess in each if excess}
        if not found:
            return rows
        unread = list(found)
        begun = [_begun(rows[n].ids, excess, n, tried) for n, excess in found.items()]
        for (number, excess), new in zip(found.items(), write_on(unread, begun), strict=True):
            ids = rows[number].ids
            is_whole = impression_places(decode(new.ids)) == impression_places(decode(ids))
            rows[number] = Written(new.ids if is_whole else ids[: excess.cut], "held")
    for number in unread:
        if left := find_excess(rows[number].ids, spans, decode):
            rows[number] = Written(rows[number].ids[: left.cut], "held")
    return rows


def _begun(ids: list[int], excess: _Excess, number: int, tried: _Tried) -> Begun:
    """Forbid one more token where a report goes wrong, or before, if much was tried there."""
    prefix = ids[: excess.claim]
    if len(tried[number, tuple(prefix)]) >= _TRIES:
        prefix = ids[: excess.back]
    forbidden = tried[number, tuple(prefix)]
    forbidden.add(ids[len(prefix)])
    return Begun(prefix, frozenset(forbidden))


def find_excess(ids: Sequence[int], spans: Spans, decode: Decode) -> _Excess | None:
    """Find the first claim of an impression that its findings lack."""
    text = decode(ids)
    places = impression_places(text)
    if places is None:
        return None
    heading, start = places
    named = {name for *_, name, present in spans(text[:heading], "findings") if present}
    claims = sorted(s for s in spans(text[start:], "impression") if s[3])
    excess = next((begin for begin, _, name, _ in claims if name not in named), None)
    if excess is None:
        return None
    ends = [match.end() for match in _NEXT_SENTENCE.finditer(text, start, start + excess)]
    sentence = ends[-1] if ends else start
    claim, first = (_token_at(place, ids, decode) for place in (start + excess, sentence))
    is_alone = all(not sentence <= start + begin < start + excess for begin, *_ in claims)
    back = first if is_alone else claim - 1
    return _Excess(claim, back, first if ends else _token_at(heading, ids, decode))


def _token_at(place: int, ids: Sequence[int], decode: Decode) -> int:
    """Find the token that writes a character."""
    return bisect_right(range(len(ids)), place, key=lambda n: len(decode(ids[: n + 1])))

"""Where an abnormality is and how large it is, as a report says it.

    "Nodule of small size in the right upper lobe."    right / upper / small
    "Small effusions on both sides."                   right and left / nothing / small

What a report does not say is empty, and what it says of several places or sizes is all in the set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

Values = frozenset[str]
NOTHING: Final[Values] = frozenset()
VALUES: Final[dict[str, tuple[str, ...]]] = {
    "side": ("right", "left"),
    "lobe": ("upper", "middle", "lower"),
    "size": ("small", "moderate", "large"),
}
VALUE_NAMES: Final = tuple(f"{kind} {value}" for kind in VALUES for value in VALUES[kind])


class Attributes(NamedTuple):
    """What a report says of one abnormality, each a subset of VALUES."""

    side: Values = NOTHING
    lobe: Values = NOTHING
    size: Values = NOTHING

    def joined(self, other: Attributes) -> Attributes:
        """Add what another place of the report says."""
        return Attributes(*(own | new for own, new in zip(self, other, strict=True)))


AttributeReader = Callable[[str], Mapping[str, Attributes]]  # a report, by abnormality


def said(kind: str, values: Iterable[str]) -> str:
    """Say a set as one value, so that two reports agree or do not; "" for nothing.

    Sides and lobes count as a whole: "both" is right only against both. Of several sizes the
    largest counts, as it does for a radiologist.
    """
    ordered = [value for value in VALUES[kind] if value in {*values}]
    return " and ".join(ordered[-1:] if kind == "size" else ordered)

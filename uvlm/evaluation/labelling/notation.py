"""The notation of patterns/*.yaml.

    nodul*              letters may follow
    thick* ~3 pleura    up to three words between, but no comma
    mass & lung*        both, anywhere in the clause
    effusion & !spleen  the first without the second
    <artery>            a word list of the same file's `terms`

Everything else is a regular expression on lower-case text with single blanks. A pattern begins and
ends at word boundaries, and parentheses only group.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Condition:
    """What must and what must not occur in a clause."""

    wanted: tuple[re.Pattern[str], ...]
    unwanted: tuple[re.Pattern[str], ...]

    def holds(self, clause: str) -> bool:
        """Whether all of the wanted patterns and none of the unwanted occur."""
        return all(pattern.search(clause) for pattern in self.wanted) and not any(
            pattern.search(clause) for pattern in self.unwanted
        )


def parse_condition(text: str, terms: Mapping[str, str]) -> Condition:
    """Compile one line such as `effusions? & !<elsewhere>`."""
    parts = _with_terms(text, terms).split(" & ")
    return Condition(
        wanted=tuple(any_of([part]) for part in parts if not part.startswith("!")),
        unwanted=tuple(any_of([part[1:]]) for part in parts if part.startswith("!")),
    )


def any_of(patterns: Iterable[str], terms: Mapping[str, str] | None = None) -> re.Pattern[str]:
    """Compile alternatives that begin and end at word boundaries."""
    expressions = (_expression(_with_terms(pattern, terms or {})) for pattern in patterns)
    return re.compile(rf"(?<!\w)(?:{'|'.join(expressions)})(?!\w)")


def _with_terms(pattern: str, terms: Mapping[str, str]) -> str:
    """Insert the word lists; none may contain another."""
    return re.sub(r"<(\w+)>", lambda match: terms[match[1]], pattern)


def _expression(pattern: str) -> str:
    """Translate a pattern into a regular expression."""
    pattern = re.sub(r"(?<!\\)\((?!\?)", "(?:", pattern)  # capturing costs time
    pattern = re.sub(r"(?<=[\w-])\*", r"\\w*", pattern)  # a word that goes on
    return re.sub(r" ~(\d+) ", r"[:)]?(?: [^\\s,]+){0,\1} \\(?", pattern)  # words between

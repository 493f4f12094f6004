"""Claims: which abnormalities each test report names, as its scores count them.

The file is one JSON object:

{"labeller": "rules",
 "cases": [{"case_id": "valid_1_a_1", "labels": ["Emphysema"], "read": ["Emphysema"],
            "claimed": []}, ...]}

labels    abnormalities of the case by the table of labels: what counts as true
read      what the labeller reads in the reference report
claimed   what it reads in the generated report; null where there is none, which counts as
          wrong in every class
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from uvlm.errors import DataError
from uvlm.files import write_json_atomic

Span = tuple[int, int, str]  # start, end, abnormality


class Phrases(NamedTuple):
    """How a labeller's reading is marked in a text; None where the labeller does not tell.

    Args:
        claimed: finds the phrases that claim an abnormality.
        named: finds those that name one without claiming it.
    """

    claimed: Callable[[str], Sequence[Span]] | None = None
    named: Callable[[str], Sequence[Span]] | None = None


@dataclass(frozen=True)
class CaseClaims:
    """Abnormalities of one case, in the order of the labels; see the head of the module."""

    case_id: str
    labels: tuple[str, ...]
    read: tuple[str, ...]
    claimed: tuple[str, ...] | None


def write_claims(path: Path, labeller: str, claims: Iterable[CaseClaims]) -> None:
    """Write the claims of a test split and the name of the labeller that read them."""
    write_json_atomic(path, {"labeller": labeller, "cases": [vars(case) for case in claims]})


def load_claims(path: Path) -> tuple[str, dict[str, CaseClaims]]:
    """Read the labeller's name and the claims by case.

    Raises:
        DataError: the file is not there or damaged.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        cases = [_from_json(**row) for row in document["cases"]]
        return str(document["labeller"]), {case.case_id: case for case in cases}
    except (OSError, ValueError, KeyError, TypeError) as error:
        fact = f"not readable as claims ({type(error).__name__}: {error})"
        raise DataError(path, fact, "run `dvc repro evaluate`") from None


def _from_json(
    case_id: str, labels: list[str], read: list[str], claimed: list[str] | None
) -> CaseClaims:
    said = None if claimed is None else tuple(claimed)
    return CaseClaims(case_id, tuple(labels), tuple(read), said)

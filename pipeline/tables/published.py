"""What is published: Tables 1 to 5 of the paper and later systems, as published.yaml holds them.

Every number comes with its source, data set, split, average and labeller, because published F1s are
averaged in three ways and read by several labellers. Nobody here ran any of these systems.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from pipeline.profiles import read_document

CHEST: Final = "CT-RATE"
ABDOMEN: Final = "AbdomenAtlas 3.0"
FILE: Final = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class Published:
    """One system with its numbers, which are shares of one; `row` is None for later systems."""

    method: str
    row: int | None
    dataset: str
    source: str
    split: str
    average: str
    labeller: str
    values: Mapping[str, float]
    status: str = "published"

    @property
    def is_by_masks(self) -> bool:
        """Whether lesions were found in masks, not read in reports."""
        return "lesion voxels" in self.labeller

    @property
    def protocol(self) -> str:
        """How its numbers came about, in one line."""
        scored = f"{self.dataset}, split {self.split}"
        return f"{scored}, average {self.average}, labeller: {self.labeller}"


@dataclass(frozen=True)
class Setting:
    """What a row of Table 5 is, in its columns."""

    training: str
    skip_connections: bool
    frozen: bool
    visual_tokens: int
    decoder: str


def published_rows(table: int, dataset: str) -> dict[int, Published]:
    """Read the rows of one of the paper's Tables 2 to 5 on a data set, by their number."""
    rows: dict[int, Published] = {}
    for block in _document()["blocks"]:
        if (block["table"], block["dataset"]) == (table, dataset):
            rows |= {number: _row(block, number, row) for number, row in block["rows"].items()}
    return rows


def later_systems() -> list[Published]:
    """Read the systems published after the paper; all are of chest CTs."""
    return [_unnumbered(one) for one in _document()["later"]]


def constants() -> list[Published]:
    """Read what reports that claim the same of every scan reach on CT-RATE, measured here."""
    return [replace(_unnumbered(one), status="constant") for one in _document()["constants"]]


def settings() -> dict[int, Setting]:
    """Read what the rows of Table 5 are."""
    block = _document()["settings"]
    return {
        number: Setting(**dict(zip(block["columns"], row, strict=True)))
        for number, row in block["rows"].items()
    }


def inferred_columns() -> tuple[str, ...]:
    """Name the columns of Table 5 whose check marks follow from the paper's prose."""
    return tuple(_document()["settings"]["inferred"])


def architectures() -> list[dict[str, Any]]:
    """Read Table 1."""
    return list(_document()["architectures"])


def _unnumbered(one: Mapping[str, Any]) -> Published:
    return Published(
        method=one["method"],
        row=None,
        source=_document()["sources"][one["source"]],
        values=one["values"],
        **{key: one[key] for key in ("dataset", "split", "average", "labeller")},
    )


def _row(block: Mapping[str, Any], number: int, row: list[Any]) -> Published:
    method, *numbers = row
    scale = 100 if block.get("unit") == "percent" else 1
    values = zip(block["metrics"], numbers, strict=True)
    return Published(
        method=method,
        row=number,
        source=f"{_document()['sources'][block['source']]}, Table {block['table']}",
        values={name: round(value / scale, 6) for name, value in values},
        **{key: block[key] for key in ("dataset", "split", "average", "labeller")},
    )


@cache
def _document() -> dict[Any, Any]:
    return read_document(FILE)

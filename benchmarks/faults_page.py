"""reports/reader_faults.md: the counts of the campaign as tables."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

from benchmarks.readers import READERS

if TYPE_CHECKING:
    from benchmarks.reader_faults import Counts, Tally

_OUTCOMES = ("silent", "refused", "unchanged", "crash")
_HEAD = """# Damaged CTs: who notices

Made by `make reader-faults`. {num} files were damaged and read, each alone in its folder, by this
project's `read_volume`, SimpleITK {sitk} and nibabel {nib} with their defaults (Python {python}).

- **silent**: read without an error, but a voxel differs from the original, or a corner of the
  volume lies more than half a voxel away.
- **refused**: an error was raised. **unchanged**: read exactly as the original (a bit of a
  description, say). **crash**: the process died or hung; for this project also any exception that
  is not its own refusal.

| | damaged files | silent | refused | unchanged | crash |
|---|--:|--:|--:|--:|--:|
{summary}

Good files: {good} phantoms in {formats} formats, types and byte orders, in all 48 axis orders, with
paddings down to -8192: **{alarms} refused**. Wrong Hounsfield scalings: {scalings} kinds of
{bodies} phantoms each, **{refused} of {tried} refused**{missed}.

## Damage that leaves a trace

A checksum, a size, or a second copy of the fact in the same file is wrong. nibabel is only asked
about NIfTI.

"""
_SECOND = """
## Damage that leaves none

The file itself cannot tell: voxels of an uncompressed file have no checksum, and slope, intercept,
a text header and JPEG streams say things once. What is refused here is refused because the result
is no CT. Only a digest kept elsewhere helps: keep the sha256 of a file from where it came.

"""


def write_page(tally: Tally) -> str:
    """Return the page as Markdown."""
    refused, bodies = sum(tally.scalings_refused.values()), tally.scalings_tried
    names = _missed(tally)
    head = _HEAD.format(
        num=tally.num_damaged,
        sitk=version("SimpleITK"),
        nib=version("nibabel"),
        python=platform.python_version(),
        summary="\n".join(_summary(tally)),
        good=tally.good,
        formats=_num_formats(),
        alarms=len(tally.false_alarms),
        scalings=_num_scalings(),
        bodies=bodies,
        refused=refused,
        tried=_num_scalings() * bodies,
        missed=f" (not always: {', '.join(names)})" if names else "",
    )
    return head + _table(tally.detectable) + _SECOND + _table(tally.silent)


def _summary(tally: Tally) -> list[str]:
    rows = []
    for reader in READERS:
        counts = [tally.total(reader, outcome) for outcome in _OUTCOMES]
        cells = " | ".join(str(count) for count in counts)
        rows.append(f"| {reader} | {sum(counts)} | {cells} |")
    return rows


def _table(rows: Mapping[str, Counts]) -> str:
    """Write silent, refused, unchanged and crash of each reader, a row for every kind."""
    heads = " | ".join(f"{reader}: silent | refused | unchanged | crash" for reader in READERS)
    lines = [f"| damage | files | {heads} |", f"|---|--:{'|--:' * 4 * len(READERS)}|"]
    for kind, counts in rows.items():
        cells = [str(sum(counts["uvlm"].values()))]
        for reader in READERS:
            if sum(counts[reader].values()):
                cells += [str(counts[reader][outcome]) for outcome in _OUTCOMES]
            else:
                cells += ["—"] * len(_OUTCOMES)
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _missed(tally: Tally) -> list[str]:
    from benchmarks.wrong_scalings import WRONG

    return [name for name in WRONG if tally.scalings_refused.get(name, 0) < tally.scalings_tried]


def _num_scalings() -> int:
    from benchmarks.wrong_scalings import WRONG

    return len(WRONG)


def _num_formats() -> int:
    from benchmarks.good_files import WRITERS

    return len(WRITERS)

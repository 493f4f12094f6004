"""What a download of CT-RATE will bring, from its tables and the sizes of a few hundred files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import prod
from pathlib import Path

from uvlm.config import Grid
from uvlm.data.sets.ct_rate.layout import PARTS, VolumeId
from uvlm.data.sets.ct_rate.tables import read_metadata
from uvlm.data.sets.hub import Snapshot
from uvlm.data.sets.survey import Expected, FileKind, Survey, kind_of, spread


def survey_of(
    chest: Snapshot,
    wanted: Sequence[VolumeId],
    drawn: Collection[str],
    flags: Mapping[str, tuple[int, ...]],
    others: Mapping[str, tuple[Snapshot, Sequence[str]]],
) -> Survey:
    """Put together what the tables say.

    Args:
        chest: the commit of CT-RATE, whose tables are there.
        wanted: the chosen volumes.
        drawn: the volumes whose findings are drawn.
        flags: of each volume with a whole row of labels; one without is refused by the index.
        others: commit and paths of the masks to be fetched, by kind.
    """
    cases = [
        Expected(v.case_id, "test" if v.part == "valid" else "train", v.case_id in drawn, found)
        for v in wanted
        if (found := flags.get(v.case_id)) is not None
    ]
    kinds = {"volumes": (chest, [v.volume for v in wanted]), **others}
    files = [_kind(name, *of_kind) for name, of_kind in kinds.items()]
    return Survey(cases, files, _largest(chest.folder.parent, {v.case_id for v in wanted}))


def _kind(name: str, snapshot: Snapshot, paths: Sequence[str]) -> FileKind:
    """Ask for the sizes of some of the files."""
    prefix = f"{snapshot.folder.name}/"
    asked = spread([path.removeprefix(prefix) for path in paths])
    return kind_of(name, len(paths), snapshot.sizes(asked))


def _largest(root: Path, wanted: Collection[str]) -> Grid | None:
    rows = (row for part in PARTS for row in read_metadata(root / part.metadata)[0])
    return max((row.shape for row in rows if row.case_id in wanted), key=prod, default=None)

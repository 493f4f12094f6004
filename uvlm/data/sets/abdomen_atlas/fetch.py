"""AbdomenAtlas 3.0 Mini from the hub: archive by archive, of which only wanted members are kept.

An archive is fetched whole and verified, its wanted members are unpacked, and it is removed: at any
time one archive (some 14 GB) lies beside what is kept. `<archive>.members.json` says what has come
out of it, so a second run fetches no archive again.
"""

from __future__ import annotations

import json
import tarfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from uvlm import store
from uvlm.config import AbdomenAtlasConfig
from uvlm.data.label_scheme import fine_classes
from uvlm.data.sets.abdomen_atlas.layout import (
    PREFIX,
    REPO,
    TABLE,
    TEST_IDS,
    TRAIN_IDS,
    Kind,
    archive,
    image,
    mask,
    member,
)
from uvlm.data.sets.abdomen_atlas.tables import read_atlas, read_ids
from uvlm.data.sets.hub import Hub, Snapshot
from uvlm.data.sets.selection import Selection, choose, excluded_by_user
from uvlm.data.sets.source import hub_row, row_of, selection_row, snapshot_of
from uvlm.errors import DataError
from uvlm.files import copy_stream, filling_file, write_json_atomic
from uvlm.store import CaseProgress, Row

_CHUNK: Final = 1 << 20
_LARGEST_MEMBER: Final = 4 << 30


@dataclass(frozen=True)
class AbdomenAtlas:
    """The abdominal data set."""

    config: AbdomenAtlasConfig
    hub: Hub

    def fetch(self, manifest: Path, progress: CaseProgress | None = None) -> None:
        """Fetch tables, CTs and masks; see `Source`."""
        atlas = snapshot_of(self.hub, REPO, self.config.revision, PREFIX)
        tables = atlas.fetch((TABLE, TRAIN_IDS, TEST_IDS), "AbdomenAtlas tables", progress)
        rows = [hub_row(atlas, file) for file in tables.values()]
        wanted, selection = self._select(atlas.folder)
        for kind in get_args(Kind):
            if kind == "images" or self.config.masks:
                rows += _unpack_all(atlas, kind, wanted, progress)
        store.write_manifest(manifest, [*rows, selection_row(selection)])

    def _select(self, folder: Path) -> tuple[list[str], Selection]:
        """Choose CTs of the official parts in the order of their ids: few archives hold them."""
        good, _ = read_atlas(folder / TABLE, self.config.report)
        names = {row.case_id: [row.case_id, image(row.case_id)] for row in good}
        excluded = excluded_by_user(self.config, names)
        chosen: set[str] = set()
        for ids, choice, part in (
            (TRAIN_IDS, self.config.train, "train"),
            (TEST_IDS, self.config.test, "test"),
        ):
            there = sorted(set(read_ids(folder / ids)) & names.keys())
            chosen |= choose(there, choice, f"download.abdomen_atlas.{part}")
        wanted = sorted(chosen - excluded.keys())
        return wanted, Selection(frozenset(wanted), excluded)


def _unpack_all(
    atlas: Snapshot, kind: Kind, cases: Sequence[str], progress: CaseProgress | None
) -> list[Row]:
    """Get the wanted members of every archive that holds some."""
    cases_by_archive: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        cases_by_archive[archive(kind, case)].append(case)
    rows: list[Row] = []
    for number, (name, wanted) in enumerate(sorted(cases_by_archive.items()), start=1):
        members = _members(atlas, kind, name, wanted)
        for path, sha256 in sorted(members.items()):
            target = atlas.folder / path
            rows.append(row_of(atlas, f"{PREFIX}/{path}", target, sha256))
        if progress is not None:
            progress(f"AbdomenAtlas {kind}, archives", number, len(cases_by_archive))
    return rows


def _members(atlas: Snapshot, kind: Kind, name: str, cases: Sequence[str]) -> dict[str, str]:
    """Give the sha256 of every wanted member of an archive by path, unpacking what is missing."""
    record = atlas.folder / f"{name}.members.json"
    known: dict[str, str] = json.loads(record.read_text()) if record.exists() else {}
    if not set(cases) <= _cases_of(atlas, known):
        atlas.fetch([name], f"AbdomenAtlas {kind}")
        known |= _unpack(atlas.folder / name, kind, frozenset(cases), atlas.folder)
        lacking = sorted(set(cases) - _cases_of(atlas, known))
        if lacking:
            fact = f"holds no {kind} of {len(lacking)} wanted CTs, among them {lacking[0]}"
            raise DataError(name, fact, "name them in download.abdomen_atlas.exclude")
        write_json_atomic(record, dict(sorted(known.items())))
        (atlas.folder / name).unlink()
    return {path: sha256 for path, sha256 in known.items() if _case_of(path) in set(cases)}


def _unpack(path: Path, kind: Kind, cases: frozenset[str], folder: Path) -> dict[str, str]:
    """Unpack regular files with the names of the layout; everything else in the archive is left."""
    structures = frozenset(fine_classes("abdomen").names) | {"ct"}
    digests: dict[str, str] = {}
    try:
        with tarfile.open(path, "r|gz") as tar:
            for entry in tar:
                name = member(kind, entry.name) if entry.isreg() else None
                if name is None or name[0] not in cases or name[1] not in structures:
                    continue
                if entry.size > _LARGEST_MEMBER:
                    raise DataError(path, f"{entry.name} has {entry.size} bytes", "exclude it")
                target = image(name[0]) if kind == "images" else mask(*name)
                source = tar.extractfile(entry)
                assert source is not None  # it is a regular file
                with filling_file(folder / target, durable=False) as file:
                    digests[target] = copy_stream(source, file)
    except (tarfile.TarError, EOFError, OSError) as error:
        fact = f"is no readable archive ({error})"
        raise DataError(path, fact, "remove it and run again") from None
    return digests


def _cases_of(atlas: Snapshot, members: dict[str, str]) -> set[str]:
    """List the CTs of which every unpacked file is still there."""
    gone = {_case_of(path) for path in members if not (atlas.folder / path).exists()}
    return {_case_of(path) for path in members} - gone


def _case_of(path: str) -> str:
    return path.split("/")[1]

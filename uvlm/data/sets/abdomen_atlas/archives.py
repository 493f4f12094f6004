"""AbdomenAtlas' archives, fetched one at a time; only the wanted members are kept.

An archive is fetched whole and verified, its wanted members are unpacked, and it is removed: there
is never more than one archive (some 14 GB) beside the data. `<archive>.members.json` lists what has
been unpacked, so a second run does not fetch the archive again.
"""

from __future__ import annotations

import json
import tarfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from uvlm.data.label_scheme import fine_classes
from uvlm.data.sets.abdomen_atlas.layout import Kind, archive, image, mask, member
from uvlm.data.sets.hub import Snapshot
from uvlm.errors import DataError
from uvlm.files import copy_stream, filling_file, write_json_atomic
from uvlm.store import CaseProgress, Row

_LARGEST_MEMBER: Final = 4 << 30


def unpack_all(
    atlas: Snapshot, kind: Kind, cases: Sequence[str], progress: CaseProgress | None
) -> list[Row]:
    """Fetch every archive that holds wanted members, and unpack those."""
    cases_by_archive: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        cases_by_archive[archive(kind, case)].append(case)
    rows: list[Row] = []
    for number, (name, wanted) in enumerate(sorted(cases_by_archive.items()), start=1):
        members = _members(atlas, kind, name, frozenset(wanted))
        rows += [atlas.row(path, sha256) for path, sha256 in sorted(members.items())]
        if progress is not None:
            progress(f"AbdomenAtlas {kind}, archives", number, len(cases_by_archive))
    return rows


def _members(atlas: Snapshot, kind: Kind, name: str, cases: frozenset[str]) -> dict[str, str]:
    """Map the path of every wanted member to its sha256, unpacking what is missing."""
    record = atlas.folder / f"{name}.members.json"
    known: dict[str, str] = json.loads(record.read_text()) if record.exists() else {}
    if not cases <= _cases_of(atlas, known):
        atlas.fetch([name], f"AbdomenAtlas {kind}")
        known |= _unpack(atlas.folder / name, kind, cases, atlas.folder)
        lacking = sorted(cases - _cases_of(atlas, known))
        if lacking:
            fact = f"holds no {kind} of {len(lacking)} wanted CTs, among them {lacking[0]}"
            raise DataError(name, fact, "name them in download.abdomen_atlas.exclude")
        # Record first, remove second: after a kill in between, the archive is only fetched again.
        write_json_atomic(record, dict(sorted(known.items())))
        (atlas.folder / name).unlink()
    return {path: sha256 for path, sha256 in known.items() if _case_of(path) in cases}


def _unpack(path: Path, kind: Kind, cases: frozenset[str], folder: Path) -> dict[str, str]:
    """Unpack regular files that are named as in the layout; skip everything else."""
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
                # The path is made from the parsed name, so no member can escape the folder.
                target = image(name[0]) if kind == "images" else mask(*name)
                source = tar.extractfile(entry)
                assert source is not None  # a regular file
                with filling_file(folder / target, durable=False) as file:
                    digests[target] = copy_stream(source, file)
    except (tarfile.TarError, EOFError, OSError) as error:
        fact = f"is not a readable archive ({error})"
        raise DataError(path, fact, "remove it and run the command again") from None
    return digests


def _cases_of(atlas: Snapshot, members: dict[str, str]) -> set[str]:
    """List the CTs whose unpacked files are all still there."""
    gone = {_case_of(path) for path in members if not (atlas.folder / path).exists()}
    return {_case_of(path) for path in members} - gone


def _case_of(path: str) -> str:
    return path.split("/")[1]

"""Raw volumes: where one is, how it is hashed, and fetching it for as long as it is needed.

With `keep_raw` a download leaves volumes on the hub. Whoever needs one takes a slot of the store,
fetches the volume into it by name, verified as by the download, and empties it:

    <store>/raw/.passing/<number>/          at most one volume, whole or in part
    <store>/raw/.passing/<number>.lock      held by the process that uses the slot
    <store>/raw/.../.<volume>.grid.json     its grid, for those who need nothing else of it

A killed process loses its lock, and the next process that takes any slot empties those of the dead:
there are never more volumes than processes at work.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Final

import numpy as np

from uvlm.data.cases import Case
from uvlm.data.ct.formats import nifti
from uvlm.data.ct.io import read_grid
from uvlm.data.ct.volume import Affine
from uvlm.data.sets.hub import Hub, HubFile, Repo, Snapshot
from uvlm.data.sets.hub.listing import read_listing
from uvlm.errors import ReadError
from uvlm.files import write_json_atomic
from uvlm.store import Row, array_sha256
from uvlm.store.upkeep import digest_of as digest_of_bytes

_HUB: Final = re.compile(r"hub:(?P<repo>[^@]+)@(?P<commit>[0-9a-f]{40})")
_VALUES: Final = ("phantom:",)  # sources whose digests are those of the values, not of the bytes


@contextmanager
def at_hand(case: Case, root: Path) -> Iterator[Path]:
    """Yield a case's volume, fetched for the length of the block if the store does not keep it.

    Args:
        case: names the volume, its source and its digest.
        root: the store.

    Raises:
        SetupError: the hub cannot be reached.
        DataError: what it sends is not what its listing says.
    """
    kept = root / case.volume
    if not is_fetched(case.volume, case.source, root):
        yield kept
        return
    with _slot(root / "raw" / ".passing") as slot:
        passing = slot / kept.name
        snapshot, file = _on_the_hub(case.volume, case.source, root)
        assert file is not None
        snapshot.fetch_one(file, passing)
        try:
            _note_grid(kept, passing)
            yield passing
        except ReadError as error:  # tell of the volume as if it were kept
            error.subject = error.subject.replace(str(passing), str(kept))
            raise
        finally:
            passing.unlink(missing_ok=True)


def grid_of(case: Case, root: Path) -> tuple[tuple[int, ...], Affine]:
    """Read shape (z, y, x) and affine of a case's volume, without fetching it a second time."""
    kept = root / case.volume
    if not is_fetched(case.volume, case.source, root):
        return read_grid(kept)
    if (noted := noted_grid(kept)) is None:
        with at_hand(case, root) as path:
            return read_grid(path)
    return noted


def noted_grid(kept: Path) -> tuple[tuple[int, ...], Affine] | None:
    """Read what the first fetch noted of a volume that is not kept; None before it."""
    if not _grid_path(kept).exists():
        return None
    noted = json.loads(_grid_path(kept).read_text(encoding="utf-8"))
    return tuple(noted["shape"]), np.array(noted["affine"], float)


def bytes_on_hub(row: Row, root: Path) -> int:
    """Look up the size of a file that is not kept in the listing; 0 if no hub has it."""
    if not is_fetchable(row, root):
        return 0
    file = _on_the_hub(row.path, row.source, root)[1]
    return file.size if file else 0


def is_fetched(path: str, source: str, root: Path) -> bool:
    """Whether a raw file is not kept but on the hub, where the listing of its download says."""
    if (root / path).exists() or _HUB.fullmatch(source) is None:
        return False
    return _on_the_hub(path, source, root)[1] is not None


def is_fetchable(row: Row, root: Path) -> bool:
    """Whether the file of a row is not kept but on the hub."""
    return is_fetched(row.path, row.source, root)


def say_what_is_fetched(stage: str, cases: Sequence[Case], root: Path, why: str = "") -> None:
    """Say which volumes a stage may need that the store does not keep."""
    names = [Path(c.volume).name for c in cases if is_fetched(c.volume, c.source, root)]
    if names:
        some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        fact = f"raw volumes not kept: {len(names)}; what is needed is fetched by name{why}"
        sys.stderr.write(f"{stage}: {fact}: {some}\n")


def digest_of(path: Path, row: Row, refused: Collection[str] = ()) -> str:
    """Hash a raw file or an array as its row does.

    Args:
        path: the file.
        row: from any manifest.
        refused: paths that a stage has refused; defects are planted in phantoms.
    """
    if not row.source.startswith(_VALUES) or not path.name.endswith(".nii.gz"):
        return digest_of_bytes(path, row)
    if row.path in refused:
        return row.sha256
    _, stored = nifti.read_nifti(path)
    # Findings are (F, z, y, x); a file has its first axis last here.
    return array_sha256(np.moveaxis(stored, -1, 0) if stored.ndim == 4 else stored)


def _on_the_hub(path: str, source: str, root: Path) -> tuple[Snapshot, HubFile | None]:
    """Find a file of the store in the listing of its commit."""
    found = _HUB.fullmatch(source)
    assert found is not None
    raw, commit, prefix, inside = path.split("/", 3)
    snapshot = Snapshot(Hub(), Repo(found["repo"], found["commit"]), root / raw / commit / prefix)
    return snapshot, _listing(snapshot.record).get(inside)


@lru_cache(maxsize=4)
def _listing(record: Path) -> dict[str, HubFile]:
    """Read a listing once per process: that of CT-RATE has a hundred thousand entries."""
    return read_listing(record)


def _note_grid(kept: Path, passing: Path) -> None:
    """Keep the grid of a volume that is fetched; a broken header is refused by who reads it."""
    try:
        shape, affine = read_grid(passing)
    except ReadError:
        return
    write_json_atomic(_grid_path(kept), {"shape": shape, "affine": affine.tolist()})


def _grid_path(kept: Path) -> Path:
    return kept.with_name(f".{kept.name}.grid.json")


@contextmanager
def _slot(folder: Path) -> Iterator[Path]:
    """Take the first slot that nobody uses, and empty those of killed processes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in count():
        if (handle := _try_lock(folder / f"{number}.lock")) is None:
            continue
        try:
            _empty_after_the_dead(folder, number)
            slot = folder / str(number)
            slot.mkdir(exist_ok=True)
            yield slot
        finally:
            os.close(handle)
        return


def _empty_after_the_dead(folder: Path, own: int) -> None:
    """Empty one's own slot and every one whose lock nobody holds."""
    for slot in folder.iterdir():
        if not slot.is_dir():
            continue
        if slot.name == str(own):
            shutil.rmtree(slot, ignore_errors=True)
        elif (handle := _try_lock(folder / f"{slot.name}.lock")) is not None:
            shutil.rmtree(slot, ignore_errors=True)
            os.close(handle)


def _try_lock(path: Path) -> int | None:
    """Lock a file for this process; None if another one has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle

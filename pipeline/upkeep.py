"""`uvlm store`: the store against the manifests of everybody who uses it."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pipeline.named import Lists, Named, lists_of, named_by
from pipeline.paths import MANIFESTS, PARAMS, QUARANTINE
from uvlm.config import load_params
from uvlm.data.sets.raw import digest_of, is_fetchable
from uvlm.errors import DataError
from uvlm.files import store_root
from uvlm.store import CaseProgress, loose_files, read_quarantine, remove, verify, workspaces
from uvlm.store.upkeep import Loose, Part, Verdict

_GB = 1e9


def move_store(way: str, *, name: str | None, others: bool, progress: CaseProgress) -> str:
    """Push or pull what the manifests of this workspace name.

    Args:
        way: push or pull.
        name: one of DVC's remotes; None takes the default one.
        others: also what other branches, tags and experiments name.
        progress: called as files are done.

    Returns:
        What was copied, in words.

    Raises:
        DataError: files that are named are on neither side; all others were copied.
    """
    from pipeline import remote as remotes

    lists = lists_of(Path.cwd()) if others else _lists_here()
    if not lists.manifests:
        raise DataError(MANIFESTS, "holds no manifest", "run `dvc pull`, or `dvc repro`")
    rows, root, move = remotes.named_rows(lists.manifests), store_root(), getattr(remotes, way)
    workspaces.register(root, Path.cwd())
    remote = remotes.open_remote(Path.cwd(), name)
    moved = move(root, rows, remote, _files_in(lists.refused), progress)
    size = f"{moved.num_bytes / _GB:.3f} GB"
    done = f"{moved.files} files {way}ed, {size}; {moved.there} were there"
    if moved.lost:
        fact = f"has not {len(moved.lost)} files that the manifests name and {root} has not either"
        some = f", such as {moved.lost[0].path} ({done})"
        remedy = "push them where they were made, or make them here: `dvc repro -f label_maps`"
        raise DataError(moved.url, fact + some, remedy)
    return f"{moved.url}: {done}"


def _lists_here() -> Lists:
    """Find the manifests and lists of refused cases as they lie in this workspace."""
    return Lists(sorted(MANIFESTS.glob("*.jsonl")), sorted(QUARANTINE.glob("*.jsonl")), 0)


def _files_in(refused: Iterable[Path]) -> frozenset[str]:
    """Name the files that a stage has refused, as it does those with planted defects."""
    return frozenset(refusal.file for some in map(read_quarantine, refused) for refusal in some)


def verify_store(share: float, progress: CaseProgress | None) -> Verdict:
    """Hash a share of what the manifests of this workspace name."""
    lists = _lists_here()
    ct_rate = load_params(PARAMS).download.ct_rate if PARAMS.is_file() else None
    is_left_on_hub, root = ct_rate is not None and ct_rate.keep_raw != "all", store_root()
    return verify(
        root,
        lists.manifests,
        partial(digest_of, refused=_files_in(lists.refused)),
        part=Part(share, datetime.now(UTC).toordinal()),
        may_be_absent=lambda row: is_left_on_hub and is_fetchable(row, root),
        progress=progress,
    )


def in_words(verdict: Verdict) -> str:
    """Say what was found intact, and what was not looked at."""
    lines = ["intact"]
    if verdict.hashed < verdict.files - verdict.absent:
        lines.append(f"{verdict.hashed} of {verdict.files} files were hashed")
    if verdict.absent:
        lines.append(f"{verdict.absent} raw volumes are not kept; who needs one fetches it")
    return "\n".join(lines)


def collect(
    *, raw: bool, delete: bool, ask: Callable[[str], bool] | None, forget: bool = False
) -> None:
    """List what nobody names, and remove it if asked to.

    Args:
        raw: raw data as well.
        delete: remove what is listed.
        ask: gets a person's consent; None needs none.
        forget: also what manifests may name that nobody can read any more.

    Raises:
        DataError: a branch or experiment names a manifest that is not in DVC's cache.
    """
    root = store_root()
    workspaces.register(root, Path.cwd())
    with workspaces.alone(root):
        users = workspaces.registered(root)
        named = named_by(users)
        loose = loose_files(root, named.paths, raw=raw)
        _show(loose, named, users)
        if not delete or not loose:
            return
        if named.unknown and not forget:
            fact = f"{named.unknown} of their manifests are not in DVC's cache: nothing is removed"
            remedy = "`dvc fetch --all-commits` may find them; --forget gives up what they name"
            raise DataError("branches and experiments", fact, remedy)
        if not any((root / path).exists() for path in named.paths):
            fact = f"holds nothing that the {len(users)} workspaces known to it name"
            remedy = "run a stage in the workspace that filled it, or remove the folder by hand"
            raise DataError(root, fact, remedy)
        if ask is None or ask(f"Remove {_size(loose)} for good?"):
            remove(root, loose)
            sys.stdout.write(f"{len(loose)} files removed\n")


def _show(loose: Sequence[Loose], named: Named, users: Sequence[Path]) -> None:
    """Print every file, the size of each folder, and who was asked."""
    by_folder: dict[str, list[Loose]] = defaultdict(list)
    for file in loose:
        by_folder[file.path.partition("/")[0]].append(file)
    lines = [file.path for file in loose]
    lines += [f"{name}: {len(some)} files, {_size(some)}" for name, some in by_folder.items()]
    lines += [f"workspace {user}" for user in users]
    if named.unknown:
        fact = "manifests of commits are not in DVC's cache"
        lines.append(f"{named.unknown} {fact}: what only they name is listed too")
    total = f", {_size(loose)}" if loose else ""
    lines.append(f"{len(loose)} files are not named by a manifest{total}")
    sys.stdout.write("\n".join(lines) + "\n")


def _size(files: Sequence[Loose]) -> str:
    return f"{sum(file.num_bytes for file in files) / _GB:.3f} GB"

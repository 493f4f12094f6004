"""`uvlm store`: the store against the manifests of everybody who uses it."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pipeline.named import Named, named_by
from pipeline.paths import MANIFESTS, PARAMS, QUARANTINE
from uvlm.config import load_params
from uvlm.data.sets.raw import digest_of, is_fetchable
from uvlm.errors import DataError
from uvlm.files import store_root
from uvlm.store import CaseProgress, loose_files, read_quarantine, remove, verify, workspaces
from uvlm.store.upkeep import Loose, Part, Verdict

_GB = 1e9


def verify_store(share: float, progress: CaseProgress | None) -> Verdict:
    """Hash a share of what the manifests of this workspace name."""
    lists = map(read_quarantine, sorted(QUARANTINE.glob("*.jsonl")))
    refused = frozenset(refusal.file for some in lists for refusal in some)
    ct_rate = load_params(PARAMS).download.ct_rate if PARAMS.is_file() else None
    is_left_on_hub, root = ct_rate is not None and ct_rate.keep_raw != "all", store_root()
    return verify(
        root,
        sorted(MANIFESTS.glob("*.jsonl")),
        partial(digest_of, refused=refused),
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


def collect(*, raw: bool, delete: bool, ask: Callable[[str], bool] | None) -> None:
    """List what nobody names, and remove it if asked to.

    Args:
        raw: raw data as well.
        delete: remove what is listed.
        ask: gets a person's consent; None needs none.
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
        lines.append(f"{named.unknown} {fact}: what only they name counts as unnamed")
    total = f", {_size(loose)}" if loose else ""
    lines.append(f"{len(loose)} files are not named by a manifest{total}")
    sys.stdout.write("\n".join(lines) + "\n")


def _size(files: Sequence[Loose]) -> str:
    return f"{sum(file.num_bytes for file in files) / _GB:.3f} GB"

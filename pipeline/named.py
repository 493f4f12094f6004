"""What the workspaces of a store still need: every array that a manifest of theirs names.

    data/manifests/*.jsonl      as they lie in the workspace, and in the temporary copies in which
                                DVC runs `dvc exp run --temp` and the queue
    dvc.lock of every commit    that a branch, tag, remote, stash or experiment points to; DVC's
                                cache has its manifests under their md5

A manifest that a commit names and the cache does not have was made elsewhere, or its cache was
collected: it is counted, and what only it names is not known here.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.paths import MANIFESTS, QUARANTINE
from uvlm import environment
from uvlm.errors import DataError
from uvlm.store import read_manifest


@dataclass
class Named:
    """Paths relative to the store, and how many manifests they come from or are unknown."""

    paths: set[str] = field(default_factory=set)
    manifests: int = 0
    unknown: int = 0

    def add(self, manifest: Path) -> None:
        """Add what a manifest names."""
        self.paths |= {row.path for row in read_manifest(manifest)}
        self.manifests += 1


@dataclass(frozen=True)
class Lists:
    """The manifests and lists of refused cases of a workspace, and how many are not at hand."""

    manifests: Sequence[Path]
    refused: Sequence[Path]
    unknown: int


def named_by(workspaces: Iterable[Path]) -> Named:
    """Read the manifests of all experiments and branches of some workspaces."""
    named = Named()
    for workspace in workspaces:
        lists = lists_of(workspace)
        for manifest in lists.manifests:
            named.add(manifest)
        named.unknown += lists.unknown
    return named


def lists_of(workspace: Path) -> Lists:
    """Find the manifests that a workspace, its branches and its experiments name."""
    folders = [workspace, *_temporary(workspace)]
    found = {part: [f for w in folders for f in _in(w / part)] for part in (MANIFESTS, QUARANTINE)}
    locks = [lock for folder in folders for lock in _locks(folder, is_copy=folder != workspace)]
    wanted = {out for lock in locks for out in _outs_of(lock, workspace)}
    cache = _cache(workspace) if wanted else workspace
    unknown = 0
    for part, md5 in sorted(wanted):
        path = cache / md5[:2] / md5[2:]
        if path.is_file():
            found[part].append(path)
        else:
            unknown += part == MANIFESTS
    return Lists(found[MANIFESTS], found[QUARANTINE], unknown)


def workspace_of(folder: Path) -> Path:
    """Name the workspace of a running stage: the project, where DVC made a temporary copy of it."""
    project = environment.project_root()
    return project if _copies(project).resolve() in folder.resolve().parents else folder


def _copies(workspace: Path) -> Path:
    return workspace / ".dvc" / "tmp" / "exps"


def _temporary(workspace: Path) -> list[Path]:
    """List the copies in which DVC runs experiments; their outputs are in no commit yet."""
    inside = (_copies(workspace).glob(depth) for depth in ("*/dvc.yaml", "*/*/dvc.yaml"))
    return sorted(file.parent for files in inside for file in files)


def _in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


def _locks(workspace: Path, *, is_copy: bool) -> Iterator[str]:
    """Read dvc.lock as it lies there and, but for a copy, in every commit that is pointed to."""
    if (here := workspace / "dvc.lock").is_file():
        yield here.read_text(encoding="utf-8")
    if is_copy or _git(workspace, "rev-parse", "--is-inside-work-tree") is None:
        return
    refs = _git(workspace, "for-each-ref", "--format=%(objectname)") or ""
    prefix = (_git(workspace, "rev-parse", "--show-prefix") or "").strip()
    commits = sorted({"HEAD", *refs.split()})
    asked = "".join(f"{commit}:{prefix}dvc.lock\n" for commit in commits)
    found = _git(workspace, "cat-file", "--batch-check", stdin=asked) or ""
    blobs = {words[0] for line in found.splitlines() if (words := line.split())[1:2] == ["blob"]}
    for blob in sorted(blobs):
        yield _git(workspace, "cat-file", "blob", blob) or ""


def _outs_of(lock: str, workspace: Path) -> Iterator[tuple[Path, str]]:
    """List folder and md5 of every manifest and list of refused cases that a dvc.lock names."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        document: Any = YAML(typ="safe").load(lock) or {}
        for stage in document.get("stages", {}).values():
            for out in stage.get("outs", []):
                path = Path(out["path"])
                if path.parent in (MANIFESTS, QUARANTINE) and path.suffix == ".jsonl":
                    yield path.parent, str(out["md5"])
    except (YAMLError, KeyError, AttributeError, TypeError) as error:
        fact = f"holds a dvc.lock that cannot be read ({type(error).__name__})"
        raise DataError(workspace, fact, "correct it: nobody knows what it needs") from None


def _cache(workspace: Path) -> Path:
    """Find the folder of DVC's cache."""
    from dvc.repo import Repo

    with Repo(str(workspace)) as repo:
        return Path(repo.cache.local.path)


def _git(workspace: Path, *arguments: str, stdin: str = "") -> str | None:
    """Ask git; None if it refuses, as outside a repository."""
    command = ["git", "-C", str(workspace), *arguments]
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None

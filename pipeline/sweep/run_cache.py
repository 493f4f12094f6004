"""What DVC's run cache already holds, asked without running or copying anything.

DVC keeps an entry for each run of a stage under a digest of its command, parameters and inputs.
From `data/code/*.json`, whose content is known without running, each entry gives the digests of the
outputs and so the way to the entries of the stages behind it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

from pipeline.dvc_yaml import Declaration, stage_params
from pipeline.paths import PARAMS, code
from pipeline.profiles import read_document
from pipeline.sweep.graph import Graph, Node
from uvlm.files import write_json_atomic

Entry = dict[str, Any]  # a stage as in dvc.lock
_IGNORED: Final = ["size", "nfiles"]  # by DVC, in its digests of entries


class RunCache:
    """DVC's cache folder.

    Args:
        root: the project.
        folder: what `dvc cache dir` names.
        files: where it keeps the outputs.
    """

    def __init__(self, root: Path, folder: Path, files: Path) -> None:
        self.root = root
        self.folder = folder
        self.files = files

    @classmethod
    def of(cls, root: Path) -> Self:
        """Find the cache of a project."""
        from dvc.repo import Repo

        with Repo(str(root)) as repo:
            return cls(root, Path(repo.cache.legacy.path), Path(repo.cache.local.path))

    def entry(self, key: str) -> Entry | None:
        """Return the entry that DVC would restore for a run, if all outputs of it are there."""
        entries = list((self.folder / "runs" / key[:2] / key).glob("[0-9a-f]*"))
        if not entries:
            return None
        newest: Entry = read_document(max(entries, key=lambda path: path.stat().st_mtime))
        return newest if all(self._holds(out["md5"]) for out in newest["outs"]) else None

    def path(self, md5: str) -> Path:
        """Name the file of an output."""
        return self.files / md5[:2] / md5[2:]

    def _holds(self, md5: str) -> bool:
        path = self.path(md5)
        if not path.is_file():
            return False
        if not md5.endswith(".dir"):
            return True
        inside = json.loads(path.read_text(encoding="utf-8"))
        return all(self.path(file["md5"]).is_file() for file in inside)


class KnownRuns:
    """Which nodes are one run for DVC, and which of these it has; by what was really made.

    Nodes with unlike keys may be one: `download` for other label maps leaves the same manifest.

    Args:
        entries: DVC's entry of every node that it would restore instead of running it, by key.
    """

    def __init__(self, graph: Graph, cache: RunCache) -> None:
        self._nodes = graph.nodes
        self._cache = cache
        self._code = _code_md5s(graph)
        self._keys: dict[str, str] = {}
        self.entries: dict[str, Entry] = {}
        for node in graph.nodes.values():  # those that a node needs come before it
            self.has(node)

    def has(self, node: Node) -> bool:
        """Tell whether DVC would restore a node."""
        if node.key not in self.entries:
            key = self.key(node)
            if key is not None and (entry := self._cache.entry(key)) is not None:
                self.entries[node.key] = entry
        return node.key in self.entries

    def key(self, node: Node) -> str | None:
        """Return DVC's key of a node's run; None while a node before it is not known."""
        if node.key not in self._keys and all(self.has(self._nodes[need]) for need in node.needs):
            befores = [self.entries[need] for need in node.needs]
            made = {out["path"]: out["md5"] for entry in befores for out in entry["outs"]}
            params = _by_dotted_key(node, node.trials[0].document)
            if (key := _key(node.declaration, params, self._code | made)) is not None:
                self._keys[node.key] = key
        return self._keys.get(node.key)


def _key(declaration: Declaration, params: Any, deps: Mapping[str, str]) -> str | None:
    """Make the key of a run as DVC does, from parameters by dotted key and the md5 of `deps`."""
    from dvc.utils import dict_sha256

    if not set(declaration.deps) <= deps.keys():
        return None
    wanted = {
        "cmd": declaration.command,
        "deps": [{"path": p, "hash": "md5", "md5": deps[p]} for p in sorted(declaration.deps)],
        "params": {str(PARAMS): params},
        "outs": sorted(declaration.outs),
    }
    return str(dict_sha256(wanted, exclude=_IGNORED))


def _by_dotted_key(node: Node, document: Any) -> dict[str, Any]:
    """Look up parameters as DVC names them: by the key that dvc.yaml declares."""
    nested = stage_params(document, node.declaration)

    def value(key: str) -> Any:
        found = nested
        for name in key.split("."):
            found = found[name]
        return found

    return {key: value(key) for key in node.declaration.params}


def _code_md5s(graph: Graph) -> dict[str, str]:
    """Digest the files that the stage `code` would write, as it writes them."""
    md5s = {}
    with TemporaryDirectory() as folder:
        for script, document in graph.code.items():
            path = Path(folder) / code(script).name
            write_json_atomic(path, document)
            md5s[str(code(script))] = hashlib.md5(path.read_bytes(), usedforsecurity=False)
    return {path: md5.hexdigest() for path, md5 in md5s.items()}

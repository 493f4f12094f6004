"""How long stages took before, here or, as records of arms say, elsewhere; and what they leave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pipeline.dvc_yaml import Declaration, stage_params
from pipeline.profiles import flatten, read_document
from pipeline.runs.records import read_records
from pipeline.sweep.graph import Graph, Node
from pipeline.sweep.run_cache import Entry, RunCache
from uvlm.arm_record import ArmRecord
from uvlm.errors import ConfigError
from uvlm.files import store_root
from uvlm.store import read_manifest

Parameters = dict[str, str]  # as text, by dotted key


@dataclass(frozen=True)
class Run:
    """One earlier run of a stage, from its beginning to its end."""

    stage: str
    profile: str
    params: Parameters
    seconds: float


class Durations:
    """Every earlier run, the newest last."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs: dict[str, list[Run]] = {}
        for run in runs:
            self.runs.setdefault(run.stage, []).append(run)

    @classmethod
    def read(cls, graph: Graph, records: Iterable[ArmRecord]) -> Self:
        """Collect the runs of this computer, and those that records tell of."""
        declarations = graph.declarations.values()
        told = [run for record in records for run in _told(record, declarations)]
        return cls([*told, *_own()])

    def of(self, node: Node) -> tuple[float | None, bool]:
        """Return how long a node took before, and whether with the same parameters.

        The seed is no parameter here. None: no run of this stage and profile is known.
        """
        trial = node.trials[0]
        same_profile = [r for r in self.runs.get(node.stage, []) if r.profile == trial.profile]
        wanted = _as_text(stage_params(trial.document, node.declaration))
        for run in reversed(same_profile):
            if run.params == wanted:
                return run.seconds, True
        return (same_profile[-1].seconds, False) if same_profile else (None, False)


def least_seconds(nodes: list[Node], seconds: Mapping[str, float], num_workers: int) -> float:
    """Return how long these nodes take at least: for all the work, and for the longest way."""
    ends: dict[str, float] = {}
    for node in nodes:  # those that a node needs come before it
        begins = max((ends.get(need, 0.0) for need in node.needs), default=0.0)
        ends[node.key] = begins + seconds[node.key]
    work = sum(seconds[node.key] for node in nodes)
    return max([work / num_workers, *ends.values()])


def bytes_by_stage(graph: Graph, entries: Mapping[str, Entry], cache: RunCache) -> dict[str, int]:
    """Measure what each stage left when it last ran: its outputs, and arrays that these name."""
    known = _locked(cache.root)
    known |= {graph.nodes[key].stage: entry for key, entry in entries.items()}
    return {stage: _bytes_of(entry, cache) for stage, entry in known.items()}


def _bytes_of(entry: Entry, cache: RunCache) -> int:
    outs = entry.get("outs", [])
    manifests = [cache.path(out["md5"]) for out in outs if out["path"].endswith(".jsonl")]
    arrays = {
        store_root() / row.path for path in manifests if path.is_file() for row in _rows(path)
    }
    stored = sum(array.stat().st_size for array in arrays if array.is_file())
    return int(stored + sum(out.get("size", 0) for out in outs))


def _rows(path: Path) -> list[Any]:
    try:
        return list(read_manifest(path))
    except Exception:  # not a manifest, such as a list of refused cases
        return []


def _locked(root: Path) -> dict[str, Entry]:
    path = root / "dvc.lock"
    return dict(read_document(path)["stages"]) if path.is_file() else {}


def _own() -> Iterator[Run]:
    for record in read_records():
        if record.status == "FINISHED" and not record.resumed and record.ended:
            params = {k: v for k, v in record.params.items() if k != "seed"}
            yield Run(record.stage, record.profile, params, record.ended - record.started)


def _told(record: ArmRecord, declarations: Iterable[Declaration]) -> Iterator[Run]:
    for declaration in declarations:
        if (seconds := record.seconds.get(declaration.name)) is not None:
            try:
                params = _as_text(stage_params(record.params, declaration))
            except ConfigError:  # a parameter that is new since then
                params = {}
            yield Run(declaration.name, record.profile, params, seconds)


def _as_text(params: Mapping[str, Any]) -> Parameters:
    return {key: str(value) for key, value in flatten(dict(params)).items() if key != "seed"}

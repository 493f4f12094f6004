"""Run the whole graph of a profile on a dozen CTs that are made here, two steps a training.

    <out>/scans       the data set as it is published, served by a hub on this computer
    <out>/project     dvc.yaml and params.yaml; what the stages write
    <out>/store       what they fetch and make
    <out>/begun.json             what has been decided and done; the same command goes on from there
    <out>/rehearsal.md, .json    seconds, peak memory and bytes a case of every stage

The networks have the profile's sizes. What has to be smaller to fit the memory of this computer
(the batch, or activations that are recomputed) is chosen by the estimate of memory and named.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.alone import alone
from pipeline.check_params import check_params
from pipeline.dvc_yaml import read_declarations
from pipeline.profiles import compose, write_params
from pipeline.rehearse.abdomens import write_abdomens
from pipeline.rehearse.begun import Begun, read_begun
from pipeline.rehearse.costs import Cost, read_cost
from pipeline.rehearse.local_hub import serve
from pipeline.rehearse.scans import annotate_few, write_chests
from pipeline.rehearse.stand_ins import StandIn, stand_ins
from pipeline.rehearse.table import write_table
from pipeline.rehearse.watch import watch
from pipeline.sizes import LADDER, merged, short_training
from uvlm.config import Params, parse_params
from uvlm.data.sets.abdomen_atlas import layout as abdomen
from uvlm.data.sets.ct_rate import layout as chest
from uvlm.environment import (
    DATA_ROOT,
    DVC_ROOT,
    HF_ENDPOINT,
    HF_HUB_OFFLINE,
    HF_TOKEN,
    KEEP_MEMORY,
    MEMORY,
    inherited,
)
from uvlm.errors import ConfigError, SetupError
from uvlm.estimates.check import compared
from uvlm.estimates.stages import Cts, estimate
from uvlm.files import write_text_atomic
from uvlm.memory import Memory, usable_memory
from uvlm.store import CaseProgress

PAPER_EDGE: Final = 512
_DEPTH: Final = 300 / 512  # slices of a CT, by its width
_STEPS: Final = 2
_VAL: Final = 0.34
_FEW_TOKENS: Final = 32  # written by an untrained decoder, where the size is not the real one
_TRAININGS: Final = ("train_seg", "train_cls", "train_report")
# In this order, until every training fits the memory.
_LIGHTER: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"batch_size": 1},
    {"batch_size": 1, "gradient_checkpointing": True},
)
# Kept memory falls into pieces: the peak of one training at the paper's size differed by 2 GB
# from run to run, more than is left where a training had to be made lighter.
_RETURNED: Final = f"memory given back at once ({KEEP_MEMORY.name}=no)"
# Folders of the data set, by the repository that they stand for, by the profile's source.
REPOS: Final[Mapping[str, Mapping[str, str]]] = {
    "ct_rate": {chest.CT_RATE_REPO: chest.CT_RATE, chest.REX_REPO: chest.REX},
    "abdomen_atlas": {abdomen.REPO: abdomen.PREFIX},
}
_ANOTHER: Final = (
    "another rehearsal runs in it",
    "wait for it or stop it, or choose another --out",
)
_BRIEF: Final = {"generate": {"max_tokens": _FEW_TOKENS}, "decoder": {"max_report_tokens": 256}}


@dataclass(frozen=True)
class Request:
    """What the command line says."""

    profile: str
    out: Path
    edge: int = PAPER_EDGE
    train: int = 9
    test: int = 3
    annotated: int = 3

    @property
    def asked(self) -> dict[str, Any]:
        """All of it but the folder."""
        return {key: value for key, value in asdict(self).items() if key != "out"}


@dataclass(frozen=True)
class Scans:
    """CTs to make: of which data set, how wide, and how many; `annotated` have drawn findings."""

    source: str
    edge: int
    train: int
    test: int
    annotated: int


def rehearse(root: Path, request: Request, progress: CaseProgress | None = None) -> Iterator[str]:
    """Make the CTs, serve them, run every stage; yields the lines to show.

    What an earlier call with the same request has done is not done again.

    Raises:
        ConfigError: there is no such profile, it reads another data set, or `out` is taken.
        SetupError: there is too little memory, or a stage ended with an error, which is above.
    """
    document = compose(root, request.profile)
    source = document["download"]["source"]
    if source not in REPOS:
        fact = f"reads {source}, which no hub serves"
        raise ConfigError(f"profile {request.profile}", fact, "rehearse chest or abdomen")
    begun = read_begun(request.out, request.asked)
    if begun is None:
        begun = _begin(root, request, document, progress)
    yield from (f"stand-in: {each.part} -> {each.by}" for each in begun.stand_ins)
    yield from (f"smaller: {note}" for note in begun.notes)
    yield from (f"{cost.line()}, before" for cost in begun.costs)
    scans = (request.out / "scans").resolve()
    repos = {repo: scans / folder for repo, folder in REPOS[source].items()}
    with alone(request.out, *_ANOTHER), serve(repos) as endpoint:
        for cost in _run(root, request, begun, endpoint):
            begun.costs.append(cost)
            begun.save(request.out)
            yield cost.line()
    table = write_table(request.out, request.profile, begun, request.edge)
    yield f"written to {table}"


def _begin(
    root: Path, request: Request, document: Mapping[str, Any], progress: CaseProgress | None
) -> Begun:
    """Decide what fits, write data set, stand-ins and params.yaml."""
    memory, scans = usable_memory(), (request.out / "scans").resolve()
    cts = Cts(request.train + request.test, (1, 1, 1))
    fitting, notes = _lighter(_rehearsed(document, request), memory, cts)
    if notes and KEEP_MEMORY.name not in inherited():
        notes.append(_RETURNED)
    source = document["download"]["source"]
    made = Scans(source, request.edge, request.train, request.test, request.annotated)
    texts = make_scans(scans, made, document["seed"], _VAL, progress)
    params = parse_params(document, f"conf/profile/{request.profile}.yaml")
    replaced = stand_ins(params, scans, texts, (request.out / "stand_ins").resolve())
    final = merged(fitting, *(each.changes for each in replaced))
    _make_project(root, request, final, replaced)
    begun = Begun(request.asked, replaced, notes, memory.num_bytes)
    begun.save(request.out)
    return begun


def make_scans(
    folder: Path, scans: Scans, seed: int, val_fraction: float, progress: CaseProgress | None
) -> list[str]:
    """Write the data set; returns its reports."""
    grid = (max(8, round(scans.edge * _DEPTH)), scans.edge, scans.edge)
    records = write_chests(folder, scans.train, scans.test, grid, 0, progress)
    if scans.source == "abdomen_atlas":
        write_abdomens(folder, folder / abdomen.PREFIX, records)
    else:
        annotate_few(folder, records, scans.annotated, seed, val_fraction)
    return [" ".join(v["report"][2:]) for record in records for v in record["volumes"]]


def _rehearsed(document: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """Shorten the trainings; at a smaller edge, take the smallest networks as well."""
    short = {**short_training(_STEPS, every=_STEPS), "val_cases": 1}
    changes: dict[str, Any] = dict.fromkeys(_TRAININGS, short)
    size = {} if request.edge == PAPER_EDGE else merged(LADDER[0], _BRIEF)
    every = {"index": {"val_fraction": _VAL, "max_quarantined_share": 0.5}}
    return merged(document, changes, size, every)


def _lighter(
    document: dict[str, Any], memory: Memory, cts: Cts
) -> tuple[dict[str, Any], list[str]]:
    """Make trainings lighter until the estimate of each fits the memory."""
    notes = []
    for name in _TRAININGS:
        for lighter in _LIGHTER:
            document = merged(document, {name: lighter})
            needed, there = _compared(parse_params(document, "params.yaml"), name, memory, cts)
            if needed <= there.num_bytes:
                break
        else:
            fact = f"would need {needed >> 20:,} MiB by estimate of {there.num_bytes >> 20:,} MiB"
            remedy = f"free memory, set {MEMORY.name} higher, or take a smaller --edge"
            raise SetupError(name, f"{fact} ({there.said_by})", remedy)
        if lighter:
            notes.append(f"{name}: {', '.join(f'{k} {v}' for k, v in lighter.items())}")
    return document, notes


def _compared(params: Params, stage: str, memory: Memory, cts: Cts) -> tuple[int, Memory]:
    """Return bytes that a training needs and what there is; nothing for one without an estimate."""
    found = estimate(stage, params, cts)
    return compared(found, memory) if found else (0, memory)


def _make_project(
    root: Path, request: Request, document: dict[str, Any], replaced: Sequence[StandIn]
) -> None:
    """Write what the stages read; the profile's name says on every page what this is."""
    project = _project(request)
    project.mkdir(parents=True)
    write_text_atomic(project / "dvc.yaml", (root / "dvc.yaml").read_text(encoding="utf-8"))
    names = ", ".join(each.part for each in replaced) or "nothing"
    check_params(parse_params(document, "params.yaml"), root)
    title = f"{request.profile}: a rehearsal, with stand-ins for {names}"
    write_params(project, merged(document, {"profile": title}))


def _project(request: Request) -> Path:
    return (request.out / "project").resolve()


def _environment(root: Path, request: Request, begun: Begun, endpoint: str) -> dict[str, str]:
    """Point every place to the rehearsal; a token of ours is sent to our own hub only."""
    result = inherited() | {
        DVC_ROOT.name: str(_project(request)),
        DATA_ROOT.name: str((request.out / "store").resolve()),
        HF_ENDPOINT.name: endpoint,
        HF_TOKEN.name: "rehearsal",
        HF_HUB_OFFLINE.name: "0",
        # What was found to fit must not be judged anew because of what else runs by then.
        MEMORY.name: f"{begun.num_bytes // 10**6}MB",
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": str(root.resolve()),
    }
    if _RETURNED in begun.notes:
        result[KEEP_MEMORY.name] = "no"
    for each in begun.stand_ins:
        result |= each.environment
    return result


def _run(root: Path, request: Request, begun: Begun, endpoint: str) -> Iterator[Cost]:
    """Run the stages in the order of dvc.yaml; `code` only matters for a second run."""
    project, environment = _project(request), _environment(root, request, begun, endpoint)
    for stage in read_declarations(project).values():
        if stage.name != "code" and not begun.is_done(stage.name):
            command = [sys.executable, *stage.command.split()[1:]]
            found = watch(command, project, environment)
            if found.code:
                fact = f"ended with exit code {found.code}"
                remedy = "see the lines above; the same command continues here"
                raise SetupError(stage.name, fact, remedy)
            yield read_cost(stage.name, found, project, request.out / "store")

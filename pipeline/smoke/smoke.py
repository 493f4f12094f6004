"""Run `dvc repro` on a profile made small, in a folder of its own.

    <out>/scans          CTs made here, for a profile that reads a hub, and served by one here
    <out>/project        a copy of the code, dvc.yaml and params.yaml; what the stages write
    <out>/store          what they fetch and make
    <out>/smoke.json     what was asked for; after the run, what it and every stage took

Nothing is replaced: parts that a stage needs from elsewhere (weights, packages, a language model)
are those of the profile, and what is missing is named before anything is written. Data, cache and
MLflow of the project stay as they are. A second run in the folder begins anew.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.alone import alone
from pipeline.check_params import check_params, check_setup
from pipeline.dvc_yaml import read_declarations
from pipeline.profiles import write_params
from pipeline.rehearse.local_hub import serve
from pipeline.rehearse.rehearse import REPOS, Scans, make_scans
from pipeline.rehearse.watch import Watched, watch
from pipeline.smoke.smaller import smaller
from pipeline.stage import memory_tuning
from uvlm.config import parse_params
from uvlm.environment import (
    DATA_ROOT,
    HF_ENDPOINT,
    HF_HUB_OFFLINE,
    HF_TOKEN,
    TRACKING_URI,
    WORKERS,
    inherited,
)
from uvlm.errors import ConfigError, SetupError
from uvlm.files import write_json_atomic, write_text_atomic
from uvlm.store import CaseProgress

_EDGE: Final = 48  # of the CTs that are made here
_TRAIN, _TEST, _ANNOTATED = 8, 4, 3
_MARK: Final = "smoke.json"
_CODE: Final = ("uvlm", "pipeline", "dvc.yaml", ".dvcignore")
# No git, so that it runs in any copy of the code; a cache of its own, so that nothing is restored.
_DVC: Final = """[core]
    analytics = false
    check_update = false
    no_scm = true
[cache]
    dir = cache
"""
_ANOTHER: Final = ("another smoke run is in it", "wait for it or stop it, or choose another --out")


@dataclass(frozen=True)
class Request:
    """What the command line says."""

    profile: str
    out: Path

    @property
    def project(self) -> Path:
        """Where the stages run."""
        return (self.out / "project").resolve()


def smoke(root: Path, request: Request, progress: CaseProgress | None = None) -> Iterator[str]:
    """Make the folder and run every stage; yields the lines to show.

    Raises:
        ConfigError: there is no such profile, or `out` holds something else.
        SetupError: a part of the profile is not on this computer, or a stage ended with an error,
            which is above.
    """
    document = smaller(root, request.profile)
    params = parse_params(document, f"conf/profile/{request.profile}.yaml")
    check_params(params, root)
    check_setup(params)
    _refuse_what_is_not_ours(request.out)
    with alone(request.out, *_ANOTHER):
        _clear(request.out)
        write_json_atomic(request.out / _MARK, {"profile": request.profile})
        _make_project(root, request, document)
        with _hub(request, document, progress) as endpoint:
            took, cpu_seconds = _repro(request, endpoint)
        found = _costs(request, took, cpu_seconds)
        write_json_atomic(request.out / _MARK, found)
        yield from _lines(request, found)


def _refuse_what_is_not_ours(out: Path) -> None:
    if out.exists() and not (out / _MARK).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(out, "exists, and is no smoke run", "remove it, or choose another --out")


def _clear(out: Path) -> None:
    """Remove an earlier run, and nothing that somebody has put beside it."""
    for name in ("project", "store", "scans"):
        shutil.rmtree(out / name, ignore_errors=True)


def _make_project(root: Path, request: Request, document: dict[Any, Any]) -> None:
    """Copy what DVC and the stages read."""
    request.project.mkdir(parents=True)
    for name in _CODE:
        there, copy = root / name, request.project / name
        if there.is_dir():
            shutil.copytree(there, copy, ignore=shutil.ignore_patterns("__pycache__"))
        elif there.is_file():
            shutil.copy(there, copy)
    write_text_atomic(request.project / ".dvc" / "config", _DVC)
    write_params(request.project, document)


def _hub(
    request: Request, document: Mapping[str, Any], progress: CaseProgress | None
) -> AbstractContextManager[str]:
    """Serve CTs made here, if the profile reads a hub; else there is no address."""
    source = document["download"]["source"]
    if source not in REPOS:
        return nullcontext("")
    folder = (request.out / "scans").resolve()
    scans = Scans(source, _EDGE, _TRAIN, _TEST, _ANNOTATED)
    make_scans(folder, scans, document["seed"], document["index"]["val_fraction"], progress)
    return serve({repo: folder / part for repo, part in REPOS[source].items()})


def _repro(request: Request, endpoint: str) -> tuple[Watched, float]:
    """Run DVC to its end; returns what it took, and the CPU seconds of all its processes."""
    before = _cpu_seconds()
    command = [sys.executable, "-m", "dvc", "repro"]
    found = watch(command, request.project, _environment(request, endpoint))
    if found.code:
        fact = f"`dvc repro` ended with exit code {found.code}"
        raise SetupError(f"smoke run of {request.profile}", fact, "see the lines above")
    return found, _cpu_seconds() - before


def _cpu_seconds() -> float:
    """Add up what ended children of this process have computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _environment(request: Request, endpoint: str) -> dict[str, str]:
    """Point every place to the folder; a token of ours is sent to our own hub only."""
    ours = {name: value for name, value in inherited().items() if not name.startswith("DVC_")}
    ours.pop(TRACKING_URI.name, None)
    # Of a dozen tiny CTs, processes of their own take more time and memory than they save.
    ours.setdefault(WORKERS.name, "1")
    ours |= memory_tuning()  # else every stage with tensors would start twice
    ours[DATA_ROOT.name] = str((request.out / "store").resolve())
    ours["DVC_NO_ANALYTICS"] = "1"
    ours["PYTHONPATH"] = str(request.project)
    # DVC starts `python`, which is to be this one.
    ours["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), ours.get("PATH", "")])
    if endpoint:
        ours |= {HF_ENDPOINT.name: endpoint, HF_TOKEN.name: "smoke", HF_HUB_OFFLINE.name: "0"}
        ours["NO_PROXY"] = "127.0.0.1"
    return ours


def _costs(request: Request, took: Watched, cpu_seconds: float) -> dict[str, Any]:
    """Gather seconds and memory; a stage that left no timing did not run.

    Raises:
        SetupError: a stage did not run.
    """
    stages = {}
    for name in read_declarations(request.project):
        path = request.project / ".uvlm" / "timings" / f"{name}.json"
        if not path.is_file():
            raise SetupError(name, "did not run", "look at dvc.yaml")
        stages[name] = json.loads(path.read_text(encoding="utf-8"))
    return {
        "profile": request.profile,
        "seconds": round(took.seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "peak_mb": round(took.peak_mb),
        "together_mb": round(took.together_mb),
        "stages": stages,
    }


def _lines(request: Request, found: Mapping[str, Any]) -> Iterator[str]:
    """Say what ran, what it took, and what it does not mean."""
    yield (
        f"{len(found['stages'])} stages of {request.profile} ran in {found['seconds']} s "
        f"({found['cpu_seconds']} s of CPU), at most {found['together_mb']:,} MB at once"
    )
    yield f"summary: {request.project / 'reports' / 'summary.html'}"
    yield "Every stage works; no number of this run says anything about quality."

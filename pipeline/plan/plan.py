"""The plan of a profile: cases, memory and time of every stage, disk, and what is missing.

Only tables are fetched, and sizes asked for. Every number is an estimate, and the table says what
it rests on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pipeline.check_params import missing_parts
from pipeline.dvc_yaml import read_declarations
from pipeline.paths import PARAMS
from pipeline.plan.counts import TRAININGS, count_by_stage, labelled, split_of
from pipeline.plan.needs import missing_disk, missing_memory
from pipeline.profiles import compose
from uvlm.config import Grid, Params, load_params, parse_params
from uvlm.data.sets.catalogue import choose_set
from uvlm.data.sets.survey import FileKind, Survey
from uvlm.environment import WORKERS, allowed_cores
from uvlm.errors import ConfigError, SetupError, UvlmError
from uvlm.estimates.check import ON_DEVICE
from uvlm.estimates.costs import Time, costs, download_time, stage_time, store_bytes
from uvlm.estimates.stages import Cts, Estimate, estimates
from uvlm.files import store_root
from uvlm.memory import Memory
from uvlm.store import CaseProgress
from uvlm.variable import SIZE

_MIB: Final = 2**20


@dataclass(frozen=True)
class Plan:
    """What is known before anything is downloaded; without a survey, cases are unknown."""

    params: Params
    stages: Sequence[str]
    survey: Survey | None
    gpu: Memory | None
    refused: Sequence[UvlmError] = field(default_factory=tuple)

    @property
    def largest(self) -> Grid:
        """The largest CT, or the assumed one."""
        z, y, x = costs()["largest_ct"]["grid"]
        return (self.survey and self.survey.largest) or (z, y, x)

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Steps of the trainings, and cases of the other stages if they are known."""
        if self.survey is None:
            return {name: getattr(self.params, name).steps for name in TRAININGS}
        return count_by_stage(self.params, self.survey, self.stages)

    @cached_property
    def memory(self) -> Sequence[Estimate]:
        """The one estimate of memory, of every stage that has one."""
        count = len(self.survey.cases) if self.survey else 1
        return estimates(self.params, Cts(max(1, count), self.largest), self.stages)

    @cached_property
    def disk(self) -> Sequence[tuple[str, int]]:
        """Bytes of every kind of raw file that is kept, and of what the store makes of them."""
        if self.survey is None:
            return []
        chosen = len(labelled(self.params, self.survey))
        raw = [(kind.name, kind.num_bytes) for kind in kept_files(self.params, self.survey)]
        made = store_bytes(self.params, len(self.survey.cases), chosen, self.largest)
        models = [
            (f"{each.stage}'s state", each.sizes["best and saved"][0])
            for each in self.memory
            if "best and saved" in each.sizes
        ]
        return [*raw, *made, *models]

    @cached_property
    def missing(self) -> Sequence[str]:
        """All that is not there, in a line each."""
        return [
            *map(str, self.refused),
            *missing_parts(self.params),
            *missing_memory(self.memory, self.gpu),
            *missing_disk(self.disk, store_root()),
        ]


def make_plan(
    root: Path,
    profile: str | None,
    gpu_memory: str | None = None,
    progress: CaseProgress | None = None,
) -> Plan:
    """Ask the data set, and put everything together.

    Args:
        root: the project.
        profile: a file of conf/profile/; None takes params.yaml.
        gpu_memory: of the GPU to plan for, such as 80GB; None takes the device that is here.
        progress: called while tables are fetched.

    Raises:
        ConfigError: a parameter or an option is wrong.
        DataError: a table is broken.
    """
    params = _params(root, profile)
    gpu = None if gpu_memory is None else _gpu(gpu_memory)
    survey, refused = None, []
    try:
        survey = choose_set(params).survey(progress)
    except SetupError as error:  # no token, no network: all the rest can be said
        refused = [error]
    return Plan(params, list(read_declarations(root)), survey, gpu, refused)


def kept_files(params: Params, survey: Survey) -> list[FileKind]:
    """List the files that take room on disk: volumes that are not kept, one for each process."""
    if (keep := _keep_raw(params)) == "all":
        return list(survey.files)
    volumes, *others = survey.files
    drawn = sum(case.is_drawn for case in survey.cases) if keep == "annotated" else 0
    at_once = WORKERS.read() or allowed_cores()
    count = min(volumes.count, drawn + at_once)
    num_bytes = round(volumes.num_bytes * count / max(1, volumes.count))
    return [FileKind(f"volumes kept ({keep})", count, num_bytes, 0), *others]


def _keep_raw(params: Params) -> str:
    return params.download.ct_rate.keep_raw if params.download.ct_rate else "all"


def lines(plan: Plan) -> Iterator[str]:
    """Write the plan as text."""
    yield f"profile {plan.params.profile}; every number below is an estimate\n"
    if plan.survey is None:
        yield "cases      not known before the tables can be read"
    else:
        splits = ", ".join(
            f"{n:,} {name}" for name, n in split_of(plan.survey, plan.params).items()
        )
        chosen = labelled(plan.params, plan.survey)
        yield f"cases      {len(plan.survey.cases):,} ({splits})"
        yield f"labelled   {len(chosen):,} ({plan.params.label_maps.cases})"
        yield from _files(plan.survey)
    yield f"\n{'stage':<20}{'cases, steps':>13}{'MiB':>9}{'on GPU':>9}{'time':>9}   rests on"
    yield from (_row(plan, stage) for stage in plan.stages if stage != "code")
    yield ""
    for name, num_bytes in plan.disk:
        yield f"{'disk':<11}{num_bytes / 1e9:>10,.1f} GB   {name}"
    if plan.disk:
        yield f"{'':<11}{sum(size for _, size in plan.disk) / 1e9:>10,.1f} GB   in all"


def to_json(plan: Plan) -> dict[str, Any]:
    """Write the plan for programs."""
    return {
        "profile": plan.params.profile,
        "cases": len(plan.survey.cases) if plan.survey else None,
        "labelled": len(labelled(plan.params, plan.survey)) if plan.survey else None,
        "stages": {
            stage: {"count": plan.counts.get(stage), **asdict(_time(plan, stage))}
            for stage in plan.stages
            if stage != "code"
        },
        "memory": {each.stage: [each.total, each.on_device] for each in plan.memory},
        "disk": dict(plan.disk),
        "missing": list(plan.missing),
    }


def _files(survey: Survey) -> Iterator[str]:
    for kind in survey.files:
        known = f", from {kind.asked} of them" if kind.is_estimate else ""
        yield f"files      {kind.count:,} {kind.name}, {kind.num_bytes / 1e9:,.1f} GB{known}"


def _row(plan: Plan, stage: str) -> str:
    memory = {each.stage: each for each in plan.memory}.get(stage)
    total = f"{memory.total / _MIB:,.0f}" if memory else ""
    on_gpu = f"{memory.on_device / _MIB:,.0f}" if memory and stage in ON_DEVICE else ""
    count = f"{plan.counts[stage]:,}" if stage in plan.counts else ""
    time = _time(plan, stage)
    shown = "" if time.seconds is None else in_words(time.seconds)
    return f"{stage:<20}{count:>13}{total:>9}{on_gpu:>9}{shown:>9}   {time.basis}"


def _time(plan: Plan, stage: str) -> Time:
    if stage == "download" and plan.survey is not None:
        time = download_time(sum(kind.num_bytes for kind in plan.survey.files))
        later = "; what is not kept comes during preprocess"
        return Time(time.seconds, time.basis + later * (_keep_raw(plan.params) != "all"))
    if stage not in plan.counts:
        return Time(None, "cases not known" if plan.survey is None else "minutes")
    return stage_time(stage, plan.params, plan.counts[stage], plan.largest)


def in_words(seconds: float) -> str:
    """Write seconds, minutes, hours or days, whichever reads best."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 or seconds == 0 else "< 1 s"


def _params(root: Path, profile: str | None) -> Params:
    if profile is None:
        return load_params(root / PARAMS)
    return parse_params(compose(root, profile), f"conf/profile/{profile}.yaml")


def _gpu(text: str) -> Memory:
    if re.fullmatch(SIZE.pattern, text) is None:
        raise ConfigError("--gpu-memory", f"is {text!r}", f"pass {SIZE.accepts}")
    return Memory(SIZE.convert(text), "--gpu-memory")

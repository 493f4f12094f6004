"""What a case costs in seconds and bytes, with the hardware and the source of every number.

    measured here     costs.json names the hardware it was measured on
    floor             counted FLOP over the published peak of the chip that costs.json names
    assumed           said so beside the number

Sizes on disk are those of arrays before compression, times a share; features are not compressible.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import ceil, prod
from typing import Any, Final

from uvlm.config import LABEL_KINDS, SYNTHETIC, Grid, Params
from uvlm.data.labels.pseudo.atm22 import WINDOW
from uvlm.estimates.stages import Cts, workers_that_fit

_MASKS: Final = ("ct_rate_masks", "abdomen_atlas_masks", "masks")  # read, not made
_COMPARABLE: Final = 1 / 8  # of the voxels of the CTs that were measured
_STEP: Final = WINDOW * 3 // 4  # windows overlap by a quarter
_TRAININGS: Final = ("train_seg", "train_cls", "train_report")


@dataclass(frozen=True)
class Time:
    """How long a stage takes, and what the number rests on; None if nothing is known."""

    seconds: float | None
    basis: str


@cache
def costs() -> Mapping[str, Any]:
    """Read the numbers."""
    text = files("uvlm.estimates").joinpath("costs.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def stage_time(stage: str, params: Params, count: int, largest: Grid) -> Time:
    """Say how long `count` steps or cases of a stage take at the least.

    Args:
        stage: its name in dvc.yaml.
        params: all parameters.
        count: of its steps or cases.
        largest: (z, y, x) of the largest CT, for networks that work on the CT's own grid.
    """
    name, _, kind = stage.partition("@")
    if not count:
        return Time(0.0, "nothing to do")
    if name == "pseudo_label":
        backend = getattr(params.pseudo_label, kind).backend
        return _of_backend(backend, stage, params, Cts(count, largest))
    if name in ("preprocess", "label_maps"):
        return _measured(name, stage, params, Cts(count, largest))
    if name in (*_TRAININGS, "encode", "generate"):
        if name in ("train_report", "generate") and params.decoder.kind != "scratch":
            return Time(None, "Qwen3 is not counted")
        from uvlm.estimates.arithmetic import flop

        times = getattr(params, name).accumulate if name in _TRAININGS else 1
        what = "masks only: how long writing takes is not known" if name == "generate" else ""
        return _floor((flop(name, params) or 0) * count * times, what)
    return Time(None, "minutes")


def download_time(num_bytes: int) -> Time:
    """Say how long a download takes."""
    line = costs()["connection"]
    return Time(num_bytes / line["bytes_per_s"], f"at {line['name']}, {line['source']}")


def _of_backend(backend: str, stage: str, params: Params, cts: Cts) -> Time:
    if backend == "none":
        return Time(0.0, "no labels of this kind")
    if backend in _MASKS or backend in SYNTHETIC:
        measured = backend if backend in costs()["seconds_a_case"] else _MASKS[0]
        return _measured(measured, stage, params, cts)
    if backend == "atm22":
        from uvlm.estimates.arithmetic import airway_window_flop

        windows = prod(max(1, ceil((size - WINDOW) / _STEP) + 1) for size in cts.largest)
        return _floor(airway_window_flop() * windows * cts.count, f"{windows} windows a CT")
    return _measured(backend, stage, params, cts)


def _measured(name: str, stage: str, params: Params, cts: Cts) -> Time:
    """Multiply what a case took; stages without a GPU share the cases among the workers."""
    known = costs()["seconds_a_case"][name]
    if known["seconds"] is None:
        return Time(None, known["source"])
    seconds, basis = known["seconds"] * cts.count, f"{known['seconds']:g} s a case"
    if grid := known.get("grid"):
        share = prod(cts.largest) / prod(grid)
        if share < _COMPARABLE:  # what a file costs beside its voxels was not measured
            return Time(None, "minutes")
        seconds, basis = seconds * share, f"{basis} of {'x'.join(map(str, grid))}, by voxels"
    if known.get("per_core"):
        workers = min(workers_that_fit(stage, params, cts) or 1, cts.count)
        seconds, basis = seconds / workers, f"{basis} and core, {workers} at once"
    return Time(seconds, f"{basis}: {known['source']}, {known['hardware']}")


def _floor(flop: int, what: str) -> Time:
    chip = costs()["accelerator"]
    unit, size = ("PFLOP", 1e15) if flop >= 1e15 else ("TFLOP", 1e12)
    basis = f"floor: {flop / size:,.1f} {unit} at the peak of one {chip['name']}"
    return Time(flop / chip["flop_per_s"], f"{basis}; {what}" if what else basis)


def store_bytes(
    params: Params, cases: int, labelled: int, largest: Grid
) -> Sequence[tuple[str, int]]:
    """Estimate what the store will hold beside the raw files, by stage."""
    share = costs()["bytes_a_case"]
    of_labels = share["compressed_labels_share"]["share"]
    voxels, own = prod(params.preprocess.grid), prod(largest)
    kinds = [k for k in LABEL_KINDS if getattr(params.pseudo_label, k).backend != "none"]
    volume = 2 * voxels * share["compressed_volume_share"]["share"]
    return [
        ("preprocess", round(cases * volume)),
        ("pseudo_label", round(labelled * len(kinds) * own * of_labels)),
        ("label_maps", round(labelled * voxels * of_labels)),
        ("encode", cases * _feature_bytes(params)),
    ]


def _feature_bytes(params: Params) -> int:
    """Count the tokens of one case: those of the reference stage, for every stage's channels."""
    from uvlm.model.align import num_visual_tokens

    reference, encoder = params.injection.reference_stage, params.encoder
    tokens = num_visual_tokens(params.preprocess.grid, encoder.strides, reference)
    width = 2 if params.encode.dtype == "float16" else 4
    return params.encode.views * tokens * sum(encoder.channels) * width

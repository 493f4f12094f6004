"""Whether sentences about phantoms rest on what they are about, and whether maps show it.

    python -m benchmarks.map_trust --model data/models/report

For every true sentence about a planted finding, the CT is changed and the report written again:

here        the finding's voxels become the healthy background that the phantom was painted on
elsewhere   as many voxels without any finding take the median of their surroundings; a second
            number adds the very change of Hounsfield units that removed the finding, elsewhere
maps        the tenth of the CT where a map is strongest becomes healthy, or another tenth does

A sentence is gone if the exact labeller of phantom reports no longer reads its abnormality. Only
test phantoms are used; stopped by Ctrl-C, what was measured counts. The record belongs to the
weights of one model, and `uvlm predict` shows it for those.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from scipy import ndimage

from benchmarks.map_trust_page import GAP, Counts, page, record
from benchmarks.twins import Twin, draw_twin
from uvlm.arrays import Flags, Floats
from uvlm.config import PhantomConfig
from uvlm.config.params import load_params
from uvlm.data.contract import normalise
from uvlm.data.ct.grid import preprocess_volume
from uvlm.data.ct.resample import Axis, resample_image
from uvlm.data.ct.volume import Volume
from uvlm.drafts.evidence import attention_maps, deepest_of, occlusion_maps
from uvlm.errors import ConfigError, UvlmError
from uvlm.evaluation.labelling.phantom import label_phantom_text
from uvlm.files import write_json_atomic, write_text_atomic
from uvlm.inference.encode import encode_volumes
from uvlm.inference.predictor import Predictor
from uvlm.pages.evidence.map_trust import FILE_NAME
from uvlm.seeding import generator
from uvlm.text.abnormalities import ABNORMALITIES

OUT: Final = Path("reports/evidence")
MARKED_SHARE: Final = 0.1  # of a CT, where a map is strongest
_TRIES: Final = 60
_BATCH: Final = 32
_STEPS: Final = 16384


@dataclass(frozen=True)
class Asked:
    """One changed CT: what was changed, for which sentence."""

    kind: str
    name: str
    volume: Volume


def measure(
    predictor: Predictor, config: PhantomConfig, seed: int, count: int, tell: Any = None
) -> Counts:
    """Change `count` test phantoms for every true sentence about them."""
    counts = Counts()
    # Occlusion takes most of the time, so that what does not need it is measured before.
    for kinds in (("planted", "contribution"), ("occlusion",)):
        for number in range(1, count + 1):
            try:
                _ask(predictor, draw_twin(config, seed, f"valid_{number}_a"), counts, kinds, number)
            except KeyboardInterrupt:  # what was measured counts
                return counts
            if tell is not None:
                tell(f"{' and '.join(kinds)}, {number} of {count}: {counts.told()}")
    return counts


def _ask(
    predictor: Predictor, twin: Twin | None, counts: Counts, kinds: Sequence[str], seed: int
) -> None:
    """Change one phantom in some ways and count the sentences that are gone."""
    if twin is None:
        counts.skipped += "planted" in kinds
        return
    asked = list(_changes(predictor, twin, counts, kinds, generator(seed, "map_trust", *kinds)))
    said = _said(predictor, [change.volume for change in asked])
    for change, names in zip(asked, said, strict=True):
        is_gone = change.name not in names
        counts.gone[change.kind].append(is_gone)
        if change.kind == "here":
            counts.by_name[change.name].append(is_gone)
    if "planted" in kinds:
        counts.phantoms += 1
        counts.planted += len(twin.scan.lesions)


def _changes(
    predictor: Predictor,
    twin: Twin,
    counts: Counts,
    kinds: Sequence[str],
    draws: np.random.Generator,
) -> Iterator[Asked]:
    """Make every changed CT of one phantom."""
    names = [lesion.finding.abnormality for lesion in twin.scan.lesions]
    (said,) = _said(predictor, [twin.volume(twin.hu)])
    true = [(number, name) for number, name in enumerate(names, start=1) if name in said]
    maps = _maps(predictor, twin, kinds) if true else {}
    for number, name in true:
        mask = twin.owner == number
        if "planted" in kinds:
            yield Asked("here", name, twin.removed(mask))
            yield from _elsewhere(twin, mask, name, draws)
        near = ndimage.binary_dilation(mask, iterations=GAP)
        for kind, own in maps.items():
            shown = own[ABNORMALITIES.index(name)]
            counts.peaks[kind].append(bool(near.flat[int(shown.argmax())]))
            marked, other = _tenths(shown, draws)
            yield Asked(kind, name, twin.removed(marked))
            yield Asked(f"{kind} elsewhere", name, twin.removed(other))


def _elsewhere(twin: Twin, mask: Flags, name: str, draws: np.random.Generator) -> Iterator[Asked]:
    """Change as many voxels where nothing was planted, in two ways."""
    free = twin.body & ~ndimage.binary_dilation(twin.owner > 0, iterations=GAP)
    moved = moved_mask(mask, free, draws)
    other = moved if moved is not None else _compact(free, int(mask.sum()), draws)
    if other is None:
        return
    rim = ndimage.binary_dilation(other, iterations=GAP) & ~other
    yield Asked("elsewhere", name, twin.with_values(other, np.median(twin.scan.hu[rim])))
    if moved is not None:
        change = twin.healthy[mask] - twin.scan.hu[mask]
        strong = np.clip(twin.scan.hu[moved] + change, -1024, 3071)
        yield Asked("elsewhere, as strong", name, twin.with_values(moved, strong))


def moved_mask(mask: Flags, free: Flags, draws: np.random.Generator) -> Flags | None:
    """Move a mask, as it is, to a random place where all of it is free; None if none was found."""
    at = np.argwhere(mask)
    low, high = -at.min(0), np.array(mask.shape) - 1 - at.max(0)
    for _ in range(_TRIES):
        place = at + draws.integers(low, high + 1)
        if free[tuple(place.T)].all():
            moved = np.zeros_like(mask)
            moved[tuple(place.T)] = True
            return moved
    return None


def _compact(free: Flags, size: int, draws: np.random.Generator) -> Flags | None:
    """Take the `size` free voxels nearest to a random one; None if there are not so many."""
    at = np.argwhere(free)
    if len(at) < size:
        return None
    order = np.argsort(((at - at[draws.integers(len(at))]) ** 2).sum(1), kind="stable")
    chosen = np.zeros_like(free)
    chosen[tuple(at[order[:size]].T)] = True
    return chosen


def _tenths(shown: Floats, draws: np.random.Generator) -> tuple[Flags, Flags]:
    """Mark the tenth of a CT where a map is strongest, and another tenth in one piece."""
    size = round(MARKED_SHARE * shown.size)
    marked = np.zeros(shown.shape, bool)
    marked.flat[np.argsort(-shown, axis=None, kind="stable")[:size]] = True
    other = _compact(~marked, size, draws)
    assert other is not None  # nine tenths are left
    return marked, other


def _maps(predictor: Predictor, twin: Twin, kinds: Sequence[str]) -> dict[str, Floats]:
    """Make some kinds of maps on the phantom's own voxels: (A, D, H, W) each."""
    voxels, found = _voxels(predictor, twin.volume(twin.hu)), {}
    if "contribution" in kinds:
        found["contribution"] = attention_maps(predictor, deepest_of(predictor, voxels[None]))
    if "occlusion" in kinds:
        found["occlusion"] = occlusion_maps(predictor, voxels)
    return {kind: np.stack([_fine(m, twin.hu.shape) for m in maps]) for kind, maps in found.items()}


def _fine(strength: Any, shape: Sequence[int]) -> Floats:
    """Interpolate a map that spans the whole CT."""
    axes = [Axis(n, m, n / m) for n, m in zip(strength.shape, shape, strict=True)]
    top = float(np.abs(strength).max()) or 1.0
    scaled = (strength * (_STEPS / top)).astype(np.float32)
    return resample_image(scaled, axes, (-_STEPS, _STEPS)).astype(float)


def _voxels(predictor: Predictor, volume: Volume) -> Any:
    array, _ = preprocess_volume(volume, predictor.preprocess)
    return normalise(array, predictor.preprocess)


@torch.no_grad()
def _said(predictor: Predictor, volumes: Sequence[Volume]) -> list[set[str]]:
    """Write a report of each CT and read the abnormalities that it claims."""
    said: list[set[str]] = []
    for start in range(0, len(volumes), _BATCH):
        batch = np.stack([_voxels(predictor, v) for v in volumes[start : start + _BATCH]])
        x = torch.from_numpy(batch)[:, None].to(predictor.writer.device)
        tokens = encode_volumes(predictor.model.encoder, x, predictor.model.config.injection)
        for report in predictor.writer.write(predictor.writer.visual(tokens)):
            flags = label_phantom_text(report.text)
            said.append({name for name, flag in zip(ABNORMALITIES, flags, strict=True) if flag})
    return said


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and keep the record and its page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, default=Path("data/models/report"))
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--phantoms", type=int, help="default: all test phantoms")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    try:
        params = load_params(options.params)
        config = params.download.phantom
        if config is None:
            raise ConfigError(options.params, "has no phantoms", "use the profile phantom")
        predictor = Predictor.load(options.model)
        tell = partial(print, file=sys.stderr, flush=True)
        count = min(options.phantoms or config.test_patients, config.test_patients)
        counts = measure(predictor, config, params.seed, count, tell)
        document = record(counts, predictor.model.sha256)
    except UvlmError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    options.out.mkdir(parents=True, exist_ok=True)
    write_json_atomic(options.out / FILE_NAME, document)
    write_text_atomic(options.out / "map_trust.md", page(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())

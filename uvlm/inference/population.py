"""What the CTs of a training have in common, so that a CT that is unlike them can be told.

population.json in a model folder, written by stage 3:

    measure    a number of one CT: field of view, voxel size, shares of Hounsfield units, volumes
               and places of the organs that the U-Net draws, their Hounsfield units
    low, high  between which 95 % of the training cases lie
    excess     how far a CT lies outside, in units of high - low; 0 inside
    limit      a CT is unlike them if the excess of any measure is larger

The limit is set on validation, which the networks were not fitted on, such that `withheld_share` of
CTs like these exceed it (split conformal prediction). So nothing has to be tuned by hand, and with
few validation cases the limit is their largest excess.

(D, H, W) = (z, y, x).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from uvlm.config import PreprocessConfig
from uvlm.data.contract import normalise
from uvlm.data.ct.grid import Geometry
from uvlm.data.examples import Example, choose_cases, read_examples
from uvlm.errors import DataError
from uvlm.files import file_sha256
from uvlm.inference.measures import Measure, Measures, measure
from uvlm.inference.segment import Segmenter
from uvlm.store import rows_by_case
from uvlm.text.draft import Unlike
from uvlm.tracking import Progress

FILE_NAME: Final = "population.json"
VERSION: Final = 1
MAX_CASES: Final = {"train": 200, "val": 100}
_WITHHELD_SHARE: Final = 0.02
_INSIDE: Final = (0.025, 0.975)
# A measure that hardly varies in training may vary by so much before it counts.
_LEAST: Final = {"mm": 0.05, "share": 0.01, "ml": 10.0, "HU": 5.0}
_LEAST_RELATIVE: Final = 0.02


@dataclass(frozen=True)
class Range:
    """Between which values 95 % of the training cases lie, and in what unit an excess counts."""

    unit: str
    kind: str
    low: float
    high: float
    scale: float

    @classmethod
    def of(cls, values: Sequence[Measure]) -> Self:
        """Find the range of a measure."""
        numbers = np.array([each.value for each in values])
        low, high = (float(q) for q in np.quantile(numbers, _INSIDE))
        least = max(_LEAST[values[0].unit], _LEAST_RELATIVE * abs(float(np.median(numbers))))
        return cls(values[0].unit, values[0].kind, low, high, max(high - low, least))

    def excess(self, value: float) -> float:
        """How far a value lies outside, in units of the scale."""
        return max(self.low - value, value - self.high, 0.0) / self.scale


@dataclass(frozen=True)
class Population:
    """The ranges of all measures, and the limit."""

    ranges: Mapping[str, Range]
    limit: float
    cases: Mapping[str, int]
    withheld_share: float

    @classmethod
    def of(cls, train: Sequence[Measures], val: Sequence[Measures]) -> Self:
        """Find ranges on training cases and the limit on validation cases."""
        names = dict.fromkeys(name for found in train for name in found)
        ranges = {n: Range.of([found[n] for found in train if n in found]) for n in names}
        unlimited = cls(ranges, 0.0, {"train": len(train), "val": len(val)}, 0.0)
        scores = sorted(unlimited.score(found) for found in val)
        rank = min(ceil((len(scores) + 1) * (1 - _WITHHELD_SHARE)), len(scores))
        share = 1 - rank / (len(scores) + 1)
        return cls(ranges, scores[rank - 1] if scores else 0.0, unlimited.cases, round(share, 6))

    def score(self, found: Measures) -> float:
        """Return the largest excess of any measure."""
        known = (self.ranges[name].excess(m.value) for name, m in found.items() if self._has(name))
        return max(known, default=0.0)

    def unlike(self, found: Measures) -> tuple[Unlike, ...]:
        """List the measures beyond the limit, furthest first."""
        excess = {n: self.ranges[n].excess(m.value) for n, m in found.items() if self._has(n)}
        over = sorted((n for n in excess if excess[n] > self.limit), key=lambda n: -excess[n])
        return tuple(_unlike(name, found[name], self.ranges[name]) for name in over)

    def _has(self, name: str) -> bool:
        return name in self.ranges

    def to_json(self) -> str:
        """Return the content of population.json."""
        document = {"format_version": VERSION, **asdict(self)}
        return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _unlike(name: str, found: Measure, known: Range) -> Unlike:
    unit = "" if found.unit == "share" else f" {found.unit}"
    value, low, high = (f"{v:.3g}" for v in (found.value, known.low, known.high))
    text = f"{name} is {value}{unit}, in training {low} to {high}{unit}"
    return Unlike(
        kind=found.kind, what=name, unit=found.unit, value=round(found.value, 6),
        low=round(known.low, 6), high=round(known.high, 6), text=text,
    )  # fmt: skip


def read_population(folder: Path) -> tuple[Population, str] | None:
    """Read population.json of a model folder, and its sha256; None if there is none.

    Raises:
        DataError: it is damaged or of another version.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    remedy = "write the folder again: dvc repro -f -s train_report"
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("format_version") != VERSION:
            raise ValueError("of another version")
        ranges = {name: Range(**values) for name, values in document.pop("ranges").items()}
        return Population(ranges=ranges, **document), file_sha256(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        fact = f"not readable as a population ({type(error).__name__}: {error})"
        raise DataError(path, fact, remedy) from None


def population_of(
    segmenter: Segmenter | None,
    class_names: Sequence[str],
    index: Path,
    preprocess: Path,
    config: PreprocessConfig,
    seed: int,
    progress: Progress | None = None,
) -> Population | None:
    """Measure training and validation cases, at most MAX_CASES of each; None if none can be.

    Args:
        segmenter: the U-Net of stage 1; None if it was never trained.
        class_names: of its classes.
        index: manifest of the stage `index`.
        preprocess: manifest of the stage `preprocess`.
        config: the contract of the volumes.
        seed: of the choice of cases.
        progress: shows the cases measured.
    """
    rows = rows_by_case(preprocess)
    everything = read_examples(index, preprocess, config)
    # Arrays that an early release prepared do not say where they lie in their CT.
    examples = [each for each in everything if "native" in rows[each.case_id].extra]
    chosen = {
        split: choose_cases([e for e in examples if e.case.split == split], most, seed)
        for split, most in MAX_CASES.items()
    }
    if not chosen["train"]:
        return None
    total, measured = sum(map(len, chosen.values())), 0
    found: dict[str, list[Measures]] = {split: [] for split in chosen}
    for split, cases in chosen.items():
        for example in cases:
            geometry = Geometry.from_json(rows[example.case_id].extra["native"])
            found[split].append(_measure_example(segmenter, class_names, example, geometry, config))
            measured += 1
            if progress is not None:
                progress.update(measured, total)
    return Population.of(found["train"], found["val"])


def _measure_example(
    segmenter: Segmenter | None,
    class_names: Sequence[str],
    example: Example,
    geometry: Geometry,
    config: PreprocessConfig,
) -> Measures:
    array = example.stored()
    ids = None
    if segmenter is not None:
        ids = segmenter.labels(normalise(array, config, example.statistics)[None])[0]
    return measure(array, geometry, ids, class_names)

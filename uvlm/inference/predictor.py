"""From a CT to what a model says of it; uvlm/drafts/ makes files of that.

    read strictly -> prepare as contract.json says -> segment -> compare with the training's CTs
        -> encode -> align -> classify, write

The model folder is all it needs: weights, vocabulary, the preprocessing contract, and what the CTs
of its training have in common. A CT that is unlike them gets masks, and neither a report nor
probabilities unless they are asked for.

K visual tokens, C_i channels of encoder stage i, (D, H, W) = (z, y, x).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError
from torch import Tensor

from uvlm.arrays import Ids, Voxels
from uvlm.config import PreprocessConfig
from uvlm.data.contract import VERSION, contract, normalise
from uvlm.data.ct.check import grid_notes
from uvlm.data.ct.grid import Geometry, preprocess_volume
from uvlm.data.ct.io import read_volume
from uvlm.data.ct.origin import CtOrigin
from uvlm.data.ct.volume import LabelMap, Volume
from uvlm.device import set_threads
from uvlm.errors import ConfigError, DataError
from uvlm.inference.decoding import Ended
from uvlm.inference.encode import encode_volumes
from uvlm.inference.held import Spans
from uvlm.inference.measures import measure
from uvlm.inference.population import Population, read_population
from uvlm.inference.report_writer import ReportWriter, WrittenReport
from uvlm.inference.segment import Segmenter
from uvlm.model.align import deepest_tokens, feature_grids
from uvlm.model.fast_norm import ready
from uvlm.model.folder import first_problem, read_config, read_contract
from uvlm.model.load import ReportModel, load_report_model
from uvlm.model.model_config import ReportModelConfig
from uvlm.model.trained import PARTS, Part, in_order
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.draft import Unlike, UnlikeTraining
from uvlm.text.report import Report, parse_report

_MOST_NAMED: Final = 3
Tell = Callable[[str], object]
_RETRAIN = "use the whole folder as train_report wrote it"


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model says about one CT; `label_map` is on the CT's own grid and axes.

    Of a part that was not trained there is no label map, no probability or no report, and of a CT
    that is unlike the training's neither report nor probabilities. `origin` says which file or
    series was read, `grid_notes` what the network's grid left out or made up. `voxels` is what the
    networks saw, (D, H, W) of `geometry.grid`, `grid_labels` the class ids there. `deepest` is f_N
    of the classifier's encoder as tokens (1, K, C), `ended` why the report did; both are None where
    nothing was described.
    """

    report: Report
    probabilities: dict[str, float]
    label_map: LabelMap | None
    class_names: tuple[str, ...]
    not_trained: tuple[Part, ...]
    origin: CtOrigin | None
    grid_notes: tuple[str, ...]
    unlike: UnlikeTraining
    geometry: Geometry
    voxels: Voxels
    grid_labels: Ids | None
    seconds: dict[str, float]
    deepest: Tensor | None = None
    ended: Ended | None = None

    @property
    def withheld(self) -> str | None:
        """Why there is no report, in a line; None if nothing was withheld."""
        if not self.unlike.found or self.unlike.written_anyway:
            return None
        return f"unlike the CTs of the training {self.outside}"

    @property
    def outside(self) -> str:
        """The kinds of measure beyond the training's, and the furthest of them."""
        found = self.unlike.found
        kinds = ", ".join(dict.fromkeys(each.kind for each in found))
        facts = "; ".join(each.text for each in found[:_MOST_NAMED])
        more = f"; and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        return f"({kinds}): {facts}{more}"


class Clock:
    """Seconds by step; `tell` hears of each step that has ended."""

    def __init__(self, tell: Tell = lambda step: None) -> None:
        self.seconds: dict[str, float] = {}
        self._tell = tell
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        """Add the time since the last call to a step."""
        now = time.perf_counter()
        self.seconds[step] = round(self.seconds.get(step, 0.0) + now - self._last, 3)
        self._last = now
        self._tell(step)


@dataclass(frozen=True, eq=False)
class Predictor:
    """A report model ready to read CTs.

    predictor = Predictor.load("data/models/report")
    prediction = predictor.predict("ct.nii.gz")
    """

    model: ReportModel
    preprocess: PreprocessConfig
    writer: ReportWriter
    segmenter: Segmenter
    trained: Collection[Part]
    population: Population | None = None
    population_sha256: str | None = None
    claim_more: float = 0.0

    @classmethod
    def load(
        cls, directory: Path | str, claim_more: float = 0.0, spans: Spans | None = None
    ) -> Self:
        """Read a report folder; refuse another kind, damage or a contract that does not fit.

        Args:
            directory: the folder.
            claim_more: added to the logit of every cue of presence; reports claim more above 0,
                less below. The probabilities stay as they are.
            spans: reads both parts of a report, so that its impression is held to its findings.
        """
        directory = Path(directory)
        check_claim_more(directory, claim_more)
        model = load_report_model(directory)
        config = preprocess_config(directory, model.contract, model.config)
        set_threads()
        writer = ReportWriter.of(model, spans)
        for encoder in {model.encoder, model.classifier_encoder}:
            ready(encoder, writer.device)
        # A folder without a record of stage 1's patch gets its volumes read whole.
        z, y, x = model.config.params.get("train_seg", {}).get("patch", model.config.grid)
        segmenter = Segmenter.of(model.unet, (int(z), int(y), int(x)))
        population, sha256 = read_population(directory) or (None, None)
        parts = model, config, writer, segmenter, model.trained, population, sha256
        return cls(*parts, claim_more)

    @property
    def not_trained(self) -> tuple[Part, ...]:
        """The parts of the model that say nothing."""
        return in_order(set(PARTS).difference(self.trained))

    def predict(self, ct: Path | str, *, unlike_training: bool = False) -> Prediction:
        """Read one file or DICOM folder strictly and predict from it; see `predict_volume`."""
        return self.predict_volume(read_volume(Path(ct)), unlike_training=unlike_training)

    def predict_volume(
        self,
        volume: Volume,
        *,
        unlike_training: bool = False,
        tell: Tell = lambda step: None,
    ) -> Prediction:
        """Predict from one CT, which is not changed.

        Args:
            volume: the CT.
            unlike_training: describe it even if it is unlike the CTs that the model knows.
            tell: hears of each step that has ended.
        """
        clock = Clock(tell)
        array, geometry = preprocess_volume(volume, self.preprocess)
        voxels = normalise(array, self.preprocess)
        clock.lap("prepare")
        ids = None
        if "segmentation" in self.trained:
            ids = self.segmenter.labels(voxels[None])[0]
        label_map = None if ids is None else geometry.labels_to_native(ids)
        clock.lap("segment")
        unlike = self._compare(array, geometry, ids, volume.origin)
        clock.lap("compare")
        report, ended = Report("", ""), None
        probabilities, deepest = dict[str, float](), None
        if unlike_training or not unlike.found:
            written, probabilities, deepest = self._describe(voxels)
            report, ended = parse_report(written.text), written.ended
            unlike = unlike.model_copy(update={"written_anyway": bool(unlike.found)})
        clock.lap("describe")
        return Prediction(
            report,
            probabilities,
            label_map,
            self.model.config.class_names,
            not_trained=self.not_trained,
            origin=volume.origin,
            grid_notes=tuple(grid_notes(geometry, self.preprocess)),
            unlike=unlike,
            geometry=geometry,
            voxels=voxels,
            grid_labels=ids,
            seconds=clock.seconds,
            deepest=deepest,
            ended=ended,
        )

    def _compare(
        self,
        array: npt.NDArray[np.int16],
        geometry: Geometry,
        ids: Ids | None,
        origin: CtOrigin | None,
    ) -> UnlikeTraining:
        """Find in what a CT is unlike those of the training."""
        found: list[Unlike] = []
        knows_chests = self.model.config.abnormalities == ABNORMALITIES
        if knows_chests and origin is not None and origin.elsewhere:
            tagged = {"kind": "body part", "what": "tags", "unit": "", "text": origin.elsewhere}
            found.append(Unlike(**tagged, value=None, low=None, high=None))
        if self.population is not None:
            measures = measure(array, geometry, ids, self.model.config.class_names)
            found += self.population.unlike(measures)
        return UnlikeTraining(checked=self.population is not None, found=tuple(found))

    def _describe(self, voxels: Voxels) -> tuple[WrittenReport, dict[str, float], Tensor]:
        """Write the report and the probabilities; return f_N of the classifier's encoder too."""
        x = torch.from_numpy(voxels)[None, None].to(self.writer.device)
        model, injection = self.model, self.model.config.injection
        tokens = encode_volumes(model.encoder, x, injection)
        own = tokens  # of the classifier
        if model.classifier_encoder is not model.encoder:
            own = encode_volumes(model.classifier_encoder, x, injection)
        visual, seen = self.writer.visual(tokens), self.writer.visual(own)
        report = self.writer.write(self.writer.seen(visual, seen, self.claim_more))[0]
        grids = feature_grids(model.config.grid, model.config.encoder.strides)
        deepest = deepest_tokens(seen[-1], grids, injection.reference_stage, injection.deeper)
        return report, self.writer.probabilities(seen)[0], deepest


def check_claim_more(model: Path, claim_more: float) -> None:
    """Refuse a shift that is no number, or that would change nothing in the reports of a model."""
    if claim_more == 0:
        return
    if not math.isfinite(claim_more):
        raise ConfigError("--claim-more", f"is {claim_more}", "give a number, such as 1 or -0.5")
    config = read_config(model, ("report",))
    assert isinstance(config, ReportModelConfig)
    if config.injection.cues not in ("presence", "both"):
        remedy = "leave it out, or train with injection.cues presence or both"
        raise ConfigError(
            "--claim-more", "the reports of this model see no cue of presence", remedy
        )


def contract_of(model: Path) -> PreprocessConfig:
    """Read how the CTs of a report model are prepared."""
    config = read_config(model, ("report",))
    assert isinstance(config, ReportModelConfig)
    return preprocess_config(model, read_contract(model), config)


def preprocess_config(
    directory: Path, stored: Mapping[str, Any], config: ReportModelConfig
) -> PreprocessConfig:
    """Read contract.json as parameters; it must fit this release and the model beside it."""
    path = directory / "contract.json"
    rules = {key: value for key, value in stored.items() if key not in ("version", "label_names")}
    if stored.get("version") != VERSION:
        fact = f"version is {stored.get('version')!r} but this release prepares CTs by {VERSION}"
        raise DataError(path, fact, "use the release that trained the model")
    try:
        section = PreprocessConfig.model_validate(rules)
    except ValidationError as error:
        raise DataError(path, first_problem(error, "contract"), _RETRAIN) from None
    trained = config.params.get("preprocess", {"grid": list(config.grid)})
    for key, value in trained.items():
        if contract(section).get(key) != value:
            fact = f"{key} is {rules.get(key)!r} but the model was trained with {value!r}"
            raise DataError(path, fact, _RETRAIN)
    names = stored.get("label_names")
    if names is not None and tuple(names) != config.class_names:
        raise DataError(path, "label_names are not the classes of config.json", _RETRAIN)
    return section

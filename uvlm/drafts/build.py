"""From a prediction to a draft: the report sentence by sentence, checked, with its provenance."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

import uvlm
from uvlm.data.contract import contract_sha256
from uvlm.data.ct.volume import Volume
from uvlm.device import choose_precision
from uvlm.drafts.case_result import CaseResult
from uvlm.drafts.checks import Evidence
from uvlm.drafts.folder import disclaimer_of, said_of
from uvlm.drafts.shown import Masks
from uvlm.errors import DataError
from uvlm.evaluation.said import SentenceReader
from uvlm.inference.decoding import Ended
from uvlm.inference.predictor import Clock, Prediction, Predictor
from uvlm.text.draft import Draft, Provenance, Read

_THRESHOLDS = "thresholds.json"  # as stage 2 names it
_UNLIKE = (
    "UNLIKE THE TRAINING: this CT differs from those that the model was trained on, and the report "
    "was written only because it was asked for"
)
_SHIFTED = (
    "CLAIMS {} THAN BY ITSELF: the report was written as if the classifier believed in every "
    "abnormality by {:+g} in its logit (--claim-more); its probabilities are as they are."
)
_ENDED: Final[dict[Ended, str]] = {
    "limit": "CUT SHORT: the report is as long as the model may write, and does not end by itself.",
    "loop": "CUT SHORT: the report began to repeat the same words and was stopped there.",
    "held": "The impression was written again: it named an abnormality that the findings do not.",
}
_UNCHECKED = (
    "This model does not say what the CTs of its training had in common, so nobody looked whether "
    "this one is like them."
)


@dataclass(frozen=True, eq=False)
class DraftMaker:
    """Makes drafts of the predictions of one model.

    Args:
        predictor: the model.
        directory: its folder.
        names: whether real names of files and series are written.
    """

    predictor: Predictor
    directory: Path
    names: bool

    @cached_property
    def thresholds(self) -> dict[str, float]:
        """Above which probability the classifier says yes, tuned on validation."""
        path = self.directory / _THRESHOLDS
        if not path.is_file():
            return {}
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            known = self.predictor.model.config.abnormalities
            return {name: float(document[name]) for name in known if name in document}
        except (OSError, ValueError, TypeError, KeyError) as error:
            fact = f"not readable as thresholds ({type(error).__name__})"
            raise DataError(path, fact, "use the whole folder as train_report wrote it") from None

    @cached_property
    def reader(self) -> SentenceReader:
        """What reads sentences."""
        config = self.predictor.model.config
        return SentenceReader.of(config.params, config.abnormalities)

    def make(
        self, case_id: str, volume: Volume, prediction: Prediction, request: str, packed: bool
    ) -> CaseResult:
        """Check a report sentence by sentence and say where it comes from."""
        clock = Clock()
        found = prediction
        masks = Masks(found.class_names, found.label_map, found.grid_labels, found.geometry)
        evidence = Evidence(found.probabilities, self.thresholds, masks)
        told, withheld = found.report, found.withheld
        sentences = tuple(evidence.check(said) for said in self.reader.read(told))
        clock.lap("check")
        config = self.predictor.model.config
        draft = Draft(
            case_id=case_id,
            disclaimer=disclaimer_of(config.params, config.trained is not None),
            notes=tuple(self._notes(found)),
            report=None if withheld else told.text,
            findings=None if withheld else told.findings,
            impression=None if withheld else told.impression,
            withheld=withheld,
            unlike_training=found.unlike,
            labeller=self.reader.labeller,
            sentences=sentences,
            probabilities=found.probabilities,
            thresholds=self.thresholds,
            structures=masks.structures,
            not_trained=found.not_trained,
            provenance=self._provenance(
                volume, found, request, packed, found.seconds | clock.seconds
            ),
        )
        return CaseResult(
            draft,
            volume,
            found.label_map,
            found.class_names,
            geometry=found.geometry,
            voxels=found.voxels,
            grid_labels=found.grid_labels,
            predictor=self.predictor,
            deepest=found.deepest,
        )

    def _notes(self, prediction: Prediction) -> list[str]:
        unlike, notes = prediction.unlike, said_of(prediction.not_trained)
        if unlike.written_anyway:
            notes.insert(0, f"{_UNLIKE} {prediction.outside}.")
        if prediction.ended in _ENDED:
            notes.insert(0, _ENDED[prediction.ended])
        notes = notes if unlike.checked else [_UNCHECKED, *notes]
        if shift := self.predictor.claim_more:
            notes.insert(0, _SHIFTED.format("MORE" if shift > 0 else "LESS", shift))
        return notes

    def _provenance(
        self,
        volume: Volume,
        prediction: Prediction,
        request: str,
        packed: bool,
        seconds: dict[str, float],
    ) -> Provenance:
        model, device = self.predictor.model, self.predictor.writer.device
        return Provenance(
            read=self._read(volume, prediction, packed),
            voxels_sha256=voxels_sha256(volume),
            request=request,
            model_sha256=model.sha256,
            contract_sha256=contract_sha256(self.predictor.preprocess),
            population_sha256=self.predictor.population_sha256,
            trained_on=model.config.params.get("download", {}).get("source"),
            versions={
                "uvlm": uvlm.__version__,
                "torch": str(torch.__version__),
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            device=device.type,
            precision=choose_precision(device),
            seconds=seconds,
        )

    def _read(self, volume: Volume, prediction: Prediction, packed: bool) -> Read:
        origin = volume.origin
        if origin is None:
            raise ValueError("a draft is of a CT that was read from somewhere")
        told: dict[str, Any] = origin.to_json(names=self.names)
        keys = ("kind", "id", "series_number", "files", "slices", "contrast", "left_out")
        named = {"name": told["name"], "paths": told["paths"]} if self.names else {}
        z, y, x = volume.array.shape
        return Read(
            **{key: told[key] for key in keys},
            **named,
            text=origin.to_text(names=self.names),
            packed=packed,
            shape=(z, y, x),
            spacing_mm=volume.spacing,
            orientation=volume.orientation(),
            affine=tuple(map(tuple, volume.affine.tolist())),
            grid_notes=prediction.grid_notes,
        )


def voxels_sha256(volume: Volume) -> str:
    """Hash Hounsfield units and affine of a CT."""
    digest = hashlib.sha256(json.dumps(volume.affine.tolist()).encode("ascii"))
    for plane in volume.array:
        digest.update(np.ascontiguousarray(plane).tobytes())
    return digest.hexdigest()

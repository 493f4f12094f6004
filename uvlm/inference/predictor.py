"""From a CT to a draft: `Predictor` in Python, `predict` for files.

    read strictly -> prepare as contract.json says -> encode -> align -> classify, write, segment

The model folder is all it needs: weights, vocabulary and the preprocessing contract.

K visual tokens, C_i channels of encoder stage i, (D, H, W) = (z, y, x).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import ValidationError

from uvlm.arrays import Voxels
from uvlm.config import PreprocessConfig
from uvlm.data.contract import VERSION, contract, contract_sha256, normalise
from uvlm.data.ct.check import grid_notes
from uvlm.data.ct.grid import preprocess_volume
from uvlm.data.ct.io import read_volume
from uvlm.data.ct.volume import Volume
from uvlm.device import set_threads
from uvlm.errors import DataError
from uvlm.inference import draft_folder
from uvlm.inference.encode import encode_volumes
from uvlm.inference.report_writer import ReportWriter
from uvlm.inference.segment import Segmenter
from uvlm.model.fast_norm import ready
from uvlm.model.folder import first_problem, read_config, read_contract
from uvlm.model.load import ReportModel, load_report_model
from uvlm.model.model_config import ReportModelConfig
from uvlm.model.trained import PARTS, Part, in_order
from uvlm.text.report import Report, parse_report
from uvlm.tracking import Progress

# From a report and the probabilities beside it, see uvlm/evaluation/contradictions.py.
FindContradictions = Callable[[str, Mapping[str, float]], Sequence[Mapping[str, Any]]]
_RETRAIN = "use the whole folder as train_report wrote it"


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

    @classmethod
    def load(cls, directory: Path | str) -> Self:
        """Read a report folder; refuse another kind, damage or a contract that does not fit."""
        directory = Path(directory)
        model = load_report_model(directory)
        config = preprocess_config(directory, model.contract, model.config)
        set_threads()
        writer = ReportWriter.of(model)
        for encoder in {model.encoder, model.classifier_encoder}:
            ready(encoder, writer.device)
        # A folder without a record of stage 1's patch gets its volumes read whole.
        z, y, x = model.config.params.get("train_seg", {}).get("patch", model.config.grid)
        segmenter = Segmenter.of(model.unet, (int(z), int(y), int(x)))
        return cls(model, config, writer, segmenter, model.trained)

    @property
    def not_trained(self) -> tuple[Part, ...]:
        """The parts of the model that say nothing."""
        return in_order(set(PARTS).difference(self.trained))

    def predict(self, ct: Path | str) -> draft_folder.Prediction:
        """Read one file or DICOM folder strictly and predict from it."""
        return self.predict_volume(read_volume(Path(ct)))

    def predict_volume(self, volume: Volume) -> draft_folder.Prediction:
        """Predict from one CT, which is not changed."""
        start = time.perf_counter()
        array, geometry = preprocess_volume(volume, self.preprocess)
        voxels = normalise(array, self.preprocess)
        report, probabilities = self._describe(voxels)
        label_map = None
        if "segmentation" in self.trained:
            label_map = geometry.labels_to_native(self.segmenter.labels(voxels[None])[0])
        return draft_folder.Prediction(
            report,
            probabilities,
            label_map,
            self.model.config.class_names,
            not_trained=self.not_trained,
            origin=volume.origin,
            grid_notes=tuple(grid_notes(geometry, self.preprocess)),
            seconds=round(time.perf_counter() - start, 3),
        )

    def _describe(self, voxels: Voxels) -> tuple[Report, dict[str, float]]:
        """Write the report and the probabilities; free the encoder's maps before segmentation."""
        x = torch.from_numpy(voxels)[None, None].to(self.writer.device)
        model, injection = self.model, self.model.config.injection
        tokens = encode_volumes(model.encoder, x, injection)
        own = tokens  # of the classifier
        if model.classifier_encoder is not model.encoder:
            own = encode_volumes(model.classifier_encoder, x, injection)
        visual, own_visual = self.writer.visual(tokens), self.writer.visual(own)
        report = self.writer.write(self.writer.seen(visual, own_visual))[0]
        return parse_report(report.text), self.writer.probabilities(own_visual)[0]


def predict(
    cts: Sequence[Path],
    model_dir: Path,
    out: Path,
    *,
    real_names: bool = False,
    progress: Progress | None = None,
    tell: Callable[[str], object] = lambda line: None,
    find: Callable[[ReportModel], FindContradictions] = lambda model: lambda text, said: [],
) -> list[Path]:
    """Write a draft for each CT: report.txt, report.json, segmentation.nii.gz and its class names.

    A single CT goes to `out` itself, several go to `out`/<case_id>. A CT that is refused leaves
    nothing behind and does not stop the others.

    Args:
        cts: NIfTI, NRRD or MetaImage files, or folders with one CT.
        model_dir: report folder, data/models/report.
        out: created if missing; other files in it are left alone.
        real_names: write real names of files and series, not only their salted ids.
        progress: shows the CTs done.
        tell: gets a line for each part of the model that says nothing, and for each CT read.
        find: makes for a model what finds where report and classifier contradict each other.

    Returns:
        The folders written, in the order of the CTs.

    Raises:
        DataError: the model, or at least one of the CTs, was refused.
    """
    folders = draft_folder.claim_folders(cts, out)
    predictor = Predictor.load(model_dir)
    contradictions = find(predictor.model)
    refusals: list[DataError] = []
    for line in draft_folder.said_of(predictor.not_trained):
        tell(line)
    for number, (case_id, (ct, folder)) in enumerate(folders.items(), start=1):
        try:
            draft = _draft(predictor, case_id, ct, real_names, contradictions)
            draft_folder.write_draft(folder, draft)
            tell(f"{case_id}: {draft.read}")
        except DataError as error:
            refusals.append(error)
        if progress is not None:
            progress.update(number, len(folders))
    if len(folders) == 1 and refusals:
        raise refusals[0]
    if refusals:
        facts = " | ".join(map(str, refusals))
        raise DataError(out, f"{len(refusals)} of {len(folders)} CTs were refused: {facts}")
    return [folder for _, folder in folders.values()]


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


def _draft(
    predictor: Predictor, case_id: str, ct: Path, real_names: bool, find: FindContradictions
) -> draft_folder.Draft:
    """Read one CT and predict from it."""
    start = time.perf_counter()
    predicted = predictor.predict(ct)
    said, contradictions = (vars(predicted), find(predicted.report.text, predicted.probabilities))
    seconds = round(time.perf_counter() - start, 3)
    config = predictor.model.config
    return draft_folder.Draft(
        **said | {"seconds": seconds},  # reading included
        case_id=case_id,
        model_sha256=predictor.model.sha256,
        contract_sha256=contract_sha256(predictor.preprocess),
        disclaimer=draft_folder.disclaimer_of(config.params, config.trained is not None),
        real_names=real_names,
        contradictions=contradictions,
    )

"""Runs the trainings one after another in a project's own folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from uvlm.config import Params
from uvlm.files import key_of
from uvlm.inference.encode import encode_cases
from uvlm.text.attributes import AttributeReader
from uvlm.tracking import NullTracker, Training
from uvlm.train.cls import train_cls
from uvlm.train.report import train_report
from uvlm.train.report_batches import FindPlaces
from uvlm.train.report_data import Readers, ReportPaths
from uvlm.train.seg import train_seg


def label(texts: Sequence[str]) -> npt.NDArray[Any]:
    rest = [0] * 16
    return np.array([[int("right" in text), int("left" in text), *rest] for text in texts])


def changed(params: Params, stage: str, **changes: Any) -> Params:
    section = getattr(params, stage).model_copy(update=changes)
    return params.model_copy(update={stage: section})


def as_started(params: Params, progress: Any = None) -> Training:
    """A training as its stage starts it, but that all parameters count."""
    numbers = params.model_dump(mode="json")
    return Training(key_of(numbers), numbers, NullTracker(), progress)


class Chain:
    """Runs stages in a project's own folders."""

    def __init__(self, params: Params, project: Any) -> None:
        self.params, self.project = params, project
        self.read: AttributeReader | None = None
        self.decide: FindPlaces | None = None
        self.models: Path = project.root / "data" / "models"
        self.encodings: Path = project.root / "data" / "manifests" / "encode.jsonl"
        self.inputs = {"index": project.index, "preprocess": project.preprocess}

    def seg(self, progress: Any = None, **changes: Any) -> dict[str, float]:
        params = changed(self.params, "train_seg", **changes)
        maps, out = self.project.label_maps, self.models / "seg"
        training = as_started(params, progress)
        return train_seg(params, **self.inputs, label_maps=maps, out=out, training=training)

    def cls(self, progress: Any = None, **changes: Any) -> dict[str, float]:
        params = changed(self.params, "train_cls", **changes)
        init, out = self.models / "seg", self.models / "cls"
        training = as_started(params, progress)
        inputs = {**self.inputs, "init": init}
        return train_cls(params, **inputs, out=out, training=training, read=self.read)

    def encode(self) -> None:
        encode_cases(self.params, **self.inputs, model=self.models / "cls", out=self.encodings)

    def report(
        self, volumes: bool = True, progress: Any = None, **changes: Any
    ) -> dict[str, float]:
        params = changed(self.params, "train_report", **changes)
        paths = ReportPaths(
            self.project.index,
            self.encodings,
            self.project.tokenizer,
            self.models / "seg",
            self.models / "cls",
            self.project.preprocess if volumes else None,
        )
        out, training = self.models / "report", as_started(params, progress)
        readers = Readers(self.decide, self.read)
        asked: dict[str, Any] = {"label": label, "training": training, "readers": readers}
        return train_report(params, paths=paths, out=out, **asked)

    def bytes_of(self, file: str) -> bytes:
        return (self.models / f"{file}.safetensors").read_bytes()

    def tensors(self, file: str) -> dict[str, torch.Tensor]:
        return load_file(self.models / f"{file}.safetensors")

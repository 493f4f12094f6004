"""Reports kept in the store a batch at a time, so that shares of `generate` can be put together.

    <store>/reports/<key[:2]>/<key>.jsonl    predictions of one batch of cases
    <store>/reports/<key[:2]>/<key>.json     why each report ended

The key is a digest of the code, the model, the parameters and the cases with their arrays. Without
a digest of the code nothing is kept: reports have no version to raise.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uvlm.config import Params
from uvlm.data.contract import contract_sha256
from uvlm.data.examples import Example
from uvlm.device import choose_precision
from uvlm.files import key_of, store_root, write_json_atomic
from uvlm.inference.decoding import Ended
from uvlm.inference.reading import Reading
from uvlm.inference.report_writer import ReportWriter
from uvlm.tables import read_text
from uvlm.text.predictions import CasePrediction, load_predictions, write_predictions

Written = tuple[list[CasePrediction], list[Ended]]


@dataclass(frozen=True, eq=False)
class KeptReports:
    """The reports of batches that were written before, here or by a share of the stage."""

    params: Params
    writer: ReportWriter
    source: Reading
    code: str

    def find(self, batch: Sequence[Example]) -> Written | None:
        """Return predictions in the order of the batch and why each ended, if they are kept."""
        path = self._path(batch)
        ends = path.with_suffix(".json")
        if not self.code or not ends.is_file():
            return None
        found = {prediction.case_id: prediction for prediction in load_predictions(path)}
        return [found[e.case_id] for e in batch], json.loads(read_text(ends))["ended"]

    def keep(self, batch: Sequence[Example], written: Written) -> None:
        """Store what was written of a batch."""
        predictions, ended = written
        if self.code:
            path = self._path(batch)
            write_predictions(path, predictions)
            # Last, because it says that the other file is there.
            write_json_atomic(path.with_suffix(".json"), {"ended": ended})

    def _path(self, batch: Sequence[Example]) -> Path:
        cases = [(e.case_id, e.case.patient_id, *self.source.digests(e)) for e in batch]
        key = key_of("reports", self.code, *self._settings(), cases)
        return store_root() / "reports" / key[:2] / f"{key}.jsonl"

    def _settings(self) -> list[Any]:
        """List what decides a report beside the cases of its batch."""
        params, model = self.params, self.writer.model
        numbers = [part.model_dump(mode="json") for part in (params.generate, params.injection)]
        precision = choose_precision(self.writer.device)
        prepared = contract_sha256(params.preprocess)
        return [params.seed, *numbers, model.sha256, prepared, precision]

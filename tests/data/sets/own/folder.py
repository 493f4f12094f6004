"""A person's folder of CTs and reports, and what the pipeline makes of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uvlm.config import FolderConfig, Params
from uvlm.data import index
from uvlm.data.cases import Case, read_index
from uvlm.data.ct.io import write_volume
from uvlm.data.ct.volume import Volume
from uvlm.data.sets.own.dataset import OwnData

FLAGS = [str(k % 2) for k in range(18)]


@dataclass
class Own:
    """A folder of a person, and what the pipeline makes of it."""

    folder: Path
    volume: Volume
    params: Params
    settings: dict[str, Any] = field(
        default_factory=lambda: {
            "table": "reports.csv",
            "id_column": "id",
            "findings_column": "report",
            "impression_column": None,
            "file_column": None,
            "patient_column": None,
            "split_column": None,
            "test_fraction": 0.25,
        }
    )
    labelled: list[str] = field(default_factory=list)

    @property
    def manifest(self) -> Path:
        return self.folder.with_name("download.jsonl")

    def ct(self, name: str, shift: int = 0) -> None:
        """Write a CT; those of different shifts differ."""
        array = (self.volume.array.astype(np.int16) + np.int16(shift)).astype(np.int16)
        write_volume(self.folder / name, Volume(array, self.volume.affine))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        with (self.folder / "reports.csv").open("w", newline="") as file:
            csv.writer(file).writerows([columns, *rows])

    def fetch(self, **changed: Any) -> None:
        self.settings |= changed

        def label(texts: Sequence[str]) -> list[list[int]]:
            self.labelled += texts
            return [[int("nodule" in text)] * 18 for text in texts]

        OwnData(FolderConfig(**self.settings), 0).fetch(self.manifest, label)

    def index(self) -> tuple[dict[str, Case], dict[str, str]]:
        """Give cases by id, and reason by refused case."""
        changed = {"source": "folder", "folder": FolderConfig(**self.settings)}
        download = self.params.download.model_copy(update=changed)
        params = self.params.model_copy(update={"download": download})
        out, quarantine = self.folder.with_name("index.jsonl"), self.folder.with_name("q.jsonl")
        summary = index.build(params, self.manifest, out, quarantine)
        refused = [json.loads(line) for line in quarantine.read_text().splitlines() if line]
        assert summary.candidates == sum(summary.kept.values()) + len(refused)
        return {c.case_id: c for c in read_index(out)}, {e["case"]: e["reason"] for e in refused}

    def state(self) -> dict[str, tuple[bytes, int, int]]:
        """Everything that could be changed in the person's folder."""
        return {
            path.relative_to(self.folder).as_posix(): (
                path.read_bytes(),
                path.stat().st_mtime_ns,
                path.stat().st_nlink,
            )
            for path in self.folder.rglob("*")
            if path.is_file()
        }

"""A hand-made data set in CT-RATE's and ReXGroundingCT's layout, small enough to see through."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from uvlm import store
from uvlm.config import LABEL_KINDS, LabelKind, Params, load_params
from uvlm.data import audit, index
from uvlm.data.cases import Case, mapped_cases, read_index
from uvlm.data.ct.io import write_findings_mask, write_label_map, write_volume
from uvlm.data.ct.volume import AxisOrder, LabelMap, Volume
from uvlm.data.index import IndexSummary
from uvlm.data.labels.label_maps import LabelMaps, join
from uvlm.data.labels.pseudo.stage import PseudoLabels
from uvlm.data.preprocess import Volumes
from uvlm.files import store_root
from uvlm.store import every_case
from uvlm.store.changed_code import Item
from uvlm.text.abnormalities import ABNORMALITIES

SHAPE = (10, 12, 14)
ORDER = AxisOrder((2, 0, 1), (True, False, True))  # how every file is laid out
AFFINE = np.array([[0.0, 0, 7, -40], [0, 7, 0, -50], [8, 0, 0, 60], [0, 0, 0, 1]])
LUNG, HEART, NODULE_HU = 10, 51, 60


@dataclass
class Dataset:
    """What is written below the store by `write`; tests change it first.

    Every volume holds a lung above a heart, ground glass in the lung and a nodule in that.
    """

    root: Path
    patients: list[str] = field(
        default_factory=lambda: (
            [f"train_{i}" for i in range(1, 9)] + [f"valid_{i}" for i in range(1, 4)]
        )
    )
    reports: dict[str, list[list[str]]] = field(default_factory=dict)
    labels: dict[str, list[list[str]]] = field(default_factory=dict)
    no_chest: list[str] = field(default_factory=list)
    without_findings_mask: set[str] = field(default_factory=set)
    rows: list[store.Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number, patient in enumerate(self.patients):
            case = f"{patient}_a_1"
            self.reports[case] = [["", "", f"Finding {number}.", "Not given."]]
            self.labels[case] = [[str(int((number + k) % 2)) for k in range(18)]]

    @property
    def index(self) -> Path:
        """The index manifest, made from what has been written."""
        return self.root / "index.jsonl"

    @property
    def manifest(self) -> Path:
        """The download manifest."""
        return self.root / "download.jsonl"

    def write(self) -> None:
        """Write volumes, masks, tables and the manifest."""
        self.rows.clear()
        for patient in self.patients:
            self._write_files(f"{patient}_a_1")
        dataset = "ct_rate/dataset"
        for prefix, name in (("train", "train"), ("valid", "validation")):
            columns = ["ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN"]
            path = f"{dataset}/radiology_text_reports/{name}_reports.csv"
            self.table(path, columns, self.reports, prefix)
            path = f"{dataset}/multi_abnormality_labels/{prefix}_predicted_labels.csv"
            self.table(path, list(ABNORMALITIES), self.labels, prefix)
        lines = "".join(f"train/x/{case}.nii.gz\n" for case in self.no_chest)
        self.text(f"{dataset}/metadata/no_chest_train.txt", lines)
        drawn = [p for p in self.patients if p not in self.without_findings_mask]
        entries = [{"name": f"{p}_a_1.nii.gz", "categories": {"0": "2c", "1": "2d"}} for p in drawn]
        self.text(
            "rexgroundingct/dataset.json", json.dumps({"train": entries, "val": [], "test": []})
        )
        store.write_manifest(self.manifest, self.rows)

    def table(
        self, path: str, columns: list[str], rows: Mapping[str, list[list[str]]], prefix: str
    ) -> None:
        """Write one CSV table of a part."""
        target = self.raw(path)
        with target.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["VolumeName", *columns])
            for case, records in rows.items():
                if case.startswith(prefix):
                    writer.writerows([f"{case}.nii.gz", *record] for record in records)
        self.add(path, "0" * 64)

    def text(self, path: str, content: str) -> None:
        """Write one text file."""
        self.raw(path).write_text(content, encoding="utf-8")
        self.add(path, "0" * 64)

    def raw(self, path: str) -> Path:
        """Where a file of the data set lies."""
        target = store_root() / "raw/hand" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def add(self, path: str, sha256: str) -> None:
        """Name a file in the manifest."""
        self.rows.append(store.Row(path, "hand", f"raw/hand/{path}", sha256, "hand:0"))

    def _write_files(self, case: str) -> None:
        split, patient, scan, _ = case.split("_")
        folder = f"{split}_fixed/{split}_{patient}/{split}_{patient}_{scan}/{case}.nii.gz"
        affine = ORDER.stored_affine(AFFINE, SHAPE)
        hu, total, lesions = body(int(patient) + 100 * (split == "valid"))
        files: dict[str, npt.NDArray[Any]] = {
            f"ct_rate/dataset/{folder}": hu,
            f"ct_rate/dataset/ts_seg/ts_total/{folder}": total,
            f"phantom_masks/airway/{case}.nii.gz": np.zeros(SHAPE, np.uint8),
            f"phantom_masks/vessel/{case}.nii.gz": np.where(total == LUNG, 3, 0).astype(np.uint8),
        }
        for path, array in files.items():
            stored = ORDER.backward(array)
            if array.dtype == np.int16:
                write_volume(self.raw(path), Volume(stored, affine))
            else:
                write_label_map(self.raw(path), LabelMap(stored, affine))
            self.add(path, store.array_sha256(stored))
        if f"{split}_{patient}" not in self.without_findings_mask:
            path = f"rexgroundingct/segmentations/{case}.nii.gz"
            stored = ORDER.backward(lesions)
            write_findings_mask(self.raw(path), stored)
            self.add(path, store.array_sha256(stored))


def body(seed: int) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """A lung above a heart, ground glass in the lung and a nodule of one voxel in that."""
    total = np.zeros(SHAPE, np.uint8)
    total[5:9, 3:9, 3:11] = LUNG
    total[2:5, 3:9, 3:11] = HEART
    lesions = np.zeros((2, *SHAPE), np.uint8)
    lesions[0, 6:8, 4:8, 4:8] = 1
    lesions[1, 7, 5, 5] = 1
    noise = np.random.default_rng(seed).normal(0, 15, SHAPE)
    tissue = np.select([total == LUNG, total == HEART], [-850.0, 40.0], -1000.0)
    hu = np.where(lesions.any(axis=0), NODULE_HU, tissue) + noise
    return hu.astype(np.int16), total, lesions


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A data set that has not been written yet, in a store of its own."""
    monkeypatch.setenv("UVLM_DATA_ROOT", str(tmp_path / "store"))
    return Dataset(tmp_path)


@pytest.fixture
def params(root: Path) -> Params:
    """The phantom profile with a small grid and room for refusals."""
    phantom = load_params(root / "params.yaml")
    preprocess = phantom.preprocess.model_copy(update={"grid": (8, 10, 12)})
    index = phantom.index.model_copy(update={"max_quarantined_share": 1.0, "val_fraction": 0.25})
    encoder = phantom.encoder.model_copy(update={"strides": (1, 2, 2, 1, 1, 1)})
    train_seg = phantom.train_seg.model_copy(update={"patch": (8, 8, 8)})
    sections = {
        "preprocess": preprocess,
        "index": index,
        "encoder": encoder,
        "train_seg": train_seg,
    }
    return phantom.model_copy(update=sections)


class Stages:
    """The data stages over one data set, each with its manifest, below `root`."""

    def __init__(
        self, params: Params, root: Path, prepare: Callable[[], object] = lambda: None
    ) -> None:
        self.params, self.root, self.prepare = params, root, prepare
        self.code = ""  # digest of the stages' code

    def manifest(self, stage: str) -> Path:
        return self.root / f"{stage}.jsonl"

    def reasons(self, stage: str) -> dict[str, str]:
        lines = (self.root / f"quarantine/{stage}.jsonl").read_text().splitlines()
        return {entry["case"]: entry["reason"] for entry in map(json.loads, filter(None, lines))}

    def index(self) -> IndexSummary:
        self.prepare()
        quarantine = self.root / "quarantine/index.jsonl"
        return index.build(
            self.params, self.manifest("download"), self.manifest("index"), quarantine
        )

    def preprocess(self) -> dict[str, int]:
        return self._every_case(Volumes.of(self.params), self.cases(), "preprocess")

    def pseudo_label(self, kind: LabelKind) -> dict[str, int]:
        labels = PseudoLabels.of(self.params, kind)
        return self._every_case(labels, mapped_cases(self.cases(), self.params.label_maps), kind)

    def label_maps(self) -> dict[str, int]:
        parts, maps = {kind: self.manifest(kind) for kind in LABEL_KINDS}, LabelMaps.of(self.params)
        manifests = self.manifest("index"), self.manifest("preprocess")
        jobs, unannotated = join(self.params.label_maps, *manifests, parts)
        return self._every_case(maps, jobs, "label_maps") | {"unannotated": unannotated}

    def cases(self) -> list[Case]:
        return read_index(self.manifest("index"))

    def _every_case(
        self, product: store.Product[Item], items: Sequence[Item], name: str
    ) -> dict[str, int]:
        limit = self.params.index.max_quarantined_share
        quarantine = self.root / f"quarantine/{product.title.replace('@', '_')}.jsonl"
        return every_case.run(
            product, items, self.manifest(name), limit, quarantine, code=self.code
        )

    def audit(self) -> dict[str, Any]:
        return audit.run(
            self.params,
            index=self.manifest("index"),
            preprocess=self.manifest("preprocess"),
            label_maps=self.manifest("label_maps"),
            fitted=[self.root],
            quarantine=self.root / "quarantine",
            out=self.root / "audit.json",
        )

    def all(self) -> None:
        self.index()
        self.preprocess()
        for kind in LABEL_KINDS:
            self.pseudo_label(kind)
        self.label_maps()


@pytest.fixture(scope="session")
def make_stages() -> Callable[..., Stages]:
    """Make the stages over a data set that a test writes itself."""
    return Stages


@pytest.fixture
def stages(dataset: Dataset, params: Params) -> Stages:
    return Stages(params, dataset.root, dataset.write)


@pytest.fixture(scope="session")
def chest() -> Callable[..., npt.NDArray[np.int16]]:
    """Noise around the values of air, lung, fat and soft tissue, in any shape."""

    def draw(*shape: int) -> npt.NDArray[np.int16]:
        generator = np.random.default_rng(0)
        tissue = generator.choice([-1000, -850, -90, 40, 60, 300], shape)
        return (tissue + generator.normal(0, 10, shape)).astype(np.int16)

    return draw


@pytest.fixture
def volume(chest: Callable[..., npt.NDArray[np.int16]]) -> Volume:
    """A small CT that is not in canonical order."""
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = [3.0, -0.7, 0.8]
    affine[:, 3] = [10.0, -20.0, 30.0, 1.0]
    return Volume(chest(10, 12, 14), affine)


@pytest.fixture
def path(tmp_path: Path, volume: Volume) -> Path:
    """The small CT as a file."""
    write_volume(tmp_path / "ct.nii.gz", volume)
    return tmp_path / "ct.nii.gz"

"""A project of a few tiny cases: a bright ball is the abnormality, its side decides which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.train.chain import Chain
from uvlm.config import Params, parse_params
from uvlm.data.cases import Case, Split, write_index
from uvlm.data.contract import contract_sha256, volume_statistics
from uvlm.data.ct.grid import Geometry
from uvlm.files import store_root
from uvlm.store import Row, save_array, write_manifest
from uvlm.text.tokenizer import train_tokenizer

GRID = (8, 16, 16)
LESION = 44  # a lesion id of the scheme fine_lesion
SPLITS: tuple[Split, ...] = (*("train",) * 8, *("val",) * 4, *("test",) * 2)
CHANGES = {
    "preprocess": {"grid": GRID},
    "encoder": {
        "channels": [4, 4, 8, 8, 8, 8],
        "strides": [1, 2, 2, 1, 1, 1],
        "blocks": [1] * 6,
        "decoder_convs": 1,
    },
    "classifier": {"num_queries": 4, "heads": 2},
    "decoder": {"layers": 6, "dropout": 0.1, "max_report_tokens": 40},
    "train_seg": {"patch": [8, 8, 8], "steps": 4, "val_every": 2},
    "train_cls": {"steps": 4, "val_every": 2},
    "train_report": {"steps": 4, "val_every": 4},
}


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def params(tiny_document: dict[Any, Any]) -> Params:
    for section, values in CHANGES.items():
        tiny_document[section] |= values
    return parse_params(tiny_document, "tests")


@dataclass(frozen=True)
class Project:
    """Manifests of a small finished data part."""

    root: Path
    index: Path
    preprocess: Path
    label_maps: Path
    tokenizer: Path


@pytest.fixture
def project(tmp_path: Path, params: Params) -> Project:
    cases, volumes, maps = [], [], []
    for number, split in enumerate(SPLITS):
        case = _case(number, split)
        hu, labels = _ball(number)
        cases.append(case)
        volumes.append(_volume_row(case, hu, params))
        path = f"label_maps/{case.case_id}.b2nd"
        digest = save_array(store_root() / path, labels)
        counts = np.bincount(labels.ravel())
        voxels = {str(c): int(n) for c, n in enumerate(counts) if n}
        maps.append(Row(case.case_id, case.case_id, path, digest, "test", {"voxels": voxels}))
    folder = tmp_path / "data" / "manifests"
    made = Project(
        tmp_path,
        folder / "index.jsonl",
        folder / "preprocess.jsonl",
        folder / "label_maps.jsonl",
        tmp_path / "data" / "models" / "tokenizer",
    )
    write_index(made.index, cases)
    write_manifest(made.preprocess, volumes)
    write_manifest(made.label_maps, maps)
    texts = [case.report.text for case in cases if case.split == "train"]
    train_tokenizer(texts, params.tokenizer.vocabulary_size).save(made.tokenizer)
    return made


def _case(number: int, split: Split) -> Case:
    """Abnormality 0 on one side, 1 on the other, so that a text can say which."""
    side = "left" if number % 2 else "right"
    flags = tuple(int(a == number % 2) for a in range(18))
    return Case(
        case_id=f"case_{number:02d}",
        scan_id=f"scan_{number:02d}",
        patient_id=f"patient_{number:02d}",
        split=split,
        volume="unused",
        findings_mask=None,
        finding_categories={},
        abnormalities=flags,
        findings=f"There is a ball on the {side}.",
        impression=f"Ball {side}.",
    )


def _ball(number: int) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """Air, an organ (class 1) in the middle, a ball (a lesion) left or right of it."""
    rng = np.random.default_rng(number)
    z, y, x = np.indices(GRID)
    labels = np.zeros(GRID, dtype=np.uint8)
    labels[(abs(z - 4) < 3) & (abs(y - 8) < 5) & (abs(x - 8) < 3)] = 1
    centre = (4, int(rng.integers(6, 10)), 13 if number % 2 else 3)
    distance = sum((axis - c) ** 2 for axis, c in zip((z, y, x), centre, strict=True))
    labels[distance < 6] = LESION
    hu = np.select([labels == LESION, labels == 1], [800, 50], -900)
    return (hu + rng.normal(0, 20, GRID)).round().astype(np.int16), labels


def _volume_row(case: Case, hu: npt.NDArray[np.int16], params: Params) -> Row:
    path = f"preprocess/{case.case_id}.b2nd"
    digest = save_array(store_root() / path, hu)
    mean, std = volume_statistics(hu)
    affine = np.diag([2.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]]
    extra = {
        "shape": list(GRID),
        "mean": mean,
        "native": Geometry(GRID, affine, GRID, (1, 1, 1)).to_json(),
        "std": std,
        "contract_sha256": contract_sha256(params.preprocess),
    }
    return Row(case.case_id, case.case_id, path, digest, "test", extra)


@pytest.fixture
def chain(params: Params, project: Project) -> Chain:
    return Chain(params, project)

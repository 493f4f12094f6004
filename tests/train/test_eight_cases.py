"""Each training, as the pipeline runs it, learns eight phantoms by heart.

The validation cases are copies of the training cases, so its scores are those of the fit. Every
case shows six or seven of the 18 abnormalities; its report has about a hundred words of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from uvlm.config import Params, parse_params
from uvlm.data.cases import Case, Split, write_index
from uvlm.data.contract import contract_sha256, volume_statistics
from uvlm.data.label_scheme import fine_classes
from uvlm.data.sets.phantom.anatomy import Body
from uvlm.data.sets.phantom.reports import write_report
from uvlm.data.sets.phantom.scan import draw_scan, reconstruct
from uvlm.evaluation.bleu import corpus_bleu
from uvlm.evaluation.labelling.phantom import PhantomLabeller
from uvlm.files import store_root
from uvlm.inference.decoding import Decoding
from uvlm.inference.encode import encode_cases, split_stages
from uvlm.inference.writing import write_reports
from uvlm.model.load import load_report_model
from uvlm.seeding import generator
from uvlm.store import Row, load_array, resolve, rows_by_case, save_array, write_manifest
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.tokenizer import Tokenizer, train_tokenizer
from uvlm.tracking import NullTracker, Training
from uvlm.train.cls import train_cls
from uvlm.train.report import train_report
from uvlm.train.report_data import ReportPaths
from uvlm.train.seg import train_seg

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

GRID = (16, 24, 24)
COUNT = 8
CHANGES: dict[str, dict[str, Any]] = {
    "preprocess": {"grid": GRID},
    "encoder": {"channels": [16, 32, 48, 64, 64, 64]},
    "decoder": {"layers": 6, "width": 64, "heads": 4, "ffn": 256, "dropout": 0.0},
    "tokenizer": {"vocabulary_size": 600},
    "train_seg": {"patch": GRID, "steps": 280, "val_every": 280},
    "train_cls": {"steps": 8, "val_every": 4, "head_warmup_steps": 80},
    "train_report": {"steps": 250, "val_every": 250, "batch_size": 8, "feature_noise_std": 0.0},
}
CHANGES["decoder"]["max_report_tokens"] = 256
CHANGES["train_cls"]["head_warmup_batch_size"] = 8
TRAINING = Training("eight", {}, NullTracker())
SILENT = dict.fromkeys(("noise_std", "shift_std", "scale_std", "gamma_std"), 0.0)


@pytest.fixture
def params(tiny_document: dict[Any, Any]) -> Params:
    for section, values in CHANGES.items():
        tiny_document[section] |= values
    for stage in ("train_seg", "train_cls", "train_report"):
        tiny_document[stage]["augment"] |= {**SILENT, "roll_voxels": [0, 0, 0]}
        tiny_document[stage] |= {"val_cases": COUNT, "balanced_fraction": 0.0}
        tiny_document[stage]["optim"]["warmup_steps"] = 10
    return parse_params(tiny_document, "tests")


class Eight:
    """Manifests of eight phantoms, each as a training and as a validation case."""

    def __init__(self, params: Params, root: Path) -> None:
        self.params, self.models = params, root / "models"
        self.index, self.preprocess = root / "index.jsonl", root / "preprocess.jsonl"
        self.label_maps, self.encodings = root / "label_maps.jsonl", root / "encode.jsonl"
        self.cases: list[Case] = []
        volumes: list[Row] = []
        maps: list[Row] = []
        for number in range(COUNT):
            self._add(number, volumes, maps)
        write_index(self.index, self.cases)
        write_manifest(self.preprocess, volumes)
        write_manifest(self.label_maps, maps)
        texts = [case.report.text for case in self.cases]
        assert len(set(texts)) == COUNT
        train_tokenizer(texts, params.tokenizer.vocabulary_size).save(self.models / "tokenizer")

    def _add(self, number: int, volumes: list[Row], maps: list[Row]) -> None:
        flags = tuple(int((a + number) % 4 == 0 or (3 * a + number) % 8 == 1) for a in range(18))
        names = [name for name, flag in zip(ABNORMALITIES, flags, strict=True) if flag]
        draws = generator(number, "eight")
        scan = draw_scan(Body.draw(draws), names, GRID, draws)
        text = write_report(scan.findings, draws)
        hu = reconstruct(scan.hu, 15.0, draws)
        labels = scan.organs.copy()
        for lesion in scan.lesions:
            class_id = fine_classes("chest").lesion_id_by_category[lesion.category]
            labels[lesion.instances > 0] = class_id
        paths = [f"{stage}/{number}.b2nd" for stage in ("preprocess", "label_maps")]
        digests = [
            save_array(store_root() / paths[0], hu),
            save_array(store_root() / paths[1], labels),
        ]
        mean, std = volume_statistics(hu)
        volume = {"shape": list(GRID), "mean": mean, "std": std}
        volume["contract_sha256"] = contract_sha256(self.params.preprocess)
        counts = {str(c): int(n) for c, n in enumerate(np.bincount(labels.ravel())) if n}
        splits: tuple[Split, ...] = ("train", "val")
        for split in splits:
            name = f"{split}_{number}"
            self.cases.append(
                Case(
                    case_id=name, scan_id=name, patient_id=name, split=split, volume="unused",
                    findings_mask=None, finding_categories={}, abnormalities=flags,
                    findings=text.findings, impression=text.impression,
                )
            )  # fmt: skip
            volumes.append(Row(name, name, paths[0], digests[0], "test", volume))
            maps.append(Row(name, name, paths[1], digests[1], "test", {"voxels": counts}))

    def seg(self, steps: int | None = None) -> dict[str, float]:
        params = self.params
        if steps is not None:
            section = params.train_seg.model_copy(update={"steps": steps})
            params = params.model_copy(update={"train_seg": section})
        return train_seg(
            params,
            index=self.index,
            preprocess=self.preprocess,
            label_maps=self.label_maps,
            out=self.models / "seg",
            training=TRAINING,
        )

    def cls(self) -> dict[str, float]:
        return train_cls(
            self.params,
            index=self.index,
            preprocess=self.preprocess,
            init=self.models / "seg",
            out=self.models / "cls",
            training=TRAINING,
        )

    def report(self) -> dict[str, float]:
        encode_cases(
            self.params,
            index=self.index,
            preprocess=self.preprocess,
            model=self.models / "cls",
            out=self.encodings,
        )
        folders = [self.models / name for name in ("tokenizer", "seg", "cls")]
        return train_report(
            self.params,
            paths=ReportPaths(self.index, self.encodings, *folders),
            out=self.models / "report",
            label=PhantomLabeller().label,
            training=TRAINING,
        )

    def written(self) -> list[str]:
        """Reports of the training cases, by the saved model."""
        model = load_report_model(self.models / "report")
        tokenizer = Tokenizer.load(self.models / "tokenizer")
        rows = rows_by_case(self.encodings)
        arrays = [load_array(resolve(rows[case.case_id], "encode")) for case in self.training]
        tokens = torch.from_numpy(np.stack(arrays).astype(np.float32))
        visual = split_stages(tokens, self.params.encoder.channels)
        limit = self.params.decoder.max_report_tokens
        written = write_reports(model.uvlm, visual, Decoding(limit))
        return [tokenizer.decode(report.ids) for report in written]

    @property
    def training(self) -> list[Case]:
        return [case for case in self.cases if case.split == "train"]


@pytest.fixture
def eight(params: Params, tmp_path: Path) -> Eight:
    return Eight(params, tmp_path)


def test_segmentation_reaches_dice_098(eight: Eight) -> None:
    metrics = eight.seg()
    assert metrics["val_dice"] >= 0.98
    assert metrics["val_lesion_dice"] >= 0.98


def test_classification_and_reports_become_exact(eight: Eight) -> None:
    eight.seg(steps=0)
    metrics = eight.cls()
    assert metrics["val_macro_f1"] == 1.0
    assert metrics["val_macro_auroc"] == 1.0
    metrics = eight.report()
    assert metrics["val_macro_f1"] == 1.0
    truth = [case.report.text for case in eight.training]
    assert corpus_bleu(truth, eight.written())["bleu_mean"] == pytest.approx(1.0, abs=1e-6)

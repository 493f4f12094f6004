"""Every arm trains on `chest` and on `abdomen`, with tiny widths and three steps a stage."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.arms.random_qwen import random_qwen
from pipeline.arms.read import arm_names, read_arm, read_method
from pipeline.arms.resolve import ComposedArm, compose_on
from pipeline.profiles import compose, with_values
from tests.train.chain import as_started
from tests.train.conftest import GRID, SPLITS
from uvlm.config import Params
from uvlm.data.cases import Case, write_index
from uvlm.data.contract import contract_sha256, volume_statistics
from uvlm.data.label_scheme import scheme
from uvlm.files import store_root
from uvlm.inference.classify import classify_cases
from uvlm.inference.encode import encode_cases
from uvlm.inference.generate import generate_reports
from uvlm.store import Row, save_array, write_manifest
from uvlm.text.predictions import load_predictions
from uvlm.text.tokenizer import run as run_tokenizer
from uvlm.train.cls import train_cls
from uvlm.train.report import train_report
from uvlm.train.report_data import ReportPaths
from uvlm.train.seg import train_seg

ROOT = Path(__file__).parents[2]
TINY: dict[str, Any] = {
    "preprocess.grid": list(GRID), "encoder.channels": [4, 4, 8, 8, 8, 8],
    "encoder.strides": [1, 2, 2, 1, 1, 1], "encoder.blocks": [1] * 6, "classifier.num_queries": 4,
    "classifier.heads": 2, "tokenizer.kind": "bpe", "tokenizer.vocabulary_size": 300,
    "decoder.width": 16, "decoder.heads": 2, "decoder.ffn": 32, "decoder.max_report_tokens": 24,
    "train_seg.patch": [8, 8, 8], "generate.batch_size": 2,
    **{f"train_{stage}.{key}": value for stage in ("seg", "cls", "report") for key, value in {
        "steps": 3, "batch_size": 2, "val_every": 3, "val_cases": 2, "log_every": 1,
        "checkpoint_minutes": 0}.items()},
}  # fmt: skip


class Data:
    """Eight training cases, four of validation, two of test: an organ and a ball beside it."""

    def __init__(self, params: Params, root: Path) -> None:
        self.root, self.params = root, params
        self.num_flags = 18 if params.label_maps.dataset == "chest" else 3
        self.index, self.preprocess = root / "index.jsonl", root / "preprocess.jsonl"
        cases = [self._case(number) for number in range(len(SPLITS))]
        self.texts = [case.report.text for case in cases if case.split == "train"]
        write_index(self.index, cases)
        write_manifest(self.preprocess, [self._volume(case.case_id) for case in cases])

    def label_maps(self, params: Params) -> Path:
        """Draw the same places in the classes of the arm's scheme."""
        kind = params.label_maps.scheme
        lesions = sorted(scheme(params.label_maps.dataset, kind).lesion_ids)
        rows = []
        for number in range(len(SPLITS)):
            labels = np.zeros(GRID, np.uint8)
            labels[2:6, 4:12, 6:10] = 1
            labels[3:6, 6:9, 12:15] = lesions[0] if lesions else 0
            path = f"label_maps/{kind}_{number}.b2nd"
            digest = save_array(store_root() / path, labels)
            voxels = {str(c): int(n) for c, n in enumerate(np.bincount(labels.ravel())) if n}
            name = f"case_{number:02d}"
            rows.append(Row(name, name, path, digest, "test", {"voxels": voxels}))
        write_manifest(out := self.root / f"label_maps_{kind}.jsonl", rows)
        return out

    def _case(self, number: int) -> Case:
        side, flags = "left" if number % 2 else "right", np.zeros(self.num_flags, int)
        flags[number % 2] = 1
        name = f"case_{number:02d}"
        return Case(
            name, f"scan_{number}", f"patient_{number}", SPLITS[number], "unused", None, {},
            tuple(map(int, flags)), f"There is a ball on the {side}.", f"Ball {side}.",
        )  # fmt: skip

    def _volume(self, name: str) -> Row:
        hu = np.random.default_rng(int(name[-2:])).normal(0, 300, GRID).round().astype(np.int16)
        path = f"preprocess/{name}.b2nd"
        digest = save_array(store_root() / path, hu)
        mean, std = volume_statistics(hu)
        extra = {"shape": list(GRID), "mean": mean, "std": std}
        extra["contract_sha256"] = contract_sha256(self.params.preprocess)
        return Row(name, name, path, digest, "test", extra)

    def label(self, texts: Sequence[str]) -> npt.NDArray[Any]:
        """Read the side: right is the first abnormality, left the second."""
        rest = [0] * (self.num_flags - 2)
        return np.array([[int("right" in text), int("left" in text), *rest] for text in texts])


def run_arm(arm: ComposedArm, data: Data, out: Path) -> int:
    """Train and apply every stage of an arm; return how many trainings it had."""
    params, training = arm.params, as_started(arm.params)
    inputs: dict[str, Any] = {"index": data.index, "preprocess": data.preprocess}
    maps, predictions = data.label_maps(params), out / "predictions.jsonl"
    seg, cls, report = (out / name for name in ("seg", "cls", "report"))
    train_seg(params, **inputs, label_maps=maps, out=seg, training=training)
    train_cls(params, **inputs, init=seg, out=cls, training=training)
    steps = [params.train_seg.steps, params.train_cls.steps]
    if arm.arm.last_stage == "classify":
        classify_cases(params, **inputs, model=cls, predictions=predictions)
    else:
        steps.append(params.train_report.steps)
        run_tokenizer(params.tokenizer, data.texts, out / "tokenizer")
        encodings = out / "encode.jsonl"
        encode_cases(params, **inputs, model=cls, out=encodings)
        volumes = data.preprocess if params.train_report.encoder_lr_scale else None
        paths = ReportPaths(data.index, encodings, out / "tokenizer", seg, cls, volumes)
        train_report(params, paths=paths, out=report, label=data.label, training=training)
        generate_reports(
            params, **inputs, encodings=encodings, label_maps=maps, model=report, seg=seg,
            predictions=predictions, masks=out / "generate.jsonl",
        )  # fmt: skip
    said = load_predictions(predictions)
    assert len(said) == SPLITS.count("test")
    assert all(bool(p.probabilities) == bool(params.train_cls.steps) for p in said)
    return sum(count > 0 for count in steps)


def composed(profile: str, name: str) -> ComposedArm:
    document = with_values(compose(ROOT, profile), TINY, profile)
    return compose_on(document, read_method(ROOT), read_arm(ROOT, name), profile, 0)


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["chest", "abdomen"])
def test_every_arm_trains_and_is_applied(
    profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVLM_QWEN3", str(random_qwen(tmp_path / "qwen")))
    names = [name for name in arm_names(ROOT) if read_arm(ROOT, name).trained_as == name]
    data = Data(composed(profile, names[0]).params, tmp_path)
    trainings = 0
    for name in names:
        out = tmp_path / name
        trainings += run_arm(composed(profile, name), data, out)
        shutil.rmtree(out)
    print(f"{profile}: {len(names)} arms, {trainings} trainings")  # noqa: T201
    assert len(names) >= 21


@pytest.mark.slow
@pytest.mark.parametrize("name", ["table4_01", "table5_11"])
def test_an_arm_trains_and_is_applied(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm = composed("abdomen", name)
    expected = {"table4_01": 1, "table5_11": 3}
    assert run_arm(arm, Data(arm.params, tmp_path), tmp_path / name) == expected[name]


@pytest.mark.slow
def test_the_random_qwen3_is_the_same_everywhere_and_says_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (random_qwen(tmp_path / name) for name in ("one", "other"))
    for file in ("config.json", "tokenizer.json", "model.safetensors"):
        assert (one / file).read_bytes() == (other / file).read_bytes(), file
    monkeypatch.setenv("UVLM_QWEN3", str(one))
    arm = composed("chest", "table5_12")
    assert arm.notes == ("random weights, not Qwen3-4B's",)
    monkeypatch.delenv("UVLM_QWEN3")
    assert composed("chest", "table5_12").overrides == arm.overrides

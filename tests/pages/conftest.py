"""A finished run in miniature: everything the summary page reads, made by the real functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.mask_files import PARTS, MaskFiles
from uvlm.config import Params, load_params
from uvlm.data.cases import Case, Split, write_index
from uvlm.data.label_scheme import scheme
from uvlm.data.sets.phantom.reports import PlantedFinding, write_report
from uvlm.evaluation.evaluate import evaluate
from uvlm.evaluation.labeller import get_phrases
from uvlm.evaluation.native_masks import MaskManifests
from uvlm.files import write_json_atomic
from uvlm.pages.summary import StageCost, SummaryInputs
from uvlm.store import Refusal, write_quarantine
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.tracking import JsonlTracker

PROJECT = Path(__file__).parents[2]
SHAPE = (12, 48, 48)
SIZES: dict[Split, int] = {"train": 120, "val": 20, "test": 40}
NEVER_FOUND = ABNORMALITIES.index("Lung nodule")


@pytest.fixture(scope="session")
def params() -> Params:
    loaded = load_params(PROJECT / "params.yaml")
    section = loaded.evaluate.model_copy(update={"bootstrap_samples": 200, "meteor": False})
    goals = (("report.macro_f1", 0.7), ("report.above_trivial", 0.25), ("cls.macro_auroc", 0.99))
    shown = loaded.summarize.model_copy(update={"goals": goals})
    return loaded.model_copy(update={"evaluate": section, "summarize": shown})


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, params: Params) -> SummaryInputs:
    root = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UVLM_DATA_ROOT", str(root / "store"))
        return write_run(root, params)


def write_run(root: Path, params: Params) -> SummaryInputs:
    rng = np.random.default_rng(0)
    cases = [make_case(split, n, rng) for split, size in SIZES.items() for n in range(size)]
    test = [case for case in cases if case.split == "test"]
    write_predictions(root / "predictions.jsonl", test, rng)
    masked = write_arrays(root, [case for case in cases if case.split != "train"], rng)
    write_index(root / "index.jsonl", [case for case in cases if case.split == "train"] + masked)
    thresholds = dict.fromkeys(ABNORMALITIES, 0.45) | {"temperature": 0.8}
    write_json_atomic(root / "thresholds.json", thresholds)
    evaluate(
        params,
        index=root / "index.jsonl",
        masks=MaskManifests(
            volumes=root / "preprocess.jsonl",
            label_maps=root / "label_maps.jsonl",
            generated=root / "generate.jsonl",
            parts={kind: root / f"{kind}.jsonl" for kind in PARTS},
        ),
        predictions=root / "predictions.jsonl",
        thresholds=root / "thresholds.json",
        out=root / "metrics.json",
        per_class=root / "per_class.json",
        claims=root / "claims.json",
    )
    refusals = [
        Refusal("train_7_a_1", "a/train_7_a_1.nii.gz", "truncated_gzip", "ends early", "again"),
        Refusal("train_9_a_1", "a/train_9_a_1.nii.gz", "non_finite", "8 voxels are NaN", "remove"),
    ]
    write_quarantine(root / "quarantine" / "index.jsonl", [])
    write_quarantine(root / "quarantine" / "preprocess.jsonl", refusals)
    stages = {"train_seg": 1000, "train_cls": 100, "train_report": 500}
    account = {"name": "reports", "rows": 9, "kept": 7, "excluded": {"no_chest": 2}}
    write_json_atomic(root / "index.json", {"accounts": [account]})
    return SummaryInputs(
        index=root / "index.jsonl",
        preprocess=root / "preprocess.jsonl",
        label_maps=root / "label_maps.jsonl",
        generated_masks=root / "generate.jsonl",
        predictions=root / "predictions.jsonl",
        metrics=root / "metrics.json",
        per_class=root / "per_class.json",
        claims=root / "claims.json",
        quarantine=root / "quarantine",
        accounts=[root / "index.json"],
        histories={stage: write_history(root, stage, steps) for stage, steps in stages.items()},
        phrases=get_phrases("phantom"),
        costs=[StageCost("download", 14.2, 310.0), *(StageCost(s, 98.7, 912.0) for s in stages)],
        facts={"torch": "2.13.0", "params.yaml sha256": "3f9a2c0be1d4"},
    )


def make_case(split: Split, number: int, rng: np.random.Generator) -> Case:
    planted = rng.random(len(ABNORMALITIES)) < 0.25
    name = f"{'valid' if split == 'test' else 'train'}_{SIZES['train'] * (split == 'val') + number}"
    text = write_report(findings(planted, rng), rng)
    return Case(
        case_id=f"{name}_a_1",
        scan_id=f"{name}_a",
        patient_id=name,
        split=split,
        volume=f"raw/{name}.nii.gz",
        findings_mask=None,
        finding_categories={},
        abnormalities=tuple(int(p) for p in planted),
        findings=text.findings,
        impression=text.impression,
    )


def findings(planted: npt.NDArray[np.bool_], rng: np.random.Generator) -> list[PlantedFinding]:
    return [
        PlantedFinding(
            name,
            side=rng.choice(["right", "left", "bilateral"]),
            lobe=rng.choice(["upper", "lower"]),
            size=rng.choice(["small", "large"]),
        )
        for name, is_planted in zip(ABNORMALITIES, planted, strict=True)
        if is_planted
    ]


def write_predictions(path: Path, cases: Sequence[Case], rng: np.random.Generator) -> None:
    """Reports that find most abnormalities, but never a nodule."""
    lines = []
    for case in cases:
        truth = np.asarray(case.abnormalities, dtype=bool)
        claimed = truth ^ (rng.random(len(truth)) < 0.07)
        probabilities = np.clip(0.25 + 0.5 * claimed + rng.normal(0, 0.1, len(truth)), 0, 1)
        claimed[NEVER_FOUND], probabilities[NEVER_FOUND] = False, rng.random()
        text = write_report(findings(claimed, rng), rng)
        row = {
            "case_id": case.case_id,
            "patient_id": case.patient_id,
            "report": f"Findings: {text.findings} Impressions: {text.impression}",
            "probabilities": dict(zip(ABNORMALITIES, probabilities.tolist(), strict=True)),
            "nearest": f"train_{rng.integers(SIZES['train'])}_a_1",
            "model": "0123456789ab",
            "seconds": 0.2,
        }
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_arrays(root: Path, cases: Sequence[Case], rng: np.random.Generator) -> list[Case]:
    """A chest of ellipses per case: image, true labels, labels predicted one voxel off."""
    names = scheme("chest", "fine_lesion").names
    lesions = sorted(scheme("chest", "fine_lesion").lesion_ids)
    files, masked = MaskFiles(), []
    z, y, x = np.indices(SHAPE)
    for case in cases:
        labels = np.zeros(SHAPE, np.uint8)
        image = np.full(SHAPE, -1000, np.int16)
        body = ((y - 24) / 20) ** 2 + ((x - 24) / 23) ** 2 < 1
        image[body] = 40
        organs = [("lung_upper_lobe_right", 14, -850), ("lung_upper_lobe_left", 34, -850)]
        for name, centre, hu in [*organs, ("heart", 26, 60)]:
            radius = 6 if name == "heart" else 8
            inside = ((y - 23) / (radius + 5)) ** 2 + ((x - centre) / radius) ** 2 < 1
            labels[inside] = names.index(name)
            image[inside] = hu
        for lesion in rng.choice(lesions, 3, replace=False):
            row, column = rng.integers(12, 36, 2)
            ball = (y - row) ** 2 + (x - column) ** 2 + (3 * (z - 6)) ** 2
            labels[ball < rng.integers(9, 40)] = lesion
        image += rng.normal(0, 25, SHAPE).astype(np.int16)
        image[labels >= min(lesions)] = -300
        masked.append(files.add(case, labels, np.roll(labels, 1, axis=2), image))
    files.write(root)
    return masked


def write_history(root: Path, stage: str, steps: int) -> Path:
    tracker = JsonlTracker(root / stage / "history.jsonl")
    for step in range(steps // 50, steps + 1, steps // 50):
        tracker.log({"loss": 3.0 * float(np.exp(-3 * step / steps)) + 0.1, "lr": 1e-3}, step)
        if step % (steps // 5) == 0:
            tracker.log({"val_score": 0.9 * step / steps, "val_other": 0.6 * step / steps}, step)
    tracker.write_csv(root / stage / "history.csv")
    return root / stage / "history.csv"

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mask_files import PARTS, MaskFiles
from uvlm.config import Params, load_params
from uvlm.data.cases import Case, write_index
from uvlm.data.label_scheme import scheme
from uvlm.data.sets.phantom.reports import PlantedFinding, write_report
from uvlm.errors import DataError
from uvlm.evaluation.evaluate import evaluate
from uvlm.evaluation.native_masks import MaskManifests
from uvlm.evaluation.reference import read_thresholds
from uvlm.evaluation.text_metrics import why_no_meteor
from uvlm.store import write_manifest
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.predictions import write_trained

PROJECT = Path(__file__).parents[2]
NUM_TRAIN, NUM_VAL, NUM_TEST = 52, 8, 12
BASELINES = [
    "constant_normal",
    "constant_abnormal",
    "most_frequent",
    "random",
    "nearest",
    "classifier_sentences",
]


@pytest.fixture(scope="module")
def params() -> Params:
    loaded = load_params(PROJECT / "params.yaml")
    section = loaded.evaluate.model_copy(update={"bootstrap_samples": 50, "meteor": False})
    return loaded.model_copy(update={"evaluate": section})


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    rng = np.random.default_rng(0)
    made = []
    for number in range(NUM_TRAIN + NUM_VAL + NUM_TEST):
        planted = rng.random(len(ABNORMALITIES)) < 0.3
        findings = [
            PlantedFinding(name) for name, p in zip(ABNORMALITIES, planted, strict=True) if p
        ]
        text = write_report(findings, rng)
        is_test = number >= NUM_TRAIN + NUM_VAL
        patient = f"{'valid' if is_test else 'train'}_{number // 2}"
        scan = f"{patient}_{'ab'[number % 2]}"
        made.append(
            Case(
                case_id=f"{scan}_1",
                scan_id=scan,
                patient_id=patient,
                split="test" if is_test else "val" if number >= NUM_TRAIN else "train",
                volume="v",
                findings_mask=None,
                finding_categories={},
                abnormalities=tuple(int(p) for p in planted),
                findings=text.findings,
                impression=text.impression,
            )
        )
    return made


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, cases: list[Case]) -> Path:
    """The files of a model that does everything right."""
    root = tmp_path_factory.mktemp("evaluate")
    write_predictions(root / "predictions.jsonl", [perfect(c) for c in cases if c.split == "test"])
    (root / "thresholds.json").write_text(json.dumps(dict.fromkeys(ABNORMALITIES, 0.4)))
    files = MaskFiles()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UVLM_DATA_ROOT", str(root / "store"))
        masked = [
            files.add(case, masks(number), masks(number))
            for number, case in enumerate(cases)
            if case.split != "train"
        ]
    files.write(root)
    write_index(root / "index.jsonl", [c for c in cases if c.split == "train"] + masked)
    return root


def masks(number: int) -> npt.NDArray[np.uint8]:
    """A lung, and in every second case a nodule of 320 mm3 after the erosion in it."""
    names = scheme("chest", "fine_lesion").names
    labels = np.zeros((4, 6, 6), np.uint8)
    labels[1:, 1:] = names.index("lung_upper_lobe_left")
    if number % 2:
        labels[1:3, 2:5, 2:4] = names.index("nodule_or_mass")
    return labels


@pytest.fixture
def run(
    root: Path, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    monkeypatch.setenv("UVLM_DATA_ROOT", str(root / "store"))
    return evaluator(root, params, tmp_path)


def evaluator(root: Path, params: Params, out: Path) -> Callable[..., dict[str, Any]]:
    def evaluate_with(**replaced: Path | None) -> dict[str, Any]:
        inputs: dict[str, Any] = {
            "index": root / "index.jsonl",
            "predictions": root / "predictions.jsonl",
            "generated_masks": root / "generate.jsonl",
            "thresholds": root / "thresholds.json",
            **replaced,
        }
        masks = MaskManifests(
            volumes=root / "preprocess.jsonl",
            label_maps=root / "label_maps.jsonl",
            generated=inputs.pop("generated_masks"),
            parts={kind: root / f"{kind}.jsonl" for kind in PARTS},
        )
        inputs |= {"out": out / "metrics.json", "per_class": out / "per_class.json"}
        inputs |= {"claims": out / "claims.json"}
        return evaluate(params, masks=masks, **inputs)

    return evaluate_with


def perfect(case: Case) -> dict[str, Any]:
    return {
        "case_id": case.case_id,
        "patient_id": case.patient_id,
        "report": case.report.text,
        "probabilities": dict(zip(ABNORMALITIES, case.abnormalities, strict=True)),
        "nearest": "train_0_a_1",
        "model": "0" * 12,
        "seconds": 0.1,
    }


def write_predictions(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_perfect_model_gets_perfect_numbers(run: Callable[..., dict[str, Any]]) -> None:
    metrics = run()
    assert metrics["not_learned"] == []
    assert metrics["report"]["macro_f1"] == metrics["oracle"]["macro_f1"] == 1.0
    assert metrics["cls"]["macro_f1"] == metrics["cls"]["macro_f1_tuned"] == 1.0
    assert metrics["seg"]["dice"] == 1.0
    assert metrics["seg"]["lesion_dice"] == 1.0
    assert metrics["cls"]["macro_auroc"] == 1.0
    assert metrics["report"]["bleu_mean"] == pytest.approx(1.0)
    assert metrics["n"] == NUM_TEST
    assert metrics["n_patients"] == NUM_TEST / 2
    assert metrics["n_missing"] == 0


def test_masks_that_nothing_drew_have_no_dice(
    run: Callable[..., dict[str, Any]], root: Path, tmp_path: Path
) -> None:
    """References are there; a Dice of 0 would be said of a network that was never asked."""
    predictions = tmp_path / "generated" / "predictions.jsonl"
    predictions.parent.mkdir()
    shutil.copy(root / "predictions.jsonl", predictions)
    write_trained(predictions, ["encoder", "classifier", "language"])
    write_manifest(tmp_path / "generate.jsonl", [])
    metrics = run(predictions=predictions, generated_masks=tmp_path / "generate.jsonl")
    seg = metrics["seg"]
    assert seg["not_computed"].startswith("segmentation was not trained")
    assert (seg["dice"], seg["n"], seg["native"]["dice"], seg["detection"]) == (None, 0, None, {})
    structures = json.loads((tmp_path / "per_class.json").read_text(encoding="utf-8"))["structures"]
    assert structures == []
    assert metrics["report"]["macro_f1"] == 1.0


@pytest.mark.slow
def test_metrics_have_the_agreed_keys_with_intervals_around_them(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    metrics = run()
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8")) == metrics
    agreed = {
        "seg": ["dice", "lesion_dice"],
        "cls": ["macro_f1", "macro_f1_tuned", "macro_auroc"],
        "report": ["macro_f1", "macro_precision", "macro_recall", "crg", "bleu_mean"],
        "oracle": ["macro_f1"],
    }
    agreed["report"] += [f"bleu_{n}" for n in range(1, 5)]
    agreed["report"] += ["rouge_l", "sacrebleu_13a"]
    for section, names in agreed.items():
        for name in names:
            low, high = metrics[section][f"{name}_ci"]
            assert 0 <= low <= high <= 1
    assert list(metrics["baselines"]) == BASELINES
    for scores in metrics["baselines"].values():
        assert {"macro_f1", "macro_f1_ci", "bleu_mean", "bleu_mean_ci", "crg"} <= set(scores)


@pytest.mark.slow
def test_a_model_that_looks_passes_the_collapse_audit(run: Callable[..., dict[str, Any]]) -> None:
    audit = run()["collapse"]
    assert audit["image_shuffle"]["changed_share"] == 1.0
    assert audit["image_shuffle"]["macro_f1_lost"] > 0.3
    assert audit["rare"]["macro_recall"] == 1.0
    assert audit["distinct"]["sentences"] == audit["distinct"]["reference_sentences"]


@pytest.mark.slow
def test_every_number_of_a_class_has_its_interval(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    run()
    rows = json.loads((tmp_path / "per_class.json").read_text(encoding="utf-8"))["abnormalities"]
    for row in rows:
        for name in ("report_precision", "report_recall", "report_f1", "cls_f1_tuned"):
            low, high = row[f"{name}_ci"]
            assert low <= row[name] <= high


@pytest.mark.slow
def test_constant_reports_show_what_the_metrics_are_worth(
    run: Callable[..., dict[str, Any]],
) -> None:
    baselines = run()["baselines"]
    assert baselines["constant_normal"]["macro_f1"] == 0.0
    assert baselines["constant_normal"]["crg"] == pytest.approx(1 / 3, abs=1e-6)
    assert baselines["constant_abnormal"]["macro_recall"] >= 0.9
    assert baselines["constant_abnormal"]["distinct_share"] == pytest.approx(1 / NUM_TEST, abs=1e-6)


@pytest.mark.slow
def test_distance_to_the_best_trivial_baseline_is_the_difference_of_their_f1(
    run: Callable[..., dict[str, Any]],
) -> None:
    metrics = run()
    best = max(metrics["baselines"][name]["macro_f1"] for name in BASELINES[:4])
    assert metrics["report"]["above_trivial"] == pytest.approx(
        metrics["report"]["macro_f1"] - best, abs=2e-6
    )


@pytest.mark.slow
@settings(max_examples=5, deadline=None)
@given(deleted=st.sets(st.integers(0, NUM_TEST - 1)))
def test_deleting_predictions_of_a_perfect_model_never_raises_a_metric(
    deleted: set[int],
    root: Path,
    params: Params,
    cases: list[Case],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    out = tmp_path_factory.mktemp("deleted")
    rows = [perfect(case) for case in cases[-NUM_TEST:]]
    kept = [row for number, row in enumerate(rows) if number not in deleted]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UVLM_DATA_ROOT", str(root / "store"))
        no_samples = params.evaluate.model_copy(update={"bootstrap_samples": 0})
        run = evaluator(root, params.model_copy(update={"evaluate": no_samples}), out)
        whole = run()
        partial = run(predictions=write_predictions(out / "predictions.jsonl", kept))
    assert partial["n"] == NUM_TEST
    assert partial["n_missing"] == len(deleted)
    for section in ("cls", "report") if kept else ("report",):
        for name, value in partial[section].items():
            if isinstance(value, float) and name not in {"distinct_share", "most_common_share"}:
                assert value <= whole[section][name] + 1e-9, (section, name)


@pytest.mark.slow
def test_masks_are_measured_in_the_grid_of_the_ct(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    seg = run()["seg"]
    assert seg["native"]["dice"] == seg["native"]["lesion_dice"] == 1.0
    assert seg["native"]["surface_distance"] == seg["native"]["hausdorff_95"] == 0.0
    assert (seg["native"]["n"], seg["native"]["lesion_n"]) == (NUM_TEST, NUM_TEST / 2)
    rows = json.loads((tmp_path / "per_class.json").read_text(encoding="utf-8"))["structures"]
    lung, nodule = rows
    assert (lung["name"], nodule["name"]) == ("lung_upper_lobe_left", "nodule_or_mass")
    assert nodule["n"] == nodule["n_native"] == nodule["n_distance"] == NUM_TEST / 2
    for name in ("dice", "native_dice", "surface_distance", "hausdorff_95"):
        low, high = nodule[f"{name}_ci"]
        assert low <= nodule[name] <= high


@pytest.mark.slow
def test_lesions_are_detected_above_a_threshold_that_validation_chose(
    run: Callable[..., dict[str, Any]], root: Path, tmp_path: Path
) -> None:
    detection = run()["seg"]["detection"]
    assert (detection["n"], detection["n_val"], detection["n_lesions"]) == (NUM_TEST, NUM_VAL, 1)
    nodule = detection["lesions"]["nodule_or_mass"]
    assert nodule["organ"] == "lung"
    assert (nodule["support"], nodule["val_support"]) == (NUM_TEST / 2, NUM_VAL / 2)
    assert nodule["threshold_mm3"] == 10
    assert nodule["f1"] == detection["macro_f1"] == 1.0
    assert nodule["f1_ci"] == [1.0, 1.0]
    lines = (root / "generate.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    fewer = tmp_path / "generate.jsonl"
    fewer.write_text("".join(line for line in lines if "valid_30_b_1" not in line), "utf-8")
    partly = run(generated_masks=fewer)["seg"]["detection"]
    assert partly["lesions"]["nodule_or_mass"]["recall"] == pytest.approx(5 / 6, abs=1e-6)
    assert partly["n"] == NUM_TEST


@pytest.mark.slow
def test_the_nearest_training_case_lends_its_report(
    run: Callable[..., dict[str, Any]], cases: list[Case], tmp_path: Path
) -> None:
    rows = [perfect(case) for case in cases[-NUM_TEST:]]
    same = run()["baselines"]["nearest"]
    assert same["distinct_share"] == pytest.approx(1 / NUM_TEST, abs=1e-6)
    rows[0]["nearest"] = "train_1_b_1"
    changed = run(predictions=write_predictions(tmp_path / "predictions.jsonl", rows))
    assert changed["baselines"]["nearest"]["distinct_share"] == pytest.approx(2 / 12, abs=1e-6)
    for row in rows:
        del row["nearest"]
    without = run(predictions=write_predictions(tmp_path / "predictions.jsonl", rows))
    assert "nearest" not in without["baselines"]
    rows[0]["nearest"] = "valid_30_a_1"
    with pytest.raises(DataError, match="not in the training split"):
        run(predictions=write_predictions(tmp_path / "predictions.jsonl", rows))


@pytest.mark.slow
def test_metrics_say_why_meteor_is_not_computed(
    run: Callable[..., dict[str, Any]],
    root: Path,
    params: Params,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run()["report"]["meteor"] == {"not_computed": "evaluate.meteor is false"}
    wanted = params.evaluate.model_copy(update={"meteor": True, "bootstrap_samples": 0})
    asking = evaluator(root, params.model_copy(update={"evaluate": wanted}), tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert asking()["report"]["meteor"] == {"not_computed": "no Java"}


@pytest.mark.slow
@pytest.mark.skipif(bool(why_no_meteor()), reason=why_no_meteor() or "there is Java")
def test_metrics_have_meteor_where_java_is(
    run: Callable[..., dict[str, Any]], root: Path, params: Params, tmp_path: Path
) -> None:
    wanted = params.evaluate.model_copy(update={"meteor": True, "bootstrap_samples": 20})
    asking = evaluator(root, params.model_copy(update={"evaluate": wanted}), tmp_path)
    meteor = asking()["report"]["meteor"]
    assert meteor["corpus"] == meteor["mean_over_reports"] == pytest.approx(1.0)
    assert meteor["mean_over_reports_ci"] == [1.0, 1.0]


@pytest.mark.slow
def test_deleting_masks_never_raises_dice(
    run: Callable[..., dict[str, Any]], root: Path, tmp_path: Path
) -> None:
    lines = (root / "generate.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    fewer = tmp_path / "generate.jsonl"
    kept = [line for line in lines if '"valid_30_a_1"' not in line]
    fewer.write_text("".join(kept[:-2]), encoding="utf-8")
    seg = run(generated_masks=fewer)["seg"]
    assert seg["dice"] == pytest.approx(1 - 3 / NUM_TEST)
    assert seg["native"]["dice"] == pytest.approx(1 - 3 / NUM_TEST)
    assert seg["native"]["surface_distance"] > 5.0
    assert seg["n"] == NUM_TEST


@pytest.mark.parametrize(
    ("damage", "fact"),
    [
        (lambda rows: [*rows, rows[0]], "second prediction for valid_30_a_1"),
        (lambda rows: [*rows, {**rows[0], "case_id": "x"}], "outside the test split, first x"),
        (lambda rows: [{"report": "text"}], "line 1 is not a prediction"),
        (lambda rows: [{**rows[0], "probabilities": {"Emphysema": "high"}}], "line 1"),
    ],
)
def test_predictions_that_do_not_fit_the_test_split_are_refused(
    run: Callable[..., dict[str, Any]],
    cases: list[Case],
    tmp_path: Path,
    damage: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
    fact: str,
) -> None:
    rows = damage([perfect(case) for case in cases[-NUM_TEST:]])
    with pytest.raises(DataError, match=fact):
        run(predictions=write_predictions(tmp_path / "predictions.jsonl", rows))
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (None, "no such file"),
        ("[0.5]", "not a JSON object"),
        ('{"Emphysema": 0.5', "not readable as JSON"),
        ('{"Emphysema": 0.5}', "no threshold for Medical material, "),
    ],
)
def test_a_file_without_every_threshold_is_refused_by_what_it_lacks(
    run: Callable[..., dict[str, Any]], tmp_path: Path, text: str | None, fact: str
) -> None:
    path = tmp_path / "thresholds.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=rf"{re.escape(fact)}.*train_cls writes"):
        run(thresholds=path)


@pytest.mark.parametrize("value", ["0.5", None, True, float("nan"), 1.5, -0.1])
def test_what_is_no_probability_is_no_threshold(tmp_path: Path, value: object) -> None:
    path = tmp_path / "thresholds.json"
    path.write_text(json.dumps({"Emphysema": value}), encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(f"{value!r} is no threshold for Emphysema")):
        read_thresholds(path, ["Emphysema"])


@pytest.mark.slow
def test_a_class_nobody_finds_is_listed_as_not_learned(
    run: Callable[..., dict[str, Any]], cases: list[Case], tmp_path: Path
) -> None:
    number = ABNORMALITIES.index("Emphysema")
    assert any(case.abnormalities[number] for case in cases[-NUM_TEST:])
    rows = [perfect(case) for case in cases[-NUM_TEST:]]
    for row in rows:
        row["report"] = row["report"].replace("mphysema", "-")
        row["probabilities"]["Emphysema"] = 0.5
    metrics = run(predictions=write_predictions(tmp_path / "predictions.jsonl", rows))
    assert "Emphysema" in metrics["not_learned"]
    per_class = json.loads((tmp_path / "per_class.json").read_text(encoding="utf-8"))
    row = per_class["abnormalities"][number]
    assert row["cls_auroc"] == 0.5
    assert row["not_learned"] == [
        "report F1 0.00 is below 0.3",
        "classifier AUROC 0.50 is below 0.7",
    ]


@pytest.mark.slow
def test_the_same_inputs_give_the_same_bytes(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    run()
    first = (tmp_path / "metrics.json").read_bytes()
    run()
    assert (tmp_path / "metrics.json").read_bytes() == first

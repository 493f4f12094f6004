"""The stage `generate`: once per test scan, from cached tokens, masks in the store."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.inference.conftest import GRID, body, forget, lps
from uvlm.config import Params
from uvlm.data.cases import Case, Split, read_index, write_index
from uvlm.data.contract import contract_sha256, normalise, volume_statistics
from uvlm.data.ct.grid import preprocess_volume
from uvlm.data.ct.io import write_volume
from uvlm.errors import DataError, SetupError
from uvlm.evaluation.predictions import read_predictions
from uvlm.files import store_root
from uvlm.inference import report_writer, segment
from uvlm.inference.decoding import Written
from uvlm.inference.encode import encode_cases
from uvlm.inference.generate import GeneratePaths, generate_reports
from uvlm.inference.predictor import Predictor
from uvlm.inference.report_writer import ReportWriter
from uvlm.inference.sliding_window import predict_labels, sliding_window_labels
from uvlm.model.folder import save_model
from uvlm.model.load import load_report_model, load_segmenter
from uvlm.model.weights import weights_of
from uvlm.store import (
    Row,
    Shard,
    load_array,
    read_manifest,
    resolve,
    rows_by_case,
    save_array,
    write_manifest,
)
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.predictions import has_learned
from uvlm.text.report import parse_report

CASES: dict[str, Split] = {
    "train_1_a_1": "train",
    "train_2_a_1": "val",
    "valid_1_a_1": "test",
    "valid_1_a_2": "test",
    "valid_1_b_1": "test",
    "valid_2_a_1": "test",
    "train_3_a_1": "val",
}
MASKED = ["train_2_a_1", "valid_1_a_1", "valid_1_b_1", "valid_2_a_1"]  # nobody drew train_3
SCANS = ["valid_1_a_1", "valid_1_b_1", "valid_2_a_1"]


@pytest.fixture
def paths(tmp_path: Path, params: Params, report_folder: Path, seg_folder: Path) -> GeneratePaths:
    """Manifests and folders that the stage reads, and where it writes."""
    cases, rows = [], []
    for number, (case_id, split) in enumerate(CASES.items()):
        patient, scan = case_id.rsplit("_", 2)[0], case_id.rsplit("_", 1)[0]
        cases.append(
            Case(case_id, scan, patient, split, "", None, {}, (0,) * 18, "Normal.", "None.")
        )
        hu, _ = preprocess_volume(lps(body(number)), params.preprocess)
        path = f"preprocess/{case_id}.b2nd"
        mean, std = volume_statistics(hu)
        extra = {"shape": list(GRID), "mean": mean, "std": std}
        extra["contract_sha256"] = contract_sha256(params.preprocess)
        digest = save_array(store_root() / path, hu)
        rows.append(Row(case_id, case_id, path, digest, "test", extra))
    made: GeneratePaths = {
        "index": tmp_path / "index.jsonl",
        "preprocess": tmp_path / "preprocess.jsonl",
        "encodings": tmp_path / "encode.jsonl",
        "label_maps": tmp_path / "label_maps.jsonl",
        "model": report_folder,
        "seg": seg_folder,
        "predictions": tmp_path / "generated" / "predictions.jsonl",
        "masks": tmp_path / "generate.jsonl",
    }
    write_index(made["index"], cases)
    write_manifest(made["preprocess"], rows)
    drawn = [row for row in rows if row.case != "train_3_a_1"]
    write_manifest(made["label_maps"], drawn)
    encode(params, made)
    return made


def encode(params: Params, paths: GeneratePaths) -> None:
    encode_cases(
        params,
        index=paths["index"],
        preprocess=paths["preprocess"],
        model=paths["model"],
        out=paths["encodings"],
    )


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_test_scan_is_described_once_from_its_first_reconstruction(
    params: Params, paths: GeneratePaths
) -> None:
    numbers = generate_reports(params, **paths)
    rows = rows_of(paths["predictions"])
    assert [row["case_id"] for row in rows] == SCANS
    assert [row["patient_id"] for row in rows] == ["valid_1", "valid_1", "valid_2"]
    assert numbers["cases"] == 3
    model = load_report_model(paths["model"])
    for row in rows:
        assert set(row) == {
            "case_id", "patient_id", "report", "probabilities", "nearest", "model", "seconds"
        }  # fmt: skip
        assert list(row["probabilities"]) == list(ABNORMALITIES)
        assert row["model"] == model.sha256[:12]
        assert row["seconds"] > 0
    assert len({json.dumps(row["probabilities"]) for row in rows}) == 3
    assert len({row["report"] for row in rows}) == numbers["distinct_reports"] == 3


def test_each_scan_names_the_training_case_that_the_classifier_takes_for_it(
    params: Params, paths: GeneratePaths
) -> None:
    cases = [
        replace(case, split="train") if case.case_id in ("train_2_a_1", "train_3_a_1") else case
        for case in read_index(paths["index"])
    ]
    write_index(paths["index"], cases)
    generate_reports(params, **paths)
    model = load_report_model(paths["model"])
    volumes = rows_by_case(paths["preprocess"])

    def pooled(case: str) -> torch.Tensor:
        voxels = normalise(load_array(resolve(volumes[case], "preprocess")), params.preprocess)
        deepest = model.encoder(torch.from_numpy(voxels)[None, None])[-1]
        seen: list[torch.Tensor] = []
        hook = model.classifier.linear.register_forward_pre_hook(
            lambda module, inputs: seen.append(inputs[0][0])
        )
        model.classifier.eval()(deepest)
        hook.remove()
        return seen[0]

    with torch.no_grad():
        embedded = {case: pooled(case) for case in CASES}
    training = [case for case in CASES if case.startswith("train")]
    for row in rows_of(paths["predictions"]):
        query = embedded[row["case_id"]]
        similarity = [
            float(torch.cosine_similarity(query, embedded[case], dim=0)) for case in training
        ]
        assert row["nearest"] == training[int(np.argmax(similarity))]


def test_the_evaluation_can_read_the_predictions(params: Params, paths: GeneratePaths) -> None:
    generate_reports(params, **paths)
    aligned = read_predictions(paths["predictions"], SCANS)
    assert aligned.num_missing == 0
    assert aligned.probabilities(ABNORMALITIES) is not None


def test_the_stage_says_what_predict_says_about_the_same_ct(
    params: Params, paths: GeneratePaths, tmp_path: Path
) -> None:
    generate_reports(params, **paths)
    predictor = Predictor.load(paths["model"])
    for row in rows_of(paths["predictions"]):
        number = list(CASES).index(row["case_id"])
        write_volume(tmp_path / "ct.nii.gz", lps(body(number)))
        alone = predictor.predict(tmp_path / "ct.nii.gz")
        assert parse_report(row["report"]) == alone.report
        for name, value in row["probabilities"].items():
            assert alone.probabilities[name] == pytest.approx(value, abs=2e-5)


def test_parts_that_never_learned_say_nothing(params: Params, paths: GeneratePaths) -> None:
    """Masks are not even computed; probabilities and reports are left out."""
    forget(paths["seg"], "segmentation")
    for part in ("segmentation", "classifier", "language"):
        forget(paths["model"], part)
    encode(params, paths)
    generate_reports(params, **paths)
    assert rows_by_case(paths["masks"]) == {}
    assert not (store_root() / "generate").exists()
    rows = rows_of(paths["predictions"])
    assert [row["case_id"] for row in rows] == SCANS
    assert all(row["report"] == "" and row["probabilities"] == {} for row in rows)
    assert has_learned(paths["predictions"], "encoder")
    assert not has_learned(paths["predictions"], "segmentation")


def test_masks_are_the_likeliest_classes_of_the_stage_1_network(
    params: Params, paths: GeneratePaths
) -> None:
    generate_reports(params, **paths)
    rows = read_manifest(paths["masks"])
    assert [row.case for row in rows] == MASKED
    unet = load_segmenter(paths["seg"]).unet
    volumes = rows_by_case(paths["preprocess"])
    for row in rows:
        mask = load_array(resolve(row, "generate"), row.sha256)
        voxels = normalise(load_array(resolve(volumes[row.case], "preprocess")), params.preprocess)
        with torch.no_grad():
            x = torch.from_numpy(voxels)[None]
            expected = sliding_window_labels(unet, x, params.train_seg.patch).numpy()
        assert mask.dtype == np.uint8
        assert len(np.unique(mask)) > 1
        agreement = float((mask == expected).mean())
        assert agreement > 0.999  # ties may fall either way in another memory layout


def test_a_second_run_reads_the_masks_from_the_store(
    params: Params, paths: GeneratePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate_reports(params, **paths)
    manifest = paths["masks"].read_bytes()
    lost = resolve(read_manifest(paths["masks"])[1], "generate")
    lost.unlink()
    seen: list[int] = []
    labels_of = segment.Segmenter.labels_of

    def spy(self: segment.Segmenter, volumes: Any) -> Any:
        seen.append(len(volumes))
        return labels_of(self, volumes)

    monkeypatch.setattr(segment.Segmenter, "labels_of", spy)
    generate_reports(params, **paths)
    assert sum(seen) == 1
    assert paths["masks"].read_bytes() == manifest


def without_seconds(path: Path) -> list[dict[str, Any]]:
    return [{**row, "seconds": 0} for row in rows_of(path)]


@pytest.mark.slow
@pytest.mark.parametrize("loaders", ["0", "2"])
def test_shares_fill_the_store_and_the_whole_run_only_assembles(
    loaders: str, params: Params, paths: GeneratePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVLM_LOADERS", loaders)
    generate = params.generate.model_copy(update={"batch_size": 1})
    params = params.model_copy(update={"generate": generate})
    generate_reports(params, **paths)
    expected, masks = without_seconds(paths["predictions"]), paths["masks"].read_bytes()
    shutil.rmtree(store_root() / "generate")
    for name in ("predictions", "masks"):
        paths[name].unlink()
    for number in (2, 1, 3):
        assert generate_reports(params, code="c", shard=Shard(number, 3), **paths) == {}
    assert not paths["predictions"].exists()
    assert not paths["masks"].exists()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(ReportWriter, "write", never)
    with pytest.raises(AssertionError):  # reports of other code are written again
        generate_reports(params, code="other", **paths)
    monkeypatch.setattr("uvlm.store.once.save_array", never)
    numbers = generate_reports(params, code="c", **paths)
    assert numbers["cases"] == len(SCANS)
    assert without_seconds(paths["predictions"]) == expected
    assert paths["masks"].read_bytes() == masks


def test_a_share_without_a_digest_of_the_code_would_be_lost_and_is_refused(
    params: Params, paths: GeneratePaths
) -> None:
    with pytest.raises(SetupError, match="--shard: reports are kept by a digest of the code; run"):
        generate_reports(params, shard=Shard(1, 2), **paths)


@pytest.mark.slow
def test_changed_code_is_refused_before_a_report_is_written_until_its_version_is_raised(
    params: Params, paths: GeneratePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate_reports(params, code="before", **paths)
    before = paths["masks"].read_bytes()

    def edited(unet: Any, x: torch.Tensor, patch: Any) -> torch.Tensor:
        return predict_labels(unet, x, patch).roll(1, dims=-1)

    with monkeypatch.context() as patch:
        patch.setattr(segment, "predict_labels", edited)
        paths["predictions"].unlink()
        with pytest.raises(
            DataError, match=r"raise VERSION in uvlm/inference/segment\.py"
        ) as error:
            generate_reports(params, code="after", **paths)
        assert error.value.subject in MASKED
        assert not paths["predictions"].exists()
        patch.setattr(segment, "VERSION", 99)
        generate_reports(params, code="after", **paths)
        assert paths["masks"].read_bytes() != before
    generate_reports(params, code="other", **paths)
    monkeypatch.setattr(segment, "predict_labels", None)
    generate_reports(params, code="other", **paths)
    assert paths["masks"].read_bytes() == before


def test_progress_counts_reports_and_masks(params: Params, paths: GeneratePaths) -> None:
    seen: list[tuple[int, int]] = []

    class Bar:
        def update(self, step: int, total: int, loss: float | None = None) -> None:
            seen.append((step, total))

    generate_reports(params, progress=Bar(), **paths)
    assert seen[-1] == (8, 8)  # three reports, one training case, four masks
    assert [step for step, _ in seen] == sorted(step for step, _ in seen)


@pytest.mark.slow
def test_batches_do_not_change_what_is_written(params: Params, paths: GeneratePaths) -> None:
    generate_reports(params, **paths)
    together = [row["report"] for row in rows_of(paths["predictions"])]
    alone = params.generate.model_copy(update={"batch_size": 1})
    generate_reports(params.model_copy(update={"generate": alone}), **paths)
    assert [row["report"] for row in rows_of(paths["predictions"])] == together


@pytest.mark.slow
def test_sampled_reports_are_the_same_for_the_same_seed(
    params: Params, paths: GeneratePaths
) -> None:
    def written(seed: int) -> list[str]:
        sampled = params.generate.model_copy(update={"temperature": 2.0})
        generate_reports(params.model_copy(update={"generate": sampled, "seed": seed}), **paths)
        return [row["report"] for row in rows_of(paths["predictions"])]

    first = written(1)
    assert written(1) == first
    assert written(2) != first


@pytest.fixture
def moved(paths: GeneratePaths, tmp_path: Path) -> Path:
    """The report folder as if stage 3 had trained its encoder on."""
    model = load_report_model(paths["model"])
    modules = {name: getattr(model, name) for name in ("unet", "encoder", "classifier")}
    weights = {name: weights_of(module) for name, module in modules.items()}
    weights |= {"decoder": weights_of(model.uvlm), "classifier_encoder": weights["encoder"]}
    torch.manual_seed(0)
    weights["encoder"] = {n: w + 0.3 * torch.randn_like(w) for n, w in weights["encoder"].items()}
    tokenizer = {"tokenizer.json": model.tokenizer.read_bytes()}
    save_model(tmp_path / "moved", weights, model.config, model.contract, tokenizer)
    return tmp_path / "moved"


@pytest.mark.slow
def test_beside_an_encoder_that_trained_along_the_classifier_keeps_its_own(
    params: Params, paths: GeneratePaths, moved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reports follow the new encoder; probabilities, neighbours and drafts' numbers stay.

    So it is if two shares write the reports, reading ahead, before they are put together.
    """
    generate_reports(params, **paths)
    before = rows_of(paths["predictions"])
    along = params.train_report.model_copy(update={"encoder_lr_scale": 0.1})
    chosen = params.model_copy(update={"train_report": along})
    monkeypatch.setenv("UVLM_LOADERS", "1")
    for number in (1, 2):
        generate_reports(chosen, code="c", shard=Shard(number, 2), **paths | {"model": moved})
    generate_reports(chosen, code="c", **paths | {"model": moved})
    after = rows_of(paths["predictions"])
    for key in ("case_id", "nearest", "probabilities"):
        assert [row[key] for row in after] == [row[key] for row in before]
    assert all(one["report"] != other["report"] for one, other in zip(before, after, strict=True))
    ct = lps(body(list(CASES).index(SCANS[0])))
    first, second = (
        Predictor.load(folder).predict_volume(ct) for folder in (paths["model"], moved)
    )
    assert second.probabilities == pytest.approx(first.probabilities, abs=1e-5)
    assert first.report == parse_report(before[0]["report"])
    assert second.report == parse_report(after[0]["report"])


def test_tokens_of_another_encoder_are_refused(params: Params, paths: GeneratePaths) -> None:
    encode(params, paths | {"model": paths["seg"]})
    with pytest.raises(DataError, match="encoder_sha256"):
        generate_reports(params, **paths)
    assert not paths["predictions"].exists()


def test_a_case_that_was_not_encoded_is_named(params: Params, paths: GeneratePaths) -> None:
    rows = [row for row in read_manifest(paths["encodings"]) if row.case != "valid_2_a_1"]
    write_manifest(paths["encodings"], rows)
    with pytest.raises(DataError, match="valid_2_a_1 is not encoded"):
        generate_reports(params, **paths)
    assert not paths["predictions"].exists()


def test_a_model_of_another_contract_is_refused(params: Params, paths: GeneratePaths) -> None:
    changed = params.preprocess.model_copy(update={"window_hu": (-500, 500)})
    with pytest.raises(DataError, match="window_hu"):
        generate_reports(params.model_copy(update={"preprocess": changed}), **paths)
    assert not paths["predictions"].exists()


def test_impressions_are_held_to_findings_in_rows_that_name_more(
    report_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder is asked again about the image of that row alone."""
    writer = ReportWriter.of(load_report_model(report_folder), holding)
    text = {
        "more": "Findings: No effusion. Impressions: Cardiomegaly.",
        "fits": "Findings: The heart is large. Impressions: Cardiomegaly.",
        "new": "Findings: No effusion. Impressions: No effusion.",
    }
    ids = {name: writer.tokenizer.encode(each) for name, each in text.items()}
    asked: list[tuple[list[float], Any]] = []

    def write(
        model: Any, visual: Any, decoding: Any, randomness: Any, begun: Any = None
    ) -> list[Written]:
        asked.append((visual[0][:, 0, 0].tolist(), begun))
        names = ["fits", "more", "fits"] if begun is None else ["new"]
        return [Written(ids[name], "eos") for name in names]

    monkeypatch.setattr(report_writer, "write_reports", write)
    rows = writer.write([torch.arange(3.0)[:, None, None]])
    assert [(row.text, row.ended) for row in rows] == [
        (text["fits"], "eos"), (text["new"], "held"), (text["fits"], "eos")
    ]  # fmt: skip
    (everything, _), (again, (begun,)) = asked
    assert (everything, again) == ([0.0, 1.0, 2.0], [1.0])
    kept = len(begun.ids)
    assert writer.tokenizer.decode(begun.ids) == "Findings: No effusion. Impressions:"
    assert begun.ids == ids["more"][:kept]
    assert begun.forbidden == {ids["more"][kept]}


def holding(section: str, part: str) -> list[tuple[int, int, str, bool]]:
    """Read a large heart only."""
    words = {"findings": "heart is large", "impression": "Cardiomegaly"}[part]
    start = section.find(words)
    return [] if start < 0 else [(start, start + len(words), "Cardiomegaly", True)]


def test_what_is_written_with_holding_is_not_kept_for_a_run_without(
    params: Params, paths: GeneratePaths
) -> None:
    found = []
    for hold in (False, True):
        section = params.generate.model_copy(update={"hold_impressions": hold})
        changed = params.model_copy(update={"generate": section})
        spans = never_reached if hold else None
        found.append(generate_reports(changed, code="code", spans=spans, **paths))
    assert len(list((store_root() / "reports").rglob("*.jsonl"))) == 4  # two batches each
    assert all(numbers["impressions_written_again"] == 0 for numbers in found)


def never_reached(section: str, part: str) -> list[tuple[int, int, str, bool]]:
    """No report of random weights has a heading of impressions."""
    raise AssertionError(section)

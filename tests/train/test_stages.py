"""The three trainings on tiny cases: what is handed over, what is refused, what continues."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny_qwen import SIZES, write_qwen
from tests.train.chain import Chain, changed
from uvlm.config import Params, TokenizerConfig
from uvlm.data.cases import read_index, write_index
from uvlm.errors import ConfigError, DataError, Interrupted, SetupError
from uvlm.inference.generate import generate_reports
from uvlm.inference.population import read_population
from uvlm.inference.predictor import Predictor
from uvlm.model.build import build_unet
from uvlm.model.load import load_classifier, load_report_model
from uvlm.model.trained import PARTS
from uvlm.model.weights import weights_of
from uvlm.seeding import seed_everything
from uvlm.store import load_array, read_manifest, resolve, rows_by_case, write_manifest
from uvlm.text.tokenizer import Tokenizer
from uvlm.text.tokenizer import run as run_tokenizer
from uvlm.train.report_data import ReportPaths, read_report_data


def same_tensors(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[bool]:
    assert one.keys() == other.keys()
    return [torch.equal(one[name], other[name]) for name in one]


def test_zero_steps_hand_the_seeded_encoder_through_every_stage(
    chain: Chain, params: Params
) -> None:
    assert chain.seg(steps=0) == {}
    assert chain.cls(steps=0) == {}
    chain.encode()
    assert chain.report(steps=0) == {}
    seed_everything(params.seed)
    start = build_unet(params.encoder, 49).state_dict()
    for name, weights in chain.tensors("report/unet").items():
        assert torch.equal(weights, start[name])
    for file in ("cls/encoder", "report/encoder"):
        assert all(same_tensors(chain.tensors("seg/encoder"), chain.tensors(file)))


@pytest.mark.slow
def test_encoder_weights_arrive_tensor_by_tensor_and_train_only_when_told(chain: Chain) -> None:
    chain.seg()
    unet, encoder = chain.tensors("seg/unet"), chain.tensors("seg/encoder")
    assert all(torch.equal(unet[f"encoder.{name}"], encoder[name]) for name in encoder)
    chain.cls(encoder_lr_scale=0.0)
    assert chain.bytes_of("cls/encoder") == chain.bytes_of("seg/encoder")
    chain.cls(encoder_lr_scale=0.1, head_warmup_steps=0)
    assert not any(same_tensors(encoder, chain.tensors("cls/encoder")))


@pytest.mark.slow
def test_a_frozen_encoder_is_byte_identical_in_the_report_folder(chain: Chain) -> None:
    chain.seg(steps=0)
    chain.cls(steps=1)
    chain.encode()
    chain.report()
    for part, origin in (("encoder", "cls"), ("classifier", "cls"), ("unet", "seg")):
        assert chain.bytes_of(f"report/{part}") == chain.bytes_of(f"{origin}/{part}")
    model = load_report_model(chain.models / "report")
    assert model.contract["label_names"][0] == "background"
    known = read_population(chain.models / "report")
    assert known is not None
    assert sum(known[0].cases.values()) > 0
    assert "extent along z" in known[0].ranges
    thresholds = json.loads((chain.models / "report" / "thresholds.json").read_text())
    assert list(thresholds) == [*model.config.abnormalities, "temperature"]


@pytest.mark.slow
def test_with_a_rate_of_its_own_the_encoder_learns_from_reports(chain: Chain) -> None:
    chain.seg(steps=0)
    chain.cls(steps=0)
    chain.encode()
    chain.report(encoder_lr_scale=0.5, steps=2)
    before, after = chain.tensors("cls/encoder"), chain.tensors("report/encoder")
    assert not any(same_tensors(before, after))
    assert all(same_tensors(chain.tensors("cls/classifier"), chain.tensors("report/classifier")))
    # The classifier goes on with the encoder that it was made for.
    assert all(same_tensors(before, chain.tensors("report/classifier_encoder")))
    folder = chain.models / "report"
    model, own = load_report_model(folder), load_classifier(folder)
    for loaded in (model.classifier_encoder, own.encoder):
        assert all(same_tensors(before, weights_of(loaded)))
    assert all(same_tensors(after, weights_of(model.encoder)))
    chain.report(encoder_lr_scale=0.0, steps=2)
    assert not (folder / "classifier_encoder.safetensors").exists()
    frozen = load_report_model(folder)
    assert frozen.classifier_encoder is frozen.encoder


def digests(tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    return {n: hashlib.sha256(t.numpy().tobytes()).hexdigest() for n, t in tensors.items()}


@pytest.mark.slow
def test_every_tensor_of_the_encoder_arrives_from_stage_to_stage(chain: Chain) -> None:
    """Training changes every digest; between the stages none changes."""
    chain.seg(steps=2)
    chain.cls(steps=0)
    from_seg = digests(chain.tensors("seg/encoder"))
    assert digests(chain.tensors("cls/encoder")) == from_seg
    chain.cls(steps=2, head_warmup_steps=0)
    from_cls = digests(chain.tensors("cls/encoder"))
    assert from_cls.keys() == from_seg.keys()
    assert not any(from_cls[name] == from_seg[name] for name in from_seg)
    chain.encode()
    chain.report(steps=2, encoder_lr_scale=0.0)
    assert digests(chain.tensors("report/encoder")) == from_cls
    unet = {
        name.removeprefix("encoder."): digest
        for name, digest in digests(chain.tensors("report/unet")).items()
        if name.startswith("encoder.")
    }
    assert unet == from_seg  # masks keep the encoder that their decoder was trained with


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["cls", "report"])
def test_frozen_stages_are_byte_identical_and_the_others_train(chain: Chain, stage: str) -> None:
    chain.seg(steps=0)
    chain.cls(steps=0)
    start = chain.tensors("cls/encoder")
    chain.encode()
    changes: dict[str, Any] = {"encoder_lr_scale": 0.5, "frozen_stages": (1, 2, 5), "steps": 2}
    if stage == "cls":
        chain.cls(head_warmup_steps=0, **changes)
    else:
        chain.report(**changes)
    frozen = ("stem.", "stages.0.", "stages.1.", "stages.4.")
    for name, tensor in chain.tensors(f"{stage}/encoder").items():
        assert torch.equal(tensor, start[name]) == name.startswith(frozen), name


@pytest.mark.parametrize("option", [{"ema_decay": 0.9}, {"gradient_checkpointing": True}])
@pytest.mark.slow
def test_options_of_every_training_change_what_they_should(
    chain: Chain, option: dict[str, Any]
) -> None:
    """A moving average gives other weights; recomputed blocks the same ones."""
    same = "gradient_checkpointing" in option

    def weights(**changes: Any) -> list[bytes]:
        chain.seg(**changes)
        chain.cls(head_warmup_steps=0, **changes)
        chain.encode()
        chain.report(encoder_lr_scale=0.5, steps=2, val_every=2, **changes)
        return [chain.bytes_of(f) for f in ("seg/unet", "cls/encoder", "report/decoder")]

    plain, changed = weights(), weights(**option)
    assert [one == other for one, other in zip(plain, changed, strict=True)] == [same] * 3


@pytest.mark.slow
def test_balanced_positives_change_both_trainings_of_stage_2(chain: Chain) -> None:
    cases = read_index(chain.project.index)
    rare = [replace(c, abnormalities=(int(c.case_id == "case_00"),) + (0,) * 17) for c in cases]
    write_index(chain.project.index, rare)
    chain.seg(steps=0)

    def classifier(**changes: Any) -> list[bytes]:
        chain.cls(steps=1, **changes)
        return [chain.bytes_of("cls/classifier"), chain.bytes_of("cls/encoder")]

    joint = {"head_warmup_steps": 0}
    head = {"head_warmup_steps": 2, "encoder_lr_scale": 0.0}
    for changes, moved in ((joint, [True, True]), (head, [True, False])):
        plain = classifier(**changes)
        weighted = classifier(pos_weight="balanced", **changes)
        assert [one != other for one, other in zip(plain, weighted, strict=True)] == moved
        capped = classifier(pos_weight="balanced", pos_weight_cap=1.0, **changes)
        assert capped == plain


def test_an_encoder_that_trains_along_needs_volumes(chain: Chain) -> None:
    chain.seg(steps=0)
    chain.cls(steps=0)
    chain.encode()
    with pytest.raises(ConfigError, match="encoder_lr_scale"):
        chain.report(encoder_lr_scale=0.5, volumes=False)


@pytest.mark.slow
def test_stage_2_continues_after_sigterm_without_a_second_warm_up(chain: Chain) -> None:
    class Stop:
        def __init__(self, total: int) -> None:
            self.total, self.calls = total, 0

        def update(self, step: int, total: int, loss: float | None = None) -> None:
            self.calls += 1
            if (step, total) == (3, self.total):
                os.kill(os.getpid(), signal.SIGTERM)

    chain.seg(steps=0)
    whole = chain.cls(head_warmup_steps=5)
    expected = chain.bytes_of("cls/encoder"), chain.bytes_of("cls/classifier")
    with pytest.raises(Interrupted, match="SIGTERM after step 3 of 4"):
        chain.cls(Stop(4), head_warmup_steps=5)
    rest = Stop(0)
    assert chain.cls(rest, head_warmup_steps=5) == whole
    assert rest.calls == 1
    assert (chain.bytes_of("cls/encoder"), chain.bytes_of("cls/classifier")) == expected


def test_a_cache_of_another_contract_is_refused(chain: Chain, params: Params) -> None:
    chain.seg(steps=0)
    other = params.preprocess.model_copy(update={"window_hu": (-500, 500)})
    chain.params = params.model_copy(update={"preprocess": other})
    with pytest.raises(DataError, match="contract"):
        chain.seg()
    with pytest.raises(DataError, match="window_hu"):
        chain.cls()


def test_an_empty_split_is_named(chain: Chain) -> None:
    rows = read_manifest(chain.project.label_maps)
    write_manifest(chain.project.label_maps, [r for r in rows if int(r.case[-2:]) < 8])
    with pytest.raises(DataError, match="no case of split val has a preprocessed volume and"):
        chain.seg()
    assert not (chain.models / "seg").exists()


@pytest.mark.slow
def test_features_of_another_encoder_are_refused(chain: Chain) -> None:
    chain.seg(steps=0)
    chain.cls(steps=0)
    chain.encode()
    chain.cls(head_warmup_steps=0)
    with pytest.raises(DataError, match="encoder_sha256"):
        chain.report()


def test_projections_standardise_the_training_tokens(chain: Chain) -> None:
    chain.seg(steps=0)
    chain.cls(steps=0)
    chain.encode()
    chain.report(steps=1, standardise_features=True)
    rows = rows_by_case(chain.encodings)
    train = [load_array(resolve(rows[f"case_{n:02d}"], "encode")) for n in range(8)]
    tokens = np.concatenate(train).astype(np.float64)  # no stage is padded here
    decoder = chain.tensors("report/decoder")
    start = 0
    for stage, channels in enumerate(chain.params.encoder.channels, start=1):
        own = tokens[:, start : start + channels]
        start += channels
        mean, std = (decoder[f"projections.{stage}.{name}"].numpy() for name in ("mean", "std"))
        np.testing.assert_allclose(mean, own.mean(axis=0), atol=1e-3)
        np.testing.assert_allclose(std, own.std(axis=0), atol=1e-3)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_balancing_draws_from_the_training_split_and_leaves_validation_alone(
    chain: Chain, fraction: float
) -> None:
    chain.seg(steps=0)
    chain.cls(steps=0)
    chain.encode()
    params = changed(chain.params, "train_report", balanced_fraction=fraction, val_cases=9)
    folders = [chain.project.tokenizer, chain.models / "seg", chain.models / "cls"]
    paths = ReportPaths(chain.project.index, chain.encodings, *folders)
    sha256 = load_classifier(chain.models / "cls").config.weights["encoder"]
    data = read_report_data(params, paths, Tokenizer.load(chain.project.tokenizer), sha256)
    splits = {case.case_id: case.split for case in read_index(chain.project.index)}
    drawn = {case_id for index in range(40) for case_id in data.train(index).case_ids}
    assert drawn == {case_id for case_id, split in splits.items() if split == "train"}
    validated = [case.case_id for case in data.val.cases]
    assert validated == [case_id for case_id, split in splits.items() if split == "val"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qwen3_lora", "qwen3_full"])
def test_qwen3_learns_to_write_and_its_folder_predicts(
    chain: Chain, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVLM_QWEN3", str(write_qwen(tmp_path / "qwen")))
    run_tokenizer(TokenizerConfig(kind="qwen3", vocabulary_size=400), [], chain.project.tokenizer)
    changes = {"kind": kind, "lora_rank": 2, "lora_alpha": 4.0, **SIZES}
    chain.params = changed(chain.params, "decoder", **changes)
    chain.seg(steps=0)
    chain.cls(steps=0)
    chain.encode()
    chain.report(steps=0)
    before = chain.tensors("report/decoder")
    chain.report(steps=2, val_every=2, accumulate=1)
    after = chain.tensors("report/decoder")
    learned = {name for name in after if not torch.equal(before[name], after[name])}
    if kind == "qwen3_lora":
        assert all(".lora_" in name or name.startswith("projections.") for name in after)
        assert any("lora_B" in name for name in learned)
    assert {name for name in after if "projections" in name and "net" in name} <= learned
    folder = chain.models / "report"
    if kind == "qwen3_full":
        monkeypatch.delenv("UVLM_QWEN3")  # the folder stands alone
        assert "decoder.model.model.layers.7.mlp.up_proj.weight" in learned
    predictor = Predictor.load(folder)
    assert not [p for p in folder.iterdir() if p.suffix not in (".safetensors", ".json")]
    assert (kind == "qwen3_full") == ("UVLM_QWEN3" not in os.environ)
    numbers = generate_reports(
        changed(chain.params, "generate", num_beams=2, min_tokens=3),
        **chain.inputs,
        label_maps=chain.project.label_maps,
        encodings=chain.encodings,
        model=folder,
        seg=chain.models / "seg",
        predictions=tmp_path / "predictions.jsonl",
        masks=tmp_path / "generate.jsonl",
    )
    assert numbers["cases"] == 2
    rows = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert [row["model"] for row in rows] == [predictor.model.sha256[:12]] * 2


def test_an_adapter_without_its_qwen3_is_refused_by_predict(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVLM_QWEN3", str(write_qwen(tmp_path / "qwen")))
    run_tokenizer(TokenizerConfig(kind="qwen3", vocabulary_size=400), [], chain.project.tokenizer)
    chain.params = changed(chain.params, "decoder", kind="qwen3_lora", **SIZES)
    chain.seg(steps=0)
    chain.cls(steps=0)
    chain.encode()
    chain.report(steps=0)
    monkeypatch.setenv("UVLM_QWEN3", str(write_qwen(tmp_path / "other", seed=1)))
    with pytest.raises(DataError, match="the adapter was trained on"):
        Predictor.load(chain.models / "report")
    monkeypatch.delenv("UVLM_QWEN3")
    with pytest.raises(SetupError, match="UVLM_QWEN3"):
        Predictor.load(chain.models / "report")


def recorded(chain: Chain, folder: str) -> list[str]:
    config = json.loads((chain.models / folder / "config.json").read_text(encoding="utf-8"))
    return list(config["trained"])


@pytest.mark.slow
def test_a_model_folder_says_which_of_its_parts_have_learned(chain: Chain) -> None:
    """Worked out by hand from which training ran, with which rate for the encoder."""
    chain.seg(steps=0)
    assert recorded(chain, "seg") == []
    chain.cls(steps=0)
    assert recorded(chain, "cls") == []
    chain.encode()
    chain.report(steps=0)
    assert recorded(chain, "report") == []
    chain.report(steps=1, encoder_lr_scale=0.0)
    assert recorded(chain, "report") == ["language"]
    chain.report(steps=1, encoder_lr_scale=0.5)
    assert recorded(chain, "report") == ["encoder", "language"]
    chain.cls(steps=1, encoder_lr_scale=0.0)
    assert recorded(chain, "cls") == ["classifier"]
    chain.seg(steps=1)
    assert recorded(chain, "seg") == ["encoder", "segmentation"]
    chain.cls(steps=0)
    assert recorded(chain, "cls") == ["encoder"]
    chain.cls(steps=1, head_warmup_steps=0)
    assert recorded(chain, "cls") == ["encoder", "classifier"]
    chain.encode()
    chain.report(steps=0)
    assert recorded(chain, "report") == ["encoder", "segmentation", "classifier"]


@pytest.mark.slow
@pytest.mark.parametrize("steps", [0, 2])
def test_of_a_folder_without_the_record_the_weights_tell(chain: Chain, steps: int) -> None:
    chain.seg(steps=steps)
    chain.cls(steps=steps, head_warmup_steps=0)
    chain.encode()
    chain.report(steps=steps)
    folder = chain.models / "report"
    told = load_report_model(folder).trained
    assert told == (set(PARTS) if steps else set())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del config["trained"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert load_report_model(folder).config.trained is None
    assert load_report_model(folder).trained == told

"""Model folders: what is written comes back, what was touched is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from uvlm.config import ClassifierConfig, DecoderConfig, EncoderConfig, InjectionConfig
from uvlm.errors import DataError
from uvlm.model.build import build_classifier, build_encoder, build_unet
from uvlm.model.folder import check_contract, save_model
from uvlm.model.load import load_classifier, load_encoder, load_report_model, load_segmenter
from uvlm.model.model_config import ClsModelConfig, ReportModelConfig, SegModelConfig
from uvlm.model.uvlm import UVLM, SpecialIds

GRID = (8, 16, 16)
CLASSES = ("background", "lung", "heart")
ABNORMALITIES = ("Cardiomegaly", "Lung nodule")
HEAD = ClassifierConfig(num_queries=2, heads=2, dropout=0.0)
CONTRACT = {"orientation": "LPS", "clip_hu": (-1024, 3071), "grid": GRID}


@pytest.fixture
def seg(tmp_path: Path, encoder_config: EncoderConfig) -> Path:
    unet = build_unet(encoder_config, len(CLASSES))
    config = SegModelConfig(encoder=encoder_config, grid=GRID, class_names=CLASSES)
    modules = {"unet": unet.state_dict(), "encoder": unet.encoder.state_dict()}
    save_model(tmp_path / "seg", modules, config, CONTRACT)
    return tmp_path / "seg"


@pytest.fixture
def report(
    tmp_path: Path,
    uvlm: UVLM,
    encoder_config: EncoderConfig,
    decoder_config: DecoderConfig,
    injection_config: InjectionConfig,
) -> Path:
    encoder = build_encoder(encoder_config)
    classifier = build_classifier(encoder_config, HEAD, GRID, len(ABNORMALITIES))
    config = ReportModelConfig(
        encoder=encoder_config,
        grid=GRID,
        class_names=CLASSES,
        classifier=HEAD,
        abnormalities=ABNORMALITIES,
        decoder=decoder_config,
        injection=injection_config,
        vocabulary_size=40,
        specials=SpecialIds(0, 1, 2, 3, 4),
    )
    modules = {
        "unet": build_unet(encoder_config, len(CLASSES)).state_dict(),
        "encoder": encoder.state_dict(),
        "classifier": classifier.state_dict(),
        "decoder": uvlm.state_dict(),
    }
    folder = tmp_path / "report"
    save_model(folder, modules, config, CONTRACT, files={"tokenizer.json": b"{}"})
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_segmenter_comes_back_with_its_outputs(
    tmp_path: Path, encoder_config: EncoderConfig
) -> None:
    unet = build_unet(encoder_config, 3, deep_supervision=False).eval()
    config = {"kind": "seg", "encoder": encoder_config, "grid": GRID, "class_names": CLASSES}
    modules = {"unet": unet.state_dict(), "encoder": unet.encoder.state_dict()}
    digest = save_model(tmp_path / "m", modules, config, CONTRACT)
    loaded = load_segmenter(tmp_path / "m")
    x = torch.randn(1, 1, 8, 16, 16)
    assert torch.equal(loaded.unet(x), unet(x))
    assert not loaded.unet.training
    assert loaded.config.class_names == CLASSES
    assert loaded.sha256 == digest
    assert torch.equal(load_encoder(tmp_path / "m").encoder(x)[-1], unet.encoder(x)[-1])


def test_a_classifier_comes_back_with_its_outputs(
    tmp_path: Path, encoder_config: EncoderConfig
) -> None:
    encoder = build_encoder(encoder_config).eval()
    classifier = build_classifier(encoder_config, HEAD, GRID, 2).eval()
    config = ClsModelConfig(
        encoder=encoder_config, grid=GRID, classifier=HEAD, abnormalities=ABNORMALITIES
    )
    modules = {"encoder": encoder.state_dict(), "classifier": classifier.state_dict()}
    save_model(tmp_path / "cls", modules, config, CONTRACT)
    loaded = load_classifier(tmp_path / "cls")
    x = torch.randn(1, 1, 8, 16, 16)
    expected = classifier(encoder(x)[-1])
    assert torch.equal(loaded.classifier(loaded.encoder(x)[-1]), expected)
    assert loaded.config.abnormalities == ABNORMALITIES


def test_a_report_folder_stands_alone(
    report: Path, uvlm: UVLM, visual: list[Tensor], token_ids: Tensor
) -> None:
    loaded = load_report_model(report)
    assert torch.equal(loaded.uvlm(visual, token_ids), uvlm(visual, token_ids))
    assert loaded.tokenizer.read_bytes() == b"{}"
    assert loaded.config.specials == uvlm.specials
    x = torch.randn(1, 1, 8, 16, 16)
    assert loaded.unet(x).shape == (1, 3, 8, 16, 16)
    assert loaded.classifier(loaded.encoder(x)[-1]).shape == (1, 2)
    assert torch.equal(load_segmenter(report).unet(x), loaded.unet(x))
    assert torch.equal(load_classifier(report).encoder(x)[0], loaded.encoder(x)[0])


def test_a_folder_holds_safetensors_and_json_only(report: Path) -> None:
    assert sorted(path.name for path in report.iterdir()) == [
        "classifier.safetensors",
        "config.json",
        "contract.json",
        "decoder.safetensors",
        "encoder.safetensors",
        "tokenizer.json",
        "unet.safetensors",
    ]


def test_the_same_model_makes_the_same_bytes(seg: Path) -> None:
    loaded = load_segmenter(seg)
    before = {path.name: path.read_bytes() for path in seg.iterdir()}
    modules = {"unet": loaded.unet.state_dict(), "encoder": loaded.unet.encoder.state_dict()}
    digest = save_model(seg, modules, loaded.config, loaded.contract)
    assert {path.name: path.read_bytes() for path in seg.iterdir()} == before
    assert digest == loaded.sha256
    assert [path.name for path in seg.parent.iterdir()] == ["seg"]


def test_a_failed_save_leaves_the_old_folder_and_no_rubbish(seg: Path) -> None:
    loaded = load_segmenter(seg)
    modules = {"unet": loaded.unet.state_dict(), "encoder": loaded.unet.encoder.state_dict()}
    with pytest.raises(TypeError):
        save_model(seg, modules, loaded.config, {"grid": object()})
    assert [path.name for path in seg.parent.iterdir()] == ["seg"]
    assert load_segmenter(seg).sha256 == loaded.sha256


def test_modules_of_another_kind_are_not_saved(tmp_path: Path, seg: Path) -> None:
    with pytest.raises(ValueError, match=r"\['encoder', 'unet'\] needed"):
        save_model(tmp_path / "x", {"encoder": {}}, load_segmenter(seg).config, CONTRACT)
    assert not (tmp_path / "x").exists()


def test_the_wrong_kind_is_refused_and_both_kinds_are_named(seg: Path) -> None:
    with pytest.raises(DataError, match="holds a seg model, expected cls or report; pass") as info:
        load_classifier(seg)
    assert info.value.exit_code == 3
    with pytest.raises(DataError, match="holds a seg model, expected report"):
        load_report_model(seg)
    with pytest.raises(DataError, match="expected cls; pass the folder that train_cls writes"):
        load_encoder(seg, kinds=("cls",))


@pytest.mark.parametrize("name", ["config.json", "contract.json", "unet.safetensors"])
def test_a_missing_file_is_named(seg: Path, name: str) -> None:
    (seg / name).unlink()
    with pytest.raises(DataError, match=rf"{name}: no such file; .*dvc repro -f -s.*train_seg"):
        load_segmenter(seg)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder; pass the folder that train_seg"):
        load_encoder(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("models/sge", "models/sge: no such folder; did you mean .*/models/seg\\?"),
        ("modles/seg", "modles/seg: no such folder; did you mean .*/models/seg\\?"),
        ("models", "models: is no model folder: .*; did you mean .*/models/seg\\?"),
        ("models/seg/config.json", "is a file, not a model folder; did you mean .*/models/seg\\?"),
        ("models/seg/unet", "unet: no such folder; pass the folder that train_seg or"),
        ("a" * 300, r"a: cannot be read \(File name too long\); check the path"),
        ("models/other", "other: no such folder; pass the folder that train_seg or"),
    ],
)
def test_a_typo_in_the_path_is_answered_with_the_folder_that_is_there(
    seg: Path, tmp_path: Path, typed: str, words: str
) -> None:
    (tmp_path / "models").mkdir()
    seg.rename(tmp_path / "models" / "seg")
    with pytest.raises(DataError, match=words) as error:
        load_segmenter(tmp_path / typed)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("position", [0, 100, -1])
def test_one_changed_byte_in_the_weights_is_refused(seg: Path, position: int) -> None:
    path = seg / "unet.safetensors"
    payload = bytearray(path.read_bytes())
    payload[position] ^= 1
    path.write_bytes(payload)
    with pytest.raises(DataError, match=r"unet.safetensors: sha256 is .* but config.json says"):
        load_segmenter(seg)


def test_truncated_weights_are_refused(seg: Path) -> None:
    path = seg / "encoder.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match="damaged or replaced"):
        load_encoder(seg)


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"kind": "magic"}, "magic"),
        ({"format_version": 2}, "format_version"),
        ({"surprise": 1}, "surprise"),
        ({"grid": [8, 16]}, "grid"),
        ({"weights": {}}, "no sha256 for unet"),
    ],
)
def test_a_config_that_does_not_validate_is_refused(
    seg: Path, changes: dict[str, Any], fact: str
) -> None:
    edit_json(seg / "config.json", **changes)
    with pytest.raises(DataError, match=rf"config.json: .*{fact}"):
        load_segmenter(seg)


@pytest.mark.parametrize("text", ["{", "[1]", "\ufffd"])
def test_json_that_is_broken_is_refused(seg: Path, text: str) -> None:
    (seg / "contract.json").write_text(text)
    with pytest.raises(DataError, match=r"contract.json: not"):
        load_segmenter(seg)


def test_a_config_that_disagrees_with_the_weights_is_refused(seg: Path) -> None:
    edit_json(seg / "config.json", class_names=["background", "lung"])
    with pytest.raises(DataError, match="weights do not fit ResidualEncoderUNet"):
        load_segmenter(seg)


def test_the_contract_is_compared_key_by_key(seg: Path) -> None:
    check_contract(seg, CONTRACT)
    check_contract(seg, {"orientation": "LPS"})
    with pytest.raises(DataError, match=r"clip_hu is \[-1024, 3071\] in the model but \[-1000, "):
        check_contract(seg, CONTRACT | {"clip_hu": (-1000, 1000)})
    with pytest.raises(DataError, match="normalise is None in the model but 'window'"):
        check_contract(seg, CONTRACT | {"normalise": "window"})

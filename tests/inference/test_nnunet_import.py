"""`uvlm import-nnunet` on checkpoints that nnU-Net's own trainer writes."""

from __future__ import annotations

import copy
import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from uvlm.cli import app
from uvlm.config import PreprocessConfig
from uvlm.errors import ConfigError, DataError, UvlmError
from uvlm.inference.nnunet_import import import_nnunet
from uvlm.model.load import load_encoder, load_segmenter

LABELS = {"background": 0, "liver": 2, "spleen": 1, "lung": 3, "ignore": 4}
PREPROCESS = PreprocessConfig(
    orientation="LPS",
    clip_hu=(-1024, 3071),
    grid=(16, 16, 16),
    resize="stretch",
    normalise="zscore",
    window_hu=(-1000, 1000),
)


def make_plans(**arguments: Any) -> dict[str, Any]:
    """Plans as the ResEnc planner writes them, of a small network."""
    kernels, strides = [[3, 3, 3]] * 4, [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]]
    architecture = {
        "network_class_name": (
            "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
        ),
        "arch_kwargs": {
            "n_stages": 4,
            "features_per_stage": [4, 8, 12, 12],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": kernels,
            "strides": strides,
            "n_blocks_per_stage": [1, 3, 2, 2],
            "n_conv_per_stage_decoder": [1, 1, 1],
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
            **arguments,
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    full = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [16, 16, 16],
        "spacing": [1.5, 1.5, 1.5],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "batch_dice": False,
        "architecture": architecture,
    }
    cascade = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres", "batch_size": 4}
    return {
        "dataset_name": "Dataset999_Test",
        "plans_name": "nnUNetResEncUNetLPlans",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "configurations": {"3d_fullres": full, "3d_cascade_fullres": cascade},
    }


@pytest.fixture(scope="module")
def nnunet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """nnU-Net's trainer class, its folders below a temporary one."""
    root = tmp_path_factory.mktemp("nnunet")
    patch = pytest.MonkeyPatch()
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        patch.setenv(name, str(root / name))
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    yield nnUNetTrainer
    patch.undo()


def train_and_save(
    trainer_class: Any, path: Path, plans: dict[str, Any], dataset: dict[str, Any]
) -> Any:
    """Let nnU-Net build the network, move every weight by one step, and save as it always does."""
    given = {**copy.deepcopy(plans), "continue_training": False}
    trainer = trainer_class(given, "3d_fullres", 0, dataset, torch.device("cpu"))
    torch.manual_seed(0)
    trainer.network = trainer.build_network_architecture(
        trainer.plans_manager,
        trainer.configuration_manager,
        len(dataset["channel_names"]),
        trainer.label_manager.num_segmentation_heads,
        True,
    )
    trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()
    x = torch.randn(2, len(dataset["channel_names"]), 16, 16, 16)
    sum(output.square().mean() for output in trainer.network(x)).backward()
    trainer.optimizer.step()
    trainer.logger.log("train_losses", np.float32(0.5), 0)
    trainer.logger.log("dice_per_class_or_region", [np.float64(0.5)], 0)
    trainer._best_ema = np.float64(0.5)
    trainer.save_checkpoint(str(path))
    return trainer.network.eval()


@pytest.fixture(scope="module")
def saved(nnunet: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A checkpoint and the network that nnU-Net saved in it."""
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint_final.pth"
    dataset = {"channel_names": {"0": "CT"}, "labels": LABELS, "file_ending": ".nii.gz"}
    return path, train_and_save(nnunet, path, make_plans(), dataset)


@pytest.mark.slow
def test_the_model_gives_nnunets_outputs_bit_for_bit(
    saved: tuple[Path, Any], tmp_path: Path
) -> None:
    checkpoint, network = saved
    sha256 = import_nnunet(checkpoint, tmp_path / "out", preprocess=PREPROCESS)
    model = load_segmenter(tmp_path / "out")
    x = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(x)
        assert torch.equal(model.unet(x), expected[0])
        model.unet.decoder.deep_supervision = True
        assert all(torch.equal(*pair) for pair in zip(model.unet(x), expected, strict=True))
        features = load_encoder(tmp_path / "out").encoder(x)
        assert all(torch.equal(*p) for p in zip(features, network.encoder(x), strict=True))
    assert model.sha256 == sha256
    assert model.config.class_names == ("background", "spleen", "liver", "lung")
    assert model.config.encoder.strides == (1, 2, 2, 2)
    assert model.config.params["nnunet"]["normalization_schemes"] == ["CTNormalization"]
    assert model.contract["normalise"] == "zscore"


def test_only_safetensors_and_json_are_written(saved: tuple[Path, Any], tmp_path: Path) -> None:
    import_nnunet(saved[0], tmp_path / "out", preprocess=PREPROCESS)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"unet.safetensors", "encoder.safetensors", "config.json", "contract.json"}
    state = load_file(tmp_path / "out" / "unet.safetensors")
    assert not any(name.startswith("decoder.encoder.") for name in state)  # kept once


def test_the_command_prints_where_it_lies_and_what_it_is(
    saved: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    (tmp_path / "params.yaml").write_bytes((root / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    arguments = ["import-nnunet", str(saved[0]), "--out", "imported"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    sha256 = load_segmenter(Path("imported")).sha256
    assert f"UVLM_INITIAL_WEIGHTS={(tmp_path / 'imported').resolve()}" in result.output
    assert f"train_seg.initial_weights to sha256:{sha256}" in result.output
    again = CliRunner().invoke(app, arguments)
    assert isinstance(again.exception, ConfigError)


def changed(checkpoint: Path, out: Path, change: Any) -> Path:
    content = torch.load(checkpoint, map_location="cpu", weights_only=False)
    change(content)
    torch.save(content, out)
    return out


def test_plans_of_their_own_and_wrapped_names_are_read(
    saved: tuple[Path, Any], tmp_path: Path
) -> None:
    def bare(content: dict[str, Any]) -> None:
        content["init_args"] = {"configuration": "3d_cascade_fullres"}
        state = content["network_weights"]
        content["network_weights"] = {f"module._orig_mod.{n}": t for n, t in state.items()}

    checkpoint = changed(saved[0], tmp_path / "bare.pth", bare)
    with pytest.raises(DataError, match=r"holds no plans; pass its plans\.json with --plans"):
        import_nnunet(checkpoint, tmp_path / "out", preprocess=PREPROCESS)
    plans = tmp_path / "plans.json"
    plans.write_text(json.dumps(make_plans()))
    import_nnunet(checkpoint, tmp_path / "out", plans, PREPROCESS)
    model = load_segmenter(tmp_path / "out")
    assert model.config.class_names == tuple(f"class_{number}" for number in range(4))
    x = torch.ones(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(model.unet(x), saved[1](x)[0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"features_per_stage": [4, 8, 16, 16]}, r"encoder\.stages\.2\.\S+ has shape \(12"),
        ({"n_blocks_per_stage": [1, 3, 3, 2]}, r"no tensor encoder\.stages\.2\.blocks\.2"),
        ({"n_blocks_per_stage": [1, 3, 1, 2]}, r"unknown tensor \S*encoder\.stages\.2\.blocks\.1"),
        ({"strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]]}, "differ by axis"),
        ({"kernel_sizes": [[1, 3, 3], *[[3, 3, 3]] * 3]}, "kernel sizes are"),
        ({"norm_op": "torch.nn.modules.batchnorm.BatchNorm3d"}, "norm_op is BatchNorm3d"),
        ({"conv_op": "torch.nn.modules.conv.Conv2d"}, "conv_op is Conv2d"),
        ({"nonlin": "torch.nn.ReLU", "nonlin_kwargs": {}}, "nonlin is ReLU"),
        ({"stem_channels": 8}, "unknown setting stem_channels"),
    ],
)
def test_another_network_is_refused_naming_what_differs(
    saved: tuple[Path, Any], tmp_path: Path, arguments: dict[str, Any], words: str
) -> None:
    plans = tmp_path / "plans.json"
    plans.write_text(json.dumps(make_plans(**arguments)))
    with pytest.raises(DataError, match=words) as error:
        import_nnunet(saved[0], tmp_path / "out", plans, PREPROCESS)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def plain_network(content: dict[str, Any]) -> None:
    architecture = content["init_args"]["plans"]["configurations"]["3d_fullres"]["architecture"]
    architecture["network_class_name"] = "x.PlainConvUNet"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (plain_network, "network is PlainConvUNet"),
        (lambda c: c["init_args"]["plans"].update(transpose_forward=[2, 0, 1]), "order"),
        (lambda c: c["init_args"].update(configuration="2d"), "no configuration '2d'"),
        (lambda c: c["init_args"]["dataset_json"].update(labels={"a": 0, "b": 1}), "4 classes"),
        (
            lambda c: c["init_args"]["dataset_json"].update(labels={"a": 0, "b": [1, 2]}),
            "overlapping regions",
        ),
        (lambda c: c.pop("network_weights"), "holds no `network_weights`"),
        (lambda c: c["network_weights"].update(extra=torch.ones(1)), "unknown tensor extra"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    saved: tuple[Path, Any], tmp_path: Path, change: Any, words: str
) -> None:
    checkpoint = changed(saved[0], tmp_path / "other.pth", change)
    with pytest.raises(DataError, match=words):
        import_nnunet(checkpoint, tmp_path / "out", preprocess=PREPROCESS)
    assert not (tmp_path / "out").exists()


def test_a_network_of_two_channels_is_refused_by_its_first_tensor(
    nnunet: Any, tmp_path: Path
) -> None:
    dataset = {"channel_names": {"0": "CT", "1": "PET"}, "labels": LABELS, "file_ending": ".nii.gz"}
    train_and_save(nnunet, tmp_path / "two.pth", make_plans(), dataset)
    with pytest.raises(DataError, match=r"encoder\.stem\.convs\.0\.\S+ has shape \(4, 2, 3, 3, 3"):
        import_nnunet(tmp_path / "two.pth", tmp_path / "out", preprocess=PREPROCESS)


class Payload:
    """Would make a folder if it were unpickled."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trap),)


@pytest.mark.parametrize("kind", ["zip", "pickle", "text", "none"])
def test_nothing_in_a_file_is_run_and_every_refusal_is_one_line(
    kind: str, saved: tuple[Path, Any], tmp_path: Path
) -> None:
    path, trap = tmp_path / "evil.pth", tmp_path / "trap"
    if kind == "zip":
        changed(saved[0], path, lambda content: content.update(logging=Payload(trap)))
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"network_weights": Payload(trap)}, protocol=2))
    elif kind == "text":
        path.write_text("hello")
    with pytest.raises(DataError) as error:
        import_nnunet(path, tmp_path / "out", preprocess=PREPROCESS)
    assert "\n" not in str(error.value)
    assert not trap.exists()
    assert not (tmp_path / "out").exists()


def test_without_a_project_nothing_says_how_volumes_are_prepared(
    saved: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UvlmError, match=r"params\.yaml: is not here"):
        import_nnunet(saved[0], tmp_path / "out")

"""Stage 1 from a checkpoint of nnU-Net: fine-tuned, handed through, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.train.chain import Chain
from uvlm.config import EncoderConfig, Params
from uvlm.data.label_scheme import scheme
from uvlm.errors import DataError, SetupError
from uvlm.inference.nnunet_import import import_nnunet
from uvlm.model.build import build_unet
from uvlm.model.load import load_segmenter
from uvlm.seeding import seed_everything

FINE = scheme("chest", "fine_lesion").names


def nnunet_checkpoint(path: Path, encoder: EncoderConfig, labels: dict[str, int]) -> nn.Module:
    """What nnU-Net saves of a network that it builds itself, its weights far from any seed's."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    arguments = {
        "n_stages": len(encoder.channels),
        "features_per_stage": list(encoder.channels),
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * len(encoder.channels),
        "strides": [[stride] * 3 for stride in encoder.strides],
        "n_blocks_per_stage": list(encoder.blocks),
        "n_conv_per_stage_decoder": [encoder.decoder_convs] * (len(encoder.channels) - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    name = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    imported = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    torch.manual_seed(99)
    network: nn.Module = get_network_from_plans(
        name, arguments, imported, 1, len(labels), deep_supervision=True
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    architecture = {"network_class_name": name, "arch_kwargs": arguments}
    plans = {
        "plans_name": "nnUNetResEncUNetLPlans",
        "transpose_forward": [0, 1, 2],
        "configurations": {"3d_fullres": {"architecture": architecture}},
    }
    dataset = {"labels": labels, "channel_names": {"0": "CT"}}
    arguments_of_trainer = {
        "plans": plans, "configuration": "3d_fullres", "fold": 0, "dataset_json": dataset,
    }  # fmt: skip
    content = {"network_weights": network.state_dict(), "init_args": arguments_of_trainer}
    torch.save(content, path)
    return network


@pytest.fixture
def chain(params: Params, project: Any) -> Chain:
    return Chain(params, project)


@pytest.fixture
def start(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[nn.Module, str, Path]:
    """The network of an imported model with other classes, its digest, its folder."""
    labels = {"background": 0, "liver": 1, "spleen": 2}
    network = nnunet_checkpoint(tmp_path / "checkpoint.pth", chain.params.encoder, labels)
    folder = tmp_path / "imported"
    sha256 = import_nnunet(tmp_path / "checkpoint.pth", folder, preprocess=chain.params.preprocess)
    monkeypatch.setenv("UVLM_INITIAL_WEIGHTS", str(folder))
    return network, f"sha256:{sha256}", folder


def test_zero_steps_hand_the_imported_weights_on_with_a_seeded_head(
    chain: Chain, start: tuple[nn.Module, str, Path]
) -> None:
    network, sha256, _ = start
    chain.seg(steps=0, initial_weights=sha256[:19])
    seed_everything(chain.params.seed)
    seeded = build_unet(chain.params.encoder, len(FINE)).state_dict()
    imported = network.state_dict()
    written = chain.tensors("seg/unet")
    heads = [name for name in written if ".seg_layers." in name]
    assert len(heads) == 10
    for name, tensor in written.items():
        assert torch.equal(tensor, (seeded if name in heads else imported)[name]), name
    assert not torch.equal(written["encoder.stem.convs.0.conv.weight"],
                           seeded["encoder.stem.convs.0.conv.weight"])  # fmt: skip
    seg = chain.models / "seg"
    assert load_segmenter(seg).trained == {"encoder"}  # its head is a new one
    config = json.loads((seg / "config.json").read_text(encoding="utf-8"))
    (seg / "config.json").write_text(json.dumps(config | {"trained": None}), encoding="utf-8")
    assert load_segmenter(seg).trained == {"encoder"}  # as its weights tell
    chain.cls(steps=0)
    encoder = chain.tensors("cls/encoder")
    assert all(torch.equal(encoder[n], imported[f"encoder.{n}"]) for n in encoder)


def test_fine_tuning_starts_there_and_nowhere_else(
    chain: Chain, start: tuple[nn.Module, str, Path]
) -> None:
    """One step at a tiny rate moves every weight a little away from nnU-Net's."""
    network, sha256, _ = start
    optim = chain.params.train_seg.optim.model_copy(
        update={"lr": 1e-6, "warmup_steps": 0, "weight_decay": 0.0}
    )
    chain.seg(steps=1, initial_weights=sha256, optim=optim)
    imported = network.state_dict()
    moved = [
        (tensor - imported[name]).abs().max().item()
        for name, tensor in chain.tensors("seg/encoder").items()
        for name in [f"encoder.{name}"]
    ]
    assert 0 < max(moved) < 1e-5


def test_a_model_of_the_same_classes_keeps_its_head(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = {name: number for number, name in enumerate(FINE)}
    network = nnunet_checkpoint(tmp_path / "same.pth", chain.params.encoder, labels)
    folder = tmp_path / "same"
    sha256 = import_nnunet(tmp_path / "same.pth", folder, preprocess=chain.params.preprocess)
    monkeypatch.setenv("UVLM_INITIAL_WEIGHTS", str(folder))
    chain.seg(steps=0, initial_weights=f"sha256:{sha256}")
    imported = network.state_dict()
    assert all(torch.equal(t, imported[n]) for n, t in chain.tensors("seg/unet").items())
    assert load_segmenter(chain.models / "seg").trained == {"encoder", "segmentation"}


def test_a_model_that_is_not_the_one_named_is_refused(
    chain: Chain, start: tuple[nn.Module, str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, sha256, folder = start
    with pytest.raises(DataError, match="holds model sha256:"):
        chain.seg(steps=0, initial_weights="sha256:" + "0" * 12)
    monkeypatch.delenv("UVLM_INITIAL_WEIGHTS")
    with pytest.raises(SetupError, match="UVLM_INITIAL_WEIGHTS: is not set"):
        chain.seg(steps=0, initial_weights=sha256)
    monkeypatch.setenv("UVLM_INITIAL_WEIGHTS", str(folder.parent / "nowhere"))
    with pytest.raises(DataError, match="no such folder"):
        chain.seg(steps=0, initial_weights=sha256)
    assert not (chain.models / "seg").exists()


def test_another_encoder_or_preprocessing_is_refused(
    chain: Chain, start: tuple[nn.Module, str, Path]
) -> None:
    _, sha256, _ = start
    wider = chain.params.encoder.model_copy(update={"channels": (4, 4, 8, 8, 8, 16)})
    chain.params = chain.params.model_copy(update={"encoder": wider})
    with pytest.raises(DataError, match=r"encoder\.channels is .* in the model but"):
        chain.seg(steps=0, initial_weights=sha256)
    other = chain.params.preprocess.model_copy(update={"window_hu": (-500, 500)})
    chain.params = chain.params.model_copy(update={"preprocess": other})
    with pytest.raises(DataError, match="window_hu"):
        chain.seg(steps=0, initial_weights=sha256)

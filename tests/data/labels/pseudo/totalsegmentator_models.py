"""Tiny random nnU-Nets in the folders in which TotalSegmentator keeps its models.

Files and formats are those that the real package reads, pickles among them; only the networks are
small: two resolutions, four channels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from totalsegmentator.map_to_binary import class_map

from uvlm.data.labels.pseudo.totalsegmentator_weights import Model, Task, models_of

_SPACING = {297: [3.0, 3.0, 3.0], 117: [1.0, 0.703125, 0.703125]}
_CLASSES = {297: "total", 117: "lung_vessels"}
_LOBE = 10  # lung_upper_lobe_left


def write_models(weights: Path, task: Task, *, fast: bool) -> None:
    """Write every model that a task needs; the model that crops finds lung everywhere."""
    for number, model in enumerate(models_of(task, fast)):
        crops = task == "lung_vessels" and model.dataset_id == 297
        _write_model(weights, model, seed=number, always=_LOBE if crops else None)


def _write_model(weights: Path, model: Model, seed: int, always: int | None) -> None:
    classes = class_map[_CLASSES[model.dataset_id]]
    labels = {"background": 0, **{name: number for number, name in classes.items()}}
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    folder = weights / model.folder
    (folder / "fold_0").mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "plans.json").write_text(json.dumps(_plans(model)))
    checkpoint = {
        "network_weights": _network(len(labels), seed, always),
        "trainer_name": model.folder.name.partition("__")[0],
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, folder / "fold_0/checkpoint_final.pth")


def _network(num_classes: int, seed: int, always: int | None) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    architecture = {k: v for k, v in _architecture().items() if k not in ("conv_op", "norm_op")}
    architecture |= {"nonlin": torch.nn.LeakyReLU, "deep_supervision": False}
    network = PlainConvUNet(
        1,
        num_classes=num_classes,
        conv_op=torch.nn.Conv3d,
        norm_op=torch.nn.InstanceNorm3d,
        **architecture,
    )
    weights = {name: torch.randn_like(w) * 0.5 for name, w in network.state_dict().items()}
    for name in weights:
        if name.startswith("decoder.seg_layers") and name.endswith("bias"):
            weights[name] *= 0.1  # let the image decide, not the bias
            if always is not None:
                weights[name][always] = 200.0  # sums of half precision stay finite
    return weights


def _architecture() -> dict[str, Any]:
    return {
        "n_stages": 2,
        "features_per_stage": [4, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [2, 2, 2]],
        "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def _plans(model: Model) -> dict[str, Any]:
    spacing = _SPACING[model.dataset_id]
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [48, 48, 48],
        "median_image_size_in_voxels": [16.0, 16.0, 16.0],
        "spacing": spacing,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": resampling | {"is_seg": True},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": _architecture(),
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    intensity = {
        "max": 3000.0,
        "mean": -500.0,
        "median": -500.0,
        "min": -1024.0,
        "percentile_00_5": -1000.0,
        "percentile_99_5": 1000.0,
        "std": 400.0,
    }
    return {
        "dataset_name": model.folder.parts[0],
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": spacing,
        "original_median_shape_after_transp": [16, 16, 16],
        "image_reader_writer": "NibabelIOWithReorient",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensity},
    }

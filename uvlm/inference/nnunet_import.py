"""`uvlm import-nnunet`: a residual-encoder U-Net trained by nnU-Net as a model folder, once.

    checkpoint_final.pth                           folder
      network_weights  (encoder.*, decoder.*)        unet.safetensors, encoder.safetensors
      init_args        (plans, dataset.json)         config.json: sizes, class names, origin
                                                     contract.json: this project's preprocessing

The checkpoint is read with weights_only=True, which builds tensors, plain values and NumPy's
numbers (nnU-Net logs its losses as such) and refuses everything else.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from uvlm.config import PreprocessConfig, params_here
from uvlm.data.contract import contract
from uvlm.errors import ConfigError, DataError
from uvlm.inference.nnunet_plans import class_names, encoder_config, settings
from uvlm.model.build import build_unet
from uvlm.model.folder import save_model
from uvlm.model.model_config import SegModelConfig
from uvlm.model.weights import load_weights, weights_of

_HEAD: Final = "decoder.seg_layers."
_WRAPPERS: Final = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile
# What torch raises for files that are damaged or hold more than plain values.
_UNREADABLE: Final = (
    pickle.UnpicklingError, RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError,
    AttributeError,
)  # fmt: skip
_RECORDED: Final = ("spacing", "patch_size", "normalization_schemes")


def import_nnunet(
    checkpoint: Path,
    out: Path,
    plans: Path | None = None,
    preprocess: PreprocessConfig | None = None,
) -> str:
    """Write the model folder `out`, whole or not at all.

    Args:
        checkpoint: checkpoint_final.pth or checkpoint_best.pth of an nnU-Net v2 training.
        out: the folder to make; it must not exist.
        plans: plans.json, where the checkpoint holds none.
        preprocess: how volumes will be prepared for it; else that of params.yaml here.

    Returns:
        The model's sha256.

    Raises:
        ConfigError: `out` exists, or nothing says how volumes are prepared.
        DataError: the checkpoint is not one of nnU-Net, or its network has other parts or sizes.
    """
    if out.exists():
        raise ConfigError("--out", f"{out} exists", "name a new folder")
    if preprocess is None and (here := params_here()):
        preprocess = here.preprocess
    if preprocess is None:
        raise ConfigError(
            "params.yaml",
            "is not here, so nothing says how volumes are prepared",
            "run in the project, after `uvlm use PROFILE`",
        )
    content = _read(checkpoint)
    arguments = content.get("init_args") or {}
    planned = _read_plans(plans) if plans else arguments.get("plans")
    if not isinstance(planned, Mapping):
        raise DataError(checkpoint, "holds no plans", "pass its plans.json with --plans")
    configuration = str(arguments.get("configuration", "3d_fullres"))
    state = {_plain(name): tensor for name, tensor in content["network_weights"].items()}
    num_classes = _num_classes(state, checkpoint)
    unet = build_unet(encoder_config(planned, configuration, plans or checkpoint), num_classes)
    load_weights(unet, state, checkpoint)
    names = class_names(arguments.get("dataset_json") or {}, num_classes, checkpoint)
    origin = {key: settings(planned, configuration, checkpoint).get(key) for key in _RECORDED}
    origin |= {"plans": planned.get("plans_name"), "configuration": configuration}
    origin |= {key: content.get(key) for key in ("trainer_name", "current_epoch")}
    card = SegModelConfig(
        encoder=encoder_config(planned, configuration, plans or checkpoint),
        grid=preprocess.grid,
        params={"nnunet": origin},
        class_names=names,
    )
    modules = {"unet": weights_of(unet), "encoder": weights_of(unet.encoder)}
    return save_model(out, modules, card, contract(preprocess) | {"label_names": names})


def _read(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running anything that it may hold."""
    import numpy as np
    from numpy._core import multiarray

    if not path.is_file():
        raise DataError(path, "no such file")
    if not zipfile.is_zipfile(path):
        raise DataError(path, "is no checkpoint of PyTorch, or is cut short", "copy it again")
    numbers: list[Any] = [np.dtype, np.ndarray]
    numbers += [type(np.dtype(name)) for name in ("f4", "f8", "i4", "i8", "u1", "?")]
    for module in ("numpy.core", "numpy._core"):  # before and since NumPy 2
        numbers.append((multiarray.scalar, f"{module}.multiarray.scalar"))
        numbers.append((multiarray._reconstruct, f"{module}.multiarray._reconstruct"))
    try:
        with torch.serialization.safe_globals(numbers):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(path, f"not readable as tensors and plain values ({reason})") from None
    weights = content.get("network_weights") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(torch.is_tensor(t) for t in weights.values()):
        raise DataError(
            path, "holds no `network_weights`", "give a checkpoint_final.pth of nnU-Net v2"
        )
    return dict(content)


def _read_plans(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(path, "no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(path, f"not readable as JSON ({error})") from None


def _plain(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def _num_classes(state: Mapping[str, Tensor], subject: object) -> int:
    heads = [t for name, t in state.items() if name.startswith(_HEAD) and name.endswith(".weight")]
    if not heads:
        raise DataError(subject, f"no tensor {_HEAD}*", "give the checkpoint of a U-Net")
    return len(heads[-1])

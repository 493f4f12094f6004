"""`uvlm import-nnunet`: a residual-encoder U-Net trained by nnU-Net as a model folder, once.

    checkpoint_final.pth                           folder
      network_weights  (encoder.*, decoder.*)        unet.safetensors, encoder.safetensors
      init_args        (plans, dataset.json)         config.json: sizes, class names, origin
                                                     contract.json: this project's preprocessing

The checkpoint is read with weights_only=True, which builds tensors, plain values and NumPy's
numbers (nnU-Net logs its losses that way) and refuses everything else.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, Final

import torch

from uvlm.config import PreprocessConfig, params_here
from uvlm.data.contract import contract
from uvlm.errors import ConfigError, DataError
from uvlm.files import read_json
from uvlm.inference.nnunet_plans import class_names, encoder_config, settings
from uvlm.model.build import build_unet
from uvlm.model.folder import save_model
from uvlm.model.model_config import SegModelConfig
from uvlm.model.weights import load_weights, weights_of

_HEAD: Final = "decoder.seg_layers."
_WRAPPERS: Final = re.compile(r"^(module\.)?(_orig_mod\.)?")  # DistributedDataParallel, compile
# What torch raises when a file is damaged or holds more than plain values.
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
        plans: plans.json, if the checkpoint holds none.
        preprocess: how volumes will be prepared for it; by default as params.yaml here says.

    Returns:
        The model's sha256.

    Raises:
        ConfigError: `out` exists, or nothing says how volumes are prepared.
        DataError: the checkpoint is not one of nnU-Net, or its network has other parts or sizes.
    """
    if out.exists():
        raise ConfigError("--out", f"{out} exists", "choose a new folder")
    if preprocess is None:
        if (here := params_here()) is None:
            fact = "is not here, so nothing says how volumes are prepared"
            raise ConfigError("params.yaml", fact, "run in the project, after `uvlm use PROFILE`")
        preprocess = here.preprocess
    content = _read(checkpoint)
    arguments = content.get("init_args") or {}
    planned = read_json(plans) if plans else arguments.get("plans")
    if not isinstance(planned, Mapping):
        raise DataError(checkpoint, "holds no plans", "pass its plans.json with --plans")
    state = {_WRAPPERS.sub("", name): t for name, t in content["network_weights"].items()}
    heads = [t for name, t in state.items() if name.startswith(_HEAD) and name.endswith(".weight")]
    if not heads:
        raise DataError(checkpoint, f"no tensor {_HEAD}*", "use the checkpoint of a U-Net")
    num_classes = len(heads[-1])  # the full-resolution head: nnU-Net lists them deepest first
    configuration = str(arguments.get("configuration", "3d_fullres"))
    chosen = settings(planned, configuration, plans or checkpoint)
    encoder = encoder_config(planned, chosen, plans or checkpoint)
    unet = build_unet(encoder, num_classes)
    load_weights(unet, state, checkpoint)
    names = class_names(arguments.get("dataset_json") or {}, num_classes, checkpoint)
    origin = {key: chosen.get(key) for key in _RECORDED}
    origin |= {"plans": planned.get("plans_name"), "configuration": configuration}
    origin |= {key: content.get(key) for key in ("trainer_name", "current_epoch")}
    card = SegModelConfig(
        encoder=encoder,
        grid=preprocess.grid,
        params={"nnunet": origin},
        trained=("encoder", "segmentation"),
        class_names=names,
    )
    modules = {"unet": weights_of(unet), "encoder": weights_of(unet.encoder)}
    return save_model(out, modules, card, contract(preprocess) | {"label_names": names})


def _read(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running anything it may hold."""
    import numpy as np
    from numpy._core import multiarray

    if not path.is_file():
        raise DataError(path, "no such file")
    if not zipfile.is_zipfile(path):
        raise DataError(path, "is not a PyTorch checkpoint, or is cut short", "copy it again")
    # Reconstructing a number or an array of plain numbers runs no code of the file.
    numbers: list[Any] = [np.dtype, np.ndarray]
    numbers += [type(np.dtype(name)) for name in ("f4", "f8", "i4", "i8", "u1", "?")]
    # The first module is that of NumPy before 2, the second the one since.
    for module, name in product(("numpy.core", "numpy._core"), ("scalar", "_reconstruct")):
        numbers.append((getattr(multiarray, name), f"{module}.multiarray.{name}"))
    try:
        with torch.serialization.safe_globals(numbers):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(path, f"not readable as tensors and plain values ({reason})") from None
    weights = content.get("network_weights") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(torch.is_tensor(t) for t in weights.values()):
        remedy = "pass a checkpoint_final.pth of nnU-Net v2"
        raise DataError(path, "holds no `network_weights`", remedy)
    return dict(content)

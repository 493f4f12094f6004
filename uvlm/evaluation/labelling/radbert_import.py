"""`uvlm import-radbert`: the published checkpoint as safetensors, once and explicitly.

    checkpoint.pth                           folder
      model.embeddings...    (RoBERTa)         model.safetensors   the same names
      model....position_ids  (dropped)         config.json         of the base model
      classifier.{weight,bias}  (18, H)        tokenizer's files   of the base model

The checkpoint is read with weights_only=True, which unpickles nothing but tensors.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uvlm.errors import ConfigError, DataError, first_line
from uvlm.evaluation.labelling import radbert
from uvlm.files import filling_folder

if TYPE_CHECKING:
    from torch import Tensor

_BASE_FILES: Final = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("vocab.json", "merges.txt"),
)
_NOT_A_WEIGHT: Final = "model.embeddings.position_ids"  # a buffer of transformers before 4.31


def import_radbert(checkpoint: Path, base: Path, out: Path) -> None:
    """Write the folder that the radbert labeller loads, whole or not at all.

    Args:
        checkpoint: RadBertClassifier.pth as published with CT-RATE.
        base: the downloaded folder of zzxslp/RadBERT-RoBERTa-4m (config.json and tokenizer).
        out: the folder to make; it must not exist yet.

    Raises:
        ConfigError: `out` exists.
        DataError: the checkpoint or the base folder is something else.
    """
    from safetensors.torch import save_file

    if out.exists():
        raise ConfigError("--out", f"{out} exists", "name a new folder")
    transformers = radbert.import_transformers()
    if not (base / "config.json").is_file():
        raise DataError(base, "no config.json", "download zzxslp/RadBERT-RoBERTa-4m there")
    weights = _read_checkpoint(checkpoint)
    model = radbert.build_radbert(transformers.RobertaConfig.from_pretrained(base))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(checkpoint, f"does not fit {base / 'config.json'} ({reason})") from None
    with filling_folder(out) as folder:
        save_file(weights, folder / radbert.WEIGHTS_FILE)
        for file in _BASE_FILES:
            if (base / file).is_file():
                shutil.copyfile(base / file, folder / file)
        radbert.load_radbert(folder)  # a folder that does not load is not left behind


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the state dict, weights only."""
    import pickle

    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(path, "no such file") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        fact = f"is not a checkpoint of tensors ({first_line(error)})"
        raise DataError(path, fact) from None
    if not isinstance(content, dict) or not all(torch.is_tensor(v) for v in content.values()):
        raise DataError(path, "is not a state dict of tensors")
    # DataParallel puts "module." before every name; clones, because safetensors shares no memory.
    named = {name.removeprefix("module."): tensor for name, tensor in content.items()}
    return {n: tensor.contiguous().clone() for n, tensor in named.items() if n != _NOT_A_WEIGHT}

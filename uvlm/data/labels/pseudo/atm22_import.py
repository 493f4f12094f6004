"""`uvlm import-atm22`: the challenge's weights as safetensors, under this project's names.

The published file is a pickle; weights_only=True reads its tensors and runs nothing. The same
tensors give the same bytes, so the digest identifies a file wherever it was converted.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from uvlm.environment import ATM22_WEIGHTS
from uvlm.errors import ConfigError, DataError, SetupError, first_line
from uvlm.files import file_sha256, store_root, write_bytes_atomic

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX: Final = ".safetensors"
_NOT_IT: Final = "is not the challenge's baseline network"


def import_atm22(checkpoint: Path, out: Path) -> None:
    """Convert weight.pth of the challenge's baseline.

    Args:
        checkpoint: as published.
        out: the .safetensors file to write; it must not exist.

    Raises:
        ConfigError: `out` exists or has another suffix.
        DataError: the checkpoint is not that network's.
    """
    if out.suffix != SUFFIX or out.exists():
        fact = f"{out} exists" if out.exists() else f"{out} does not end in {SUFFIX}"
        raise ConfigError("--out", fact, f"use a new {SUFFIX} file")
    write_bytes_atomic(out, _converted(checkpoint))


def weights_file() -> Path:
    """Find the safetensors file of `$UVLM_ATM22_WEIGHTS`; convert a .pth file once.

    The conversion is kept in the store, under the digest of the published file.
    """
    remedy = "set it to the baseline's weight.pth, or to what `uvlm import-atm22` made of it"
    path = ATM22_WEIGHTS.needed(remedy, "no weights for the backend atm22")
    if not path.is_file():
        raise SetupError(ATM22_WEIGHTS.name, f"{path} is not a file", remedy)
    if path.suffix == SUFFIX:
        return path
    converted = store_root() / "weights" / f"atm22-{file_sha256(path)[:16]}{SUFFIX}"
    if not converted.is_file():
        write_bytes_atomic(converted, _converted(path))
    return converted


def _converted(checkpoint: Path) -> bytes:
    """Rename the tensors and check that they fit the network."""
    from safetensors.torch import save

    from uvlm.data.labels.pseudo.atm22_network import AirwayUNet, published_name

    published = _read(checkpoint)
    network = AirwayUNet()
    names = {name: published_name(name) for name in network.state_dict()}
    strange = set(published) ^ set(names.values())
    if strange:
        reason = f"{len(strange)} tensors missing or too many, such as {min(strange)}"
        raise DataError(checkpoint, f"{_NOT_IT} ({reason})")
    weights = {name: published[there].float().contiguous() for name, there in names.items()}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(checkpoint, f"{_NOT_IT} ({reason})") from None
    return save(weights)


def _read(path: Path) -> dict[str, Tensor]:
    """Read a state dict without running anything else a pickle may hold."""
    import pickle
    import warnings

    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whatever it warns about is refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(path, "no such file") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise DataError(path, f"not a checkpoint of tensors ({first_line(error)})") from None
    if not isinstance(content, dict) or not all(torch.is_tensor(v) for v in content.values()):
        raise DataError(path, "not a state dict of tensors")
    return dict(content)

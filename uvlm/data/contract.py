"""The preprocessing contract: how an array was prepared, and how its voxels become network input.

Its hash travels with every cached array and every checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import numpy as np
import numpy.typing as npt

from uvlm.config import PreprocessConfig

if TYPE_CHECKING:
    from torch import Tensor

VERSION: Final = 1
Values = TypeVar("Values", npt.NDArray[np.float32], "Tensor")


def normalise(
    array: npt.NDArray[Any], config: PreprocessConfig, statistics: tuple[float, float] | None = None
) -> npt.NDArray[np.float32]:
    """Scale Hounsfield units for the network: window to [-1, 1], or zero mean and unit spread.

    Args:
        array: a whole preprocessed volume or a patch of one.
        config: says which.
        statistics: mean and standard deviation of the whole volume, if `array` is a patch.
    """
    if statistics is None and config.normalise == "zscore":
        statistics = volume_statistics(array)
    return scaled(array.astype(np.float32), config, statistics or (0.0, 1.0))


def scaled(values: Values, config: PreprocessConfig, statistics: tuple[float, float]) -> Values:
    """Scale Hounsfield units, an array or a tensor of float32 to overwrite, as `normalise` does."""
    if config.normalise == "window":
        low, high = config.window_hu
        values = cast(Any, values).clip(low, high)  # float32 as before, whatever NumPy's types say
        centre, spread = (low + high) / 2, (high - low) / 2
    else:
        centre, spread = statistics[0], max(statistics[1], 1.0)  # an empty CT has no spread
    values -= _single(centre)
    values /= _single(spread)
    return values


def _single(number: float) -> float:
    """Round to float32, so that arrays and tensors reckon with the same number."""
    return float(np.float32(number))


def volume_statistics(array: npt.NDArray[Any]) -> tuple[float, float]:
    """Return mean and standard deviation of whole numbers, summed exactly."""
    # Sums of integers do not depend on their order, so machines cannot differ.
    total = squares = 0
    for plane in array:  # a plane at a time: whole volumes of int64 are large
        whole = plane.astype(np.int64)
        total, squares = total + int(whole.sum()), squares + int(np.square(whole).sum())
    count = array.size
    variance = (squares * count - total * total) / (count * count)
    return round(total / count, 6), round(float(np.sqrt(variance)), 6)


def contract(config: PreprocessConfig) -> dict[str, Any]:
    """Describe in JSON values how an array was prepared."""
    return {"version": VERSION, **config.model_dump(mode="json")}


def contract_sha256(config: PreprocessConfig) -> str:
    """Hash the contract."""
    text = json.dumps(contract(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()

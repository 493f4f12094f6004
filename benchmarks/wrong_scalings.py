"""Ways in which published CTs had wrong values, as functions of whole HU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Hu = npt.NDArray[Any]

WRONG: Final[dict[str, Callable[[Hu], Hu]]] = {
    "rescaled_twice": lambda hu: hu - 1024,
    "rescaled_twice_from_8192": lambda hu: hu - 8192,
    "never_rescaled": lambda hu: hu + 1024,
    "never_rescaled_from_8192": lambda hu: hu + 8192,
    "grey_values_0_to_255": lambda hu: np.clip((hu + 1000) * 255 // 2000, 0, 255),
    "wrapped_to_8_bits": lambda hu: hu & 255,
    "unit_interval": lambda hu: ((hu + 1024) / 4095).astype(np.float32),
    "z_scores": lambda hu: ((hu - hu.mean()) / hu.std()).astype(np.float32),
    "abdomen_window": lambda hu: np.clip(hu, -160, 240),
    "magnitudes": np.abs,
    "sign_inverted": lambda hu: -hu,
    "half": lambda hu: hu // 2,
    "tenfold": lambda hu: hu * 10,
    "bytes_swapped": lambda hu: hu.astype(np.int16).byteswap(),
}

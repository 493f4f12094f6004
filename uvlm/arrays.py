"""Names of arrays by what their numbers mean; shapes are documented where arrays are used."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]  # scores, probabilities, weights
Voxels = npt.NDArray[np.float32]  # a CT as the network sees it: normalised, (D, H, W)
Counts = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]  # whether a case shows an abnormality, or a voxel is in a structure
Ids = npt.NDArray[np.uint8]  # class ids, 0 is background, (D, H, W)

"""Random numbers as pure functions of a seed and of keys that name their use.

Different keys never share a stream, and the order in which streams are opened does not matter, so a
resumed run and a run on more workers draw the same numbers.
"""

from __future__ import annotations

import hashlib
import json
import random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def generator(seed: int, *keys: str | int) -> np.random.Generator:
    """Open the NumPy stream of these keys, for example `generator(seed, "patient", "train_7")`."""
    return np.random.Generator(np.random.PCG64(_entropy(seed, keys)))


def torch_generator(seed: int, *keys: str | int) -> torch.Generator:
    """Open the PyTorch stream of these keys, on the CPU."""
    import torch

    return torch.Generator().manual_seed(_entropy(seed, keys) % 2**63)


def unit_interval(seed: int, *keys: str | int) -> float:
    """Draw the one number in [0, 1) that belongs to these keys; cheaper than a stream."""
    # The upper 53 of 128 bits: as many as a double holds exactly.
    return (_entropy(seed, keys) >> 75) / 2**53


def happens(probability: float, rng: np.random.Generator) -> bool:
    """Draw once, but not for a probability of 0, so that adding such a case changes no draw."""
    return probability > 0 and bool(rng.random() < probability)


def seed_everything(seed: int) -> None:
    """Seed the global streams that libraries draw from."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _entropy(seed: int, keys: tuple[str | int, ...]) -> int:
    """Hash seed and keys into 128 bits; JSON tells 1 from "1", and "ab" from "a", "b"."""
    text = json.dumps([seed, *keys], ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[:16], "big")

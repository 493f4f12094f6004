"""Random numbers as pure functions of a seed and the keys that name their use.

Two keys never share a stream, and nothing depends on the order in which streams are drawn, so a
resumed run and a run on more workers see the same numbers.
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
    """Draw one number in [0, 1) that belongs to these keys: cheaper than a stream."""
    return (_entropy(seed, keys) >> 75) / 2**53


def happens(probability: float, rng: np.random.Generator) -> bool:
    """Draw once; a probability of 0 draws nothing, so that adding it changes no other draw."""
    return probability > 0 and bool(rng.random() < probability)


def seed_everything(seed: int) -> None:
    """Seed the global streams that libraries draw from behind our back."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _entropy(seed: int, keys: tuple[str | int, ...]) -> int:
    """Hash seed and keys into 128 bits; JSON keeps 1 and "1" apart, and "ab" and "a", "b"."""
    text = json.dumps([seed, *keys], ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[:16], "big")

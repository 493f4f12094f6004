"""The steps of a draft in their order, as `predict` tells of them; needs nothing else."""

from __future__ import annotations

from typing import Final

STEPS: Final = ("read", "prepare", "segment", "compare", "describe", "check", "write")

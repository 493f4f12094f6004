"""What every backend has to provide, so that the stage need not know which one it is.

A result is found again by the backend's provenance and the case's inputs; both end in the key.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uvlm.data.cases import Case
from uvlm.data.ct.volume import LabelMap


@dataclass(frozen=True)
class Provenance:
    """Where labels come from; recorded in every row of the manifest.

    `licence` is that of the labels or of the weights that make them; `weights_sha256` is empty if
    no network is involved.
    """

    backend: str
    version: str
    licence: str
    weights_sha256: str = ""
    options: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the provenance as fields of a row."""
        return asdict(self) | {"options": dict(self.options or {})}


class Backend(ABC):
    """Draws the pseudo-labels of CTs: small and picklable; equal backends draw equal labels."""

    @abstractmethod
    def provenance(self) -> Provenance:
        """Say what this is.

        Raises:
            SetupError: weights, a package or a folder is missing.
        """

    def inputs(self, case: Case, root: Path) -> list[str]:
        """Return what decides a case's labels: the CT's values, and its path for the header.

        Backends that read more than the CT below `root` append its digests.
        """
        return [case.sha256, case.volume]

    @abstractmethod
    def annotate(self, case: Case, root: Path) -> LabelMap:
        """Draw the labels of a case on its CT's own grid; loads once per process what it needs.

        Args:
            case: its paths are relative to `root`.
            root: the store.

        Raises:
            ReadError: the case is refused.
        """

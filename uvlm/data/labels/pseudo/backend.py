"""What every source of pseudo-labels has to be, so that the stage need not know which one it is.

    Backend    small and picklable: says what it is and what decides its result
    Annotator   what it loads, once in every process: the label map of a case, in the CT's own grid

A result is found again by the backend's provenance and the case's inputs; both end in the key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from uvlm.data.cases import Case
from uvlm.data.ct.volume import LabelMap

Annotator = Callable[[Case], LabelMap]


@dataclass(frozen=True)
class Provenance:
    """Where labels come from; it stands in every row of the manifest.

    `licence` is that of the labels or of the weights that make them; `weights_sha256` is empty
    where no network is involved.
    """

    backend: str
    version: str
    licence: str
    weights_sha256: str = ""
    options: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Give it as fields of a row."""
        return asdict(self) | {"options": dict(self.options or {})}


class Backend(Protocol):
    """A source of labels that has not been loaded; equal backends give equal labels."""

    def __hash__(self) -> int: ...

    def provenance(self) -> Provenance:
        """Say what this is.

        Raises:
            SetupError: weights, a package or a folder is missing.
        """
        ...

    def inputs(self, case: Case, root: Path) -> list[str]:
        """Give what decides this case's labels, as digests; paths are relative to `root`."""
        ...

    def load(self, root: Path) -> Annotator:
        """Make ready what labels cases; called once in each process.

        An annotator raises ReadError for a case that it refuses.
        """
        ...


def ct_inputs(case: Case) -> list[str]:
    """Name the CT itself: its stored values, and its path for the header."""
    return [case.sha256, case.volume]

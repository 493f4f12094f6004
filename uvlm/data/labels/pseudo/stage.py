"""Pseudo-labels of one kind for every case: labelled once, kept in canonical order.

    provenance (backend, version, weights, options) + inputs (CT, mask)  ->  key  ->  array

Cases are independent, so they may be worked on by several processes, machines or shares, and a
run that was killed goes on where it ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from uvlm.config import LabelKind, Params
from uvlm.data.cases import Case, read_index
from uvlm.data.ct.volume import axis_order
from uvlm.data.labels.pseudo.backend import Annotator, Backend, Provenance
from uvlm.data.labels.pseudo.backends import choose_backend
from uvlm.files import key_of, store_root
from uvlm.store import CaseProgress, Product, Row, Shard, every_case
from uvlm.store.product import NETWORKS_MAY_DIFFER

VERSION: Final = 2


def run(
    kind: LabelKind,
    params: Params,
    index_manifest: Path,
    out: Path,
    progress: CaseProgress | None = None,
    quarantine: Path | None = None,
    code: str = "",
) -> dict[str, int]:
    """Label every case of the index that the store does not hold yet; see `every_case.run`."""
    labels, limit = _Labels.of(kind, params), params.index.max_quarantined_share
    cases = read_index(index_manifest)
    return every_case.run(labels, cases, out, limit, quarantine, progress, code)


def run_shard(
    kind: LabelKind,
    params: Params,
    index_manifest: Path,
    shard: Shard,
    progress: CaseProgress | None = None,
    code: str = "",
) -> None:
    """Label one share of the cases; see `every_case.run_shard`."""
    labels = _Labels.of(kind, params)
    every_case.run_shard(labels, read_index(index_manifest), shard, progress, code)


@dataclass(frozen=True)
class _Labels(Product[Case]):
    kind: LabelKind
    backend: Backend
    provenance: Provenance
    stage = "pseudo_label"
    constant = "VERSION in uvlm/data/labels/pseudo/stage.py"

    @classmethod
    def of(cls, kind: LabelKind, params: Params) -> Self:
        """Choose the backend; what it lacks is said before anything is written."""
        backend = choose_backend(kind, getattr(params.pseudo_label, kind))
        return cls(store_root(), kind, backend, backend.provenance())

    @property
    def title(self) -> str:
        return f"{self.stage}@{self.kind}"

    @property
    def settings(self) -> list[Any]:
        return [VERSION, self.provenance.to_json()]

    @property
    def may_differ(self) -> float:
        return NETWORKS_MAY_DIFFER if self.provenance.weights_sha256 else 0.0

    def key(self, item: Case) -> str:
        return key_of(self.stage, *self.settings, self.backend.inputs(item, self.root))

    def make(self, item: Case) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
        """Label one case; give the ids in canonical order and where their grid lies."""
        label_map = _loaded(self.backend, self.root)(item)
        order = axis_order(label_map.affine)
        affine = order.canonical_affine(label_map.affine, label_map.array.shape)
        return order.forward(label_map.array), {"affine": np.round(affine, 4).tolist()}

    def row(self, item: Case, key: str, path: str, note: Mapping[str, Any]) -> Row:
        extra = {**self.provenance.to_json(), "affine": note["affine"]}
        return Row(item.case_id, key, path, note["sha256"], item.source, extra)


@cache
def _loaded(backend: Backend, root: Path) -> Annotator:
    """Load a backend once in this process."""
    return backend.load(root)

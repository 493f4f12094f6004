"""Pseudo-labels of one kind: drawn once for each case that gets a label map, in canonical order.

    provenance (backend, version, weights, options) + inputs (CT, mask)  ->  key  ->  array

Cases are independent, so several processes, machines or shares can work on them, and a run that was
killed continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np

from uvlm.arrays import Ids
from uvlm.config import LabelKind, Params
from uvlm.data.cases import Case
from uvlm.data.ct.volume import axis_order
from uvlm.data.labels.pseudo.backend import Backend, Provenance
from uvlm.data.labels.pseudo.backends import choose_backend
from uvlm.data.sets.raw import say_what_is_fetched
from uvlm.files import key_of, store_root
from uvlm.store import Product, Row
from uvlm.store.product import NETWORKS_MAY_DIFFER

VERSION: Final = 2


@dataclass(frozen=True)
class PseudoLabels(Product[Case]):
    """The labels of one kind; made from the cases of the index."""

    kind: LabelKind
    backend: Backend
    provenance: Provenance
    stage = "pseudo_label"
    constant = "VERSION in uvlm/data/labels/pseudo/stage.py"

    @classmethod
    def of(cls, params: Params, kind: LabelKind) -> Self:
        """Choose the backend; SetupError if it lacks something, before anything is written."""
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

    def make(self, item: Case) -> tuple[Ids, dict[str, Any]]:
        """Draw the labels of one case; return the ids in canonical order and their affine."""
        label_map = self.backend.annotate(item, self.root)
        order = axis_order(label_map.affine)
        affine = order.canonical_affine(label_map.affine, label_map.array.shape)
        return order.forward(label_map.array), {"affine": np.round(affine, 4).tolist()}

    def difference(self, item: Case) -> tuple[str, str] | None:
        say_what_is_fetched(self.title, [item], self.root, " again, to compare")
        return super().difference(item)

    def row(self, item: Case, key: str, path: str, note: Mapping[str, Any]) -> Row:
        extra = {**self.provenance.to_json(), "affine": note["affine"]}
        return Row(item.case_id, key, path, note["sha256"], item.source, extra)

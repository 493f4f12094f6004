"""Anatomical pseudo-labels of one kind for every case, in the CT's own grid, in canonical order.

    kind      ids stored                                       from
    anatomy   TotalSegmentator `total`                         published masks
    airway    TotalSegmentator `lung_vessels`: 1 lumen, 2 wall  phantom masks
    vessel    TotalSegmentator `lung_vessels`: 3 artery, 4 vein phantom masks

A backend is a function from a case to a label map; params.yaml names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from uvlm.config import Params
from uvlm.data.cases import Case, read_index
from uvlm.data.ct_rate import MaskKind, mask_path
from uvlm.data.io import read_label_map
from uvlm.data.volume import LabelMap, ReadError, axis_order
from uvlm.errors import ConfigError, SetupError
from uvlm.store import (
    CaseProgress,
    Refusal,
    Row,
    array_path,
    check_quarantine_share,
    find_or_make,
    key_of,
    map_cases,
    store_root,
    write_manifest,
    write_quarantine,
)

Kind = Literal["anatomy", "airway", "vessel"]
Backend = Callable[[Case, Kind, Path], LabelMap]
KINDS: Final[tuple[Kind, ...]] = ("anatomy", "airway", "vessel")
VERSION: Final = 1
_MASK: Final[Mapping[Kind, MaskKind]] = {"anatomy": "total", "airway": "airway", "vessel": "vessel"}
_LATER: Final = frozenset({"totalsegmentator", "atm22", "masks"})


def published_masks(case: Case, kind: Kind, root: Path) -> LabelMap:
    """Read the mask that was published with the volume."""
    return read_label_map(root / mask_path(case, _MASK[kind]))


_BACKENDS: Final[Mapping[tuple[Kind, str], Backend]] = {
    ("anatomy", "phantom"): published_masks,
    ("anatomy", "ct_rate_masks"): published_masks,
    ("airway", "phantom"): published_masks,
    ("vessel", "phantom"): published_masks,
}


def backend(kind: Kind, name: str) -> Backend:
    """Look up a backend by the name that params.yaml gives it."""
    if (kind, name) in _BACKENDS:
        return _BACKENDS[kind, name]
    ready = ", ".join(sorted(known for for_kind, known in _BACKENDS if for_kind == kind))
    subject = f"pseudo_label.{kind}.backend"
    if name in _LATER:
        raise SetupError(subject, f"{name} is not part of this release", f"use {ready}")
    raise ConfigError(subject, f"there is no backend {name}", f"use {ready}")


def run(
    kind: Kind,
    params: Params,
    index_manifest: Path,
    out: Path,
    progress: CaseProgress | None = None,
    quarantine: Path | None = None,
) -> dict[str, int]:
    """Label every case of the index that the store does not hold yet.

    Args:
        kind: which structures.
        params: the section `pseudo_label`, and `index.max_quarantined_share`.
        index_manifest: the cases.
        out: the manifest to write.
        progress: told how far it is.
        quarantine: where refused cases are listed.

    Returns:
        How many cases were kept, and how many refused by each reason.
    """
    name = getattr(params.pseudo_label, kind).backend
    backend(kind, name)
    cases = read_index(index_manifest)
    work = partial(_label_case, kind=kind, name=name, root=store_root())
    results = map_cases(work, cases, description=f"pseudo_label@{kind}", progress=progress)
    refusals = [result for result in results if isinstance(result, Refusal)]
    if quarantine is not None:
        write_quarantine(quarantine, refusals)
    check_quarantine_share(
        f"pseudo_label_{kind}", len(refusals), len(cases), params.index.max_quarantined_share
    )
    rows = [result for result in results if isinstance(result, Row)]
    write_manifest(out, rows)
    counts = {"kept": len(rows)}
    for refusal in refusals:
        counts[refusal.reason] = counts.get(refusal.reason, 0) + 1
    return counts


def _label_case(case: Case, kind: Kind, name: str, root: Path) -> Row | Refusal:
    """Label one case, or find its labels in the store."""
    digest = case.mask_sha256.get(_MASK[kind], "")
    key = key_of("pseudo_label", VERSION, kind, name, case.volume, digest)
    path = array_path("pseudo_label", key)
    try:
        note = find_or_make(root / path, lambda: _make(case, kind, name, root))
    except ReadError as error:
        return Refusal(case.case_id, error.subject, error.reason, error.fact, error.remedy)
    extra = {"backend": name, "affine": note["affine"]}
    return Row(case.case_id, key, path, note["sha256"], case.source, extra)


def _make(
    case: Case, kind: Kind, name: str, root: Path
) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
    """Label one case; return the ids in canonical order and where their grid lies."""
    label_map = backend(kind, name)(case, kind, root)
    order = axis_order(label_map.affine)
    affine = order.canonical_affine(label_map.affine, label_map.array.shape)
    return order.forward(label_map.array), {"affine": np.round(affine, 4).tolist()}

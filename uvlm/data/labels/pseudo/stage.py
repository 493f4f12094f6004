"""Pseudo-labels of one kind for every case: labelled once, kept in canonical order.

    provenance (backend, version, weights, options) + inputs (CT, mask)  ->  key  ->  array

Cases are independent, so they may be worked on by several processes, machines or shares, and a
run that was killed goes on where it ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from uvlm.config import LabelKind, Params
from uvlm.data.cases import Case, read_index
from uvlm.data.ct.volume import ReadError, axis_order
from uvlm.data.labels.pseudo.backend import Backend, Labeller, Provenance
from uvlm.data.labels.pseudo.backends import choose_backend
from uvlm.files import key_of, store_root
from uvlm.store import (
    CaseProgress,
    Refusal,
    Row,
    Shard,
    array_path,
    check_quarantine_share,
    find_or_make,
    map_cases,
    write_manifest,
    write_quarantine,
)

VERSION: Final = 2


@dataclass(frozen=True)
class _Work:
    """What every process needs to label its cases."""

    backend: Backend
    provenance: Provenance
    root: Path


def run(
    kind: LabelKind,
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
    work = _prepare(kind, params)
    cases = read_index(index_manifest)
    results = _label(kind, cases, work, progress)
    refusals = [result for result in results if isinstance(result, Refusal)]
    if quarantine is not None:
        write_quarantine(quarantine, refusals)
    check_quarantine_share(
        f"pseudo_label_{kind}", len(refusals), len(cases), params.index.max_quarantined_share
    )
    rows = [result for result in results if isinstance(result, Row)]
    write_manifest(out, rows)
    return {"kept": len(rows), **Counter(refusal.reason for refusal in refusals)}


def run_shard(
    kind: LabelKind,
    params: Params,
    index_manifest: Path,
    shard: Shard,
    progress: CaseProgress | None = None,
) -> None:
    """Label one share of the cases into the store and write nothing else.

    `run` then finds every share there and only assembles; what a share refused it refuses again.
    """
    work = _prepare(kind, params)
    _label(kind, shard.of(read_index(index_manifest)), work, progress)


def _prepare(kind: LabelKind, params: Params) -> _Work:
    """Choose the backend; what it lacks is said before anything is written."""
    backend = choose_backend(kind, getattr(params.pseudo_label, kind))
    return _Work(backend, backend.provenance(), store_root())


def _label(
    kind: LabelKind, cases: Sequence[Case], work: _Work, progress: CaseProgress | None
) -> list[Row | Refusal]:
    label = partial(_label_case, work=work)
    return map_cases(label, cases, description=f"pseudo_label@{kind}", progress=progress)


def _label_case(case: Case, work: _Work) -> Row | Refusal:
    """Label one case, or find its labels in the store."""
    told = work.provenance.to_json()
    try:
        key = key_of("pseudo_label", VERSION, told, work.backend.inputs(case, work.root))
        path = array_path("pseudo_label", key)
        note = find_or_make(work.root / path, lambda: _make(case, work))
    except ReadError as error:
        file = _file_name(error.subject, work.root)
        return Refusal(case.case_id, file, error.reason, error.fact, error.remedy)
    extra = {**told, "affine": note["affine"]}
    return Row(case.case_id, key, path, note["sha256"], case.source, extra)


def _file_name(subject: str, root: Path) -> str:
    """Name a file without the place of this machine's folders."""
    path = Path(subject)
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return path.name if path.is_absolute() else subject


@cache
def _loaded(backend: Backend, root: Path) -> Labeller:
    """Load a backend once in this process."""
    return backend.load(root)


def _make(case: Case, work: _Work) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
    """Label one case; return the ids in canonical order and where their grid lies."""
    label_map = _loaded(work.backend, work.root)(case)
    order = axis_order(label_map.affine)
    affine = order.canonical_affine(label_map.affine, label_map.array.shape)
    return order.forward(label_map.array), {"affine": np.round(affine, 4).tolist()}

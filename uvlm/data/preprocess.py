"""Preprocessing: any CT to int16 Hounsfield units in LPS on the network's grid, and back.

    file axes --flip--> canonical (z, y, x) --clip--> --anti-aliased linear--> grid --round--> int16

The contract says how; its hash travels with every cached array and every checkpoint.
`resize: stretch` brings the whole volume onto the grid, `resample_pad` keeps proportions at
`spacing_mm` and cuts or pads around the middle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from uvlm.config import Params, PreprocessConfig
from uvlm.data.cases import Case, read_index
from uvlm.data.contract import VERSION, contract_sha256, volume_statistics
from uvlm.data.ct.grid import Geometry, preprocess_volume
from uvlm.data.ct.io import read_volume
from uvlm.data.ct.volume import (
    ReadError,
)
from uvlm.data.leaks.likeness import fingerprint
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

_CACHE_VERSION: Final = 2  # of what is kept beside the arrays, which do not depend on it


def run(
    params: Params,
    index_manifest: Path,
    out: Path,
    quarantine: Path,
    progress: CaseProgress | None = None,
) -> dict[str, int]:
    """Preprocess every case of the index that the store does not hold yet.

    Returns:
        How many cases were kept, and how many refused by each reason.
    """
    cases = read_index(index_manifest)
    results = _preprocess(cases, params.preprocess, progress)
    rows = [result for result in results if isinstance(result, Row)]
    refusals = [result for result in results if isinstance(result, Refusal)]
    write_quarantine(quarantine, refusals)
    check_quarantine_share(
        "preprocess", len(refusals), len(cases), params.index.max_quarantined_share
    )
    write_manifest(out, rows)
    return {"kept": len(rows), **Counter(refusal.reason for refusal in refusals)}


def run_shard(
    params: Params, index_manifest: Path, shard: Shard, progress: CaseProgress | None = None
) -> None:
    """Preprocess one share of the cases into the store and write nothing else.

    `run` then finds every share there and only assembles; what a share refused it refuses again.
    """
    _preprocess(shard.of(read_index(index_manifest)), params.preprocess, progress)


def _preprocess(
    cases: Sequence[Case], config: PreprocessConfig, progress: CaseProgress | None
) -> list[Row | Refusal]:
    work = partial(_preprocess_case, config=config, root=store_root())
    return map_cases(work, cases, description="preprocess", progress=progress)


def _preprocess_case(case: Case, config: PreprocessConfig, root: Path) -> Row | Refusal:
    """Preprocess one case, or find it in the store."""
    made_by = config.model_dump(mode="json", exclude={"normalise", "window_hu"})
    identity = case.sha256 or case.volume
    key = key_of("preprocess", VERSION, _CACHE_VERSION, identity, case.volume, made_by)
    path = array_path("preprocess", key)
    try:
        note = find_or_make(root / path, lambda: make_cached(root / case.volume, config))
    except ReadError as error:
        return Refusal(case.case_id, case.volume, error.reason, error.fact, error.remedy)
    geometry = Geometry.from_json(note["native"])
    extra = {
        "shape": list(geometry.grid),
        "affine": geometry.grid_affine.tolist(),
        "native": note["native"],
        "mean": note["mean"],
        "std": note["std"],
        "fingerprint": note["fingerprint"],
        "contract_sha256": contract_sha256(config),
    }
    return Row(case.case_id, key, path, note["sha256"], case.source, extra)


def make_cached(
    path: Path, config: PreprocessConfig
) -> tuple[npt.NDArray[np.int16], dict[str, Any]]:
    """Read a CT; return its array on the grid and what is kept beside it."""
    volume = read_volume(path)
    array, geometry = preprocess_volume(volume, config)
    mean, std = volume_statistics(array)
    # A grid that holds the whole volume looks like it, and is smaller.
    whole = array if config.resize == "stretch" else geometry.order.view(volume.array)
    told = {"native": geometry.to_json(), "mean": mean, "std": std}
    return array, told | {"fingerprint": fingerprint(whole)}

"""Label maps for training: anatomy, airways, vessels and lesions in one map on the network's grid.

Every case whose volume and pseudo-labels exist gets one; how they are merged is in `label_merge`.
Labels that were drawn on another grid are brought onto the CT's, and refused where the two do not
meet. What is measured of each map (see `label_facts`) is kept beside its array.

(z, y, x) canonical order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from uvlm.arrays import Ids
from uvlm.config import LabelMapsConfig, Params
from uvlm.data.cases import Case, read_index
from uvlm.data.ct.grid import Geometry
from uvlm.data.ct.grid_rules import is_on_grid
from uvlm.data.ct.volume import Affine, LabelMap, spacing_of
from uvlm.data.label_scheme import IGNORE_ID, FineClasses, fine_classes, scheme
from uvlm.data.labels.findings import read_case_findings
from uvlm.data.labels.measure import measure
from uvlm.data.labels.merge import (
    Finding,
    claims,
    ignore_near_findings,
    merge_anatomy,
    overlaps,
    paint_findings,
    to_grid,
)
from uvlm.data.labels.regrid import onto_grid
from uvlm.errors import ConfigError
from uvlm.files import key_of, store_root
from uvlm.store import CaseProgress, Product, Row, every_case, load_array, resolve, rows_by_case
from uvlm.text.abnormalities import ABNORMALITIES

VERSION: Final = 2
_NOT_A_LESION: Final = ABNORMALITIES.index("Cardiomegaly")


@dataclass(frozen=True)
class _Job:
    """What one label map is made from."""

    case: Case
    volume: Row
    parts: dict[str, Row]

    @property
    def case_id(self) -> str:
        """Name the case."""
        return self.case.case_id

    def margin_mm(self, config: LabelMapsConfig) -> float:
        """Say how far around its findings this map ignores voxels.

        Scores never see ignored voxels, and where lesions are no classes there is no doubt.
        """
        is_taught = self.case.split == "train" and scheme(config.dataset, config.scheme).lesion_ids
        return config.ignore_margin_mm if is_taught else 0.0


def run(
    params: Params,
    index: Path,
    preprocess: Path,
    parts: Mapping[str, Path],
    out: Path,
    progress: CaseProgress | None = None,
    quarantine: Path | None = None,
    code: str = "",
) -> dict[str, int]:
    """Make the label map of every case whose volume and pseudo-labels exist.

    With lesion classes, a case that has abnormalities but no findings mask is left out: its lesions
    would be taught as background.

    Args:
        params: the sections `label_maps` and `index`.
        index: manifest of the cases.
        preprocess: manifest of the volumes; it carries the geometry.
        parts: by kind (anatomy, airway, vessel), the manifest of the pseudo-labels.
        out: the manifest to write; `voxels` counts the voxels of each class present.
        progress: told how far it is.
        quarantine: where refused cases are listed.
        code: digest of the stage's code; see `every_case.run`.

    Returns:
        How many cases were kept, left out as not annotated, and refused by each reason.
    """
    config = params.label_maps
    if "lesion" in config.priority and config.priority[-1] != "lesion":
        raise ConfigError("label_maps.priority", "lesion is not the last", "lesions always survive")
    jobs, unannotated = _jobs(config, index, preprocess, parts)
    maps, limit = _LabelMaps(store_root(), config), params.index.max_quarantined_share
    counts = every_case.run(maps, jobs, out, limit, quarantine, progress, code)
    return counts | {"unannotated": unannotated}


def _jobs(
    config: LabelMapsConfig, index: Path, preprocess: Path, parts: Mapping[str, Path]
) -> tuple[list[_Job], int]:
    """Join the manifests; also count the cases whose lesions nobody has drawn."""
    volumes = rows_by_case(preprocess)
    wanted: list[str] = [kind for kind in config.priority if kind != "lesion"]
    labels = {kind: rows_by_case(parts[kind]) for kind in wanted}
    jobs, unannotated = [], 0
    for case in read_index(index):
        found = {kind: rows[case.case_id] for kind, rows in labels.items() if case.case_id in rows}
        if case.case_id not in volumes or len(found) < len(wanted):
            continue
        if is_left_undrawn(case, config):
            unannotated += 1
            continue
        jobs.append(_Job(case, volumes[case.case_id], found))
    return jobs, unannotated


def is_left_undrawn(case: Case, config: LabelMapsConfig) -> bool:
    """Whether lesions are to be taught and this case has some that nobody drew."""
    lesions = [flag for i, flag in enumerate(case.abnormalities) if i != _NOT_A_LESION]
    taught = bool(scheme(config.dataset, config.scheme).lesion_ids)
    return taught and not _is_drawn(case, config) and any(lesions)


def _is_drawn(case: Case, config: LabelMapsConfig) -> bool:
    """Whether somebody has drawn the lesions of this case."""
    drawn = fine_classes(config.dataset).lesions_come_with_anatomy
    return drawn or case.findings_mask is not None


@dataclass(frozen=True)
class _LabelMaps(Product[_Job]):
    config: LabelMapsConfig
    stage = "label_maps"
    constant = "VERSION in uvlm/data/labels/label_maps.py"

    @property
    def settings(self) -> list[Any]:
        return [VERSION, self.config.model_dump(mode="json")]

    def key(self, item: _Job) -> str:
        case, volume = item.case, item.volume
        drawn = case.mask_sha256.get("findings", case.findings_mask), case.finding_categories
        parts = [(row.sha256, row.extra["affine"]) for _, row in sorted(item.parts.items())]
        version, config = self.settings
        settings = config | {"ignore_margin_mm": item.margin_mm(self.config)}
        ct = volume.sha256, volume.extra["native"]
        return key_of(self.stage, version, parts, *drawn, ct, settings)

    def make(self, item: _Job) -> tuple[Ids, dict[str, Any]]:
        """Make one label map; also count the voxels of each class, and measure the anatomy."""
        config, geometry = self.config, Geometry.from_json(item.volume.extra["native"])
        said = _read_claims(item.case, item.parts, config, geometry, self.root)
        fine, findings = said.fine, said.findings
        spacing, margin = spacing_of(said.affine), item.margin_mm(config)
        merged = ignore_near_findings(said.painted(), findings, margin, spacing, fine)
        grid = scheme(config.dataset, config.scheme).fold(to_grid(merged, findings, geometry, fine))
        hu = load_array(resolve(item.volume, "preprocess"), item.volume.sha256)
        tissue = geometry.labels_to_grid(said.anatomy), hu
        both = overlaps(claims(said.parts, findings, fine))
        facts = measure(said.anatomy, said.affine, fine.one_piece, tissue, both).to_json()
        counts = np.bincount(grid.ravel(), minlength=256)
        voxels = {str(i): int(n) for i, n in enumerate(counts) if n and i != IGNORE_ID}
        return grid, {"voxels": voxels, "ignored": int(counts[IGNORE_ID]), "facts": facts}

    def row(self, item: _Job, key: str, path: str, note: Mapping[str, Any]) -> Row:
        extra = {"voxels": note["voxels"], "annotated": _is_drawn(item.case, self.config)}
        if note["ignored"]:
            extra["ignored"] = note["ignored"]
        return Row(item.case_id, key, path, note["sha256"], item.case.source, extra)


def native_label_map(
    case: Case, parts: Mapping[str, Row], config: LabelMapsConfig, geometry: Geometry, root: Path
) -> LabelMap:
    """Paint the label map of a case on the voxels and axes of its CT, nothing sampled."""
    painted = _read_claims(case, parts, config, geometry, root).painted()
    ids = scheme(config.dataset, config.scheme).fold(painted)
    return LabelMap(geometry.order.backward(ids), geometry.affine)


@dataclass(frozen=True, eq=False)
class _Claims:
    """What each kind says about the voxels of one CT, in canonical order."""

    fine: FineClasses
    affine: Affine
    parts: dict[str, Ids]
    findings: list[Finding]
    anatomy: Ids

    def painted(self) -> Ids:
        """Merge everything into one map of fine ids."""
        return paint_findings(self.anatomy, self.findings, self.fine)


def _read_claims(
    case: Case, parts: Mapping[str, Row], config: LabelMapsConfig, geometry: Geometry, root: Path
) -> _Claims:
    """Read the pseudo-labels and findings of a case, and merge its anatomy."""
    fine = fine_classes(config.dataset)
    affine = geometry.order.canonical_affine(geometry.affine, geometry.shape)
    arrays = _read_parts(parts, geometry, affine)
    findings = []
    if "lesion" in config.priority:
        findings = read_case_findings(case, geometry, fine, root)
    return _Claims(fine, affine, arrays, findings, merge_anatomy(arrays, config.priority, fine))


def _read_parts(parts: Mapping[str, Row], geometry: Geometry, affine: Affine) -> dict[str, Ids]:
    """Read the pseudo-labels of a case on the CT's own voxels, in canonical order."""
    shape = geometry.order.canonical_shape(geometry.shape)
    arrays: dict[str, Ids] = {}
    for kind, row in parts.items():
        array = load_array(resolve(row, f"pseudo_label@{kind}"), row.sha256)
        drawn = LabelMap(array, np.asarray(row.extra["affine"], float))
        on_grid = is_on_grid(drawn, shape, affine)
        arrays[kind] = array if on_grid else onto_grid(drawn, shape, affine, row.path)
    return arrays

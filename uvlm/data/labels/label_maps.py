"""Label maps for training: anatomy, airways, vessels and lesions in one map on the network's grid.

Every case that `label_maps.cases` chooses and that has a volume and pseudo-labels gets one; `merge`
says how they are merged. Labels drawn on another grid are brought onto the CT's, and refused if the
two do not meet. What `measure` finds in each map is kept beside its array.

(z, y, x) canonical order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from uvlm.arrays import Ids
from uvlm.config import LabelKind, LabelMapsConfig, Params
from uvlm.data.cases import Case, lesions_are_drawn, read_index, why_unmapped
from uvlm.data.ct.boxes import count_ids
from uvlm.data.ct.grid import Geometry
from uvlm.data.ct.volume import Affine, LabelMap, spacing_of
from uvlm.data.label_scheme import IGNORE_ID, FineClasses, fine_classes, scheme
from uvlm.data.labels import merge
from uvlm.data.labels.findings import read_case_findings
from uvlm.data.labels.measure import measure
from uvlm.data.labels.regrid import onto_grid
from uvlm.errors import ConfigError
from uvlm.files import key_of, store_root
from uvlm.store import Product, Row, load_array, resolve, rows_by_case

VERSION: Final = 2


@dataclass(frozen=True)
class Job:
    """What one label map is made from; `parts` are the pseudo-labels by kind."""

    case: Case
    volume: Row
    parts: dict[str, Row]

    @property
    def case_id(self) -> str:
        """Name the case."""
        return self.case.case_id

    def margin_mm(self, config: LabelMapsConfig) -> float:
        """Return how far around its findings this map ignores voxels.

        Scores never see ignored voxels, and if lesions are no classes there is no doubt.
        """
        is_taught = self.case.split == "train" and scheme(config.dataset, config.scheme).lesion_ids
        return config.ignore_margin_mm if is_taught else 0.0


def join(
    config: LabelMapsConfig, index: Path, preprocess: Path, parts: Mapping[LabelKind, Path]
) -> tuple[list[Job], int]:
    """Find the chosen cases whose volume and pseudo-labels exist.

    Args:
        config: says which cases and which kinds are wanted.
        index: manifest of the cases.
        preprocess: manifest of the volumes; it carries the geometry.
        parts: by kind (anatomy, airway, vessel), the manifest of the pseudo-labels.

    Returns:
        The jobs, and how many cases with a volume `label_maps.cases` leaves out.
    """
    volumes = rows_by_case(preprocess)
    labels = {str(kind): rows_by_case(parts[kind]) for kind in config.priority if kind != "lesion"}
    jobs, unannotated = [], 0
    for case in read_index(index):
        found = {kind: rows[case.case_id] for kind, rows in labels.items() if case.case_id in rows}
        if case.case_id not in volumes:
            continue
        if why_unmapped(case, config):
            unannotated += 1
        elif len(found) == len(labels):
            jobs.append(Job(case, volumes[case.case_id], found))
    return jobs, unannotated


@dataclass(frozen=True)
class LabelMaps(Product[Job]):
    """The label maps; a row's `voxels` counts the voxels of each class present."""

    config: LabelMapsConfig
    stage = "label_maps"
    constant = "VERSION in uvlm/data/labels/label_maps.py"

    @classmethod
    def of(cls, params: Params) -> Self:
        """Merge by the section `label_maps`, into the store."""
        config = params.label_maps
        if "lesion" in config.priority and config.priority[-1] != "lesion":
            fact, remedy = "lesion is not the last", "put it last: lesions always survive"
            raise ConfigError("label_maps.priority", fact, remedy)
        _refuse_undrawn_lesions(config)
        return cls(store_root(), config)

    @property
    def settings(self) -> list[Any]:
        # Which cases get a map decides nothing in any of them.
        return [VERSION, self.config.model_dump(mode="json", exclude={"cases"})]

    def key(self, item: Job) -> str:
        case, volume = item.case, item.volume
        drawn = case.mask_sha256.get("findings", case.findings_mask), case.finding_categories
        parts = [(row.sha256, row.extra["affine"]) for _, row in sorted(item.parts.items())]
        version, config = self.settings
        settings = config | {"ignore_margin_mm": item.margin_mm(self.config)}
        ct = volume.sha256, volume.extra["native"]
        return key_of(self.stage, version, parts, *drawn, ct, settings)

    def make(self, item: Job) -> tuple[Ids, dict[str, Any]]:
        """Make one label map; also count the voxels of each class, and measure the anatomy."""
        config, geometry = self.config, Geometry.from_json(item.volume.extra["native"])
        said = _read_claims(item.case, item.parts, config, geometry, self.root)
        fine, findings = said.fine, said.findings
        spacing, margin = spacing_of(said.affine), item.margin_mm(config)
        merged = merge.ignore_near_findings(said.painted(), findings, margin, spacing, fine)
        grid = merge.to_grid(merged, findings, geometry, fine)
        grid = scheme(config.dataset, config.scheme).fold(grid)
        del merged  # as large as the CT, like what is measured now
        hu = load_array(resolve(item.volume, "preprocess"), item.volume.sha256)
        tissue = geometry.labels_to_grid(said.anatomy), hu
        facts = measure(said.anatomy, said.affine, fine.one_piece, tissue, said.overlaps).to_json()
        counts = count_ids(grid)
        voxels = {str(i): int(n) for i, n in enumerate(counts) if n and i != IGNORE_ID}
        return grid, {"voxels": voxels, "ignored": int(counts[IGNORE_ID]), "facts": facts}

    def row(self, item: Job, key: str, path: str, note: Mapping[str, Any]) -> Row:
        extra = {"voxels": note["voxels"], "annotated": lesions_are_drawn(item.case, self.config)}
        if note["ignored"]:
            extra["ignored"] = note["ignored"]
        return Row(item.case_id, key, path, note["sha256"], item.case.source, extra)


def _refuse_undrawn_lesions(config: LabelMapsConfig) -> None:
    """Refuse to teach lesions that nobody has drawn as background."""
    drawn = fine_classes(config.dataset).lesions_come_with_anatomy
    if config.cases == "all" and scheme(config.dataset, config.scheme).lesion_ids and not drawn:
        fact = f"all would teach lesions that nobody has drawn as background of {config.scheme}"
        remedy = "use annotated or annotated_and_normal, or label_maps.scheme coarse"
        raise ConfigError("label_maps.cases", fact, remedy)


def native_label_map(
    case: Case, parts: Mapping[str, Row], config: LabelMapsConfig, geometry: Geometry, root: Path
) -> LabelMap:
    """Paint the label map of a case on the voxels and axes of its CT, without resampling."""
    painted = _read_claims(case, parts, config, geometry, root).painted()
    ids = scheme(config.dataset, config.scheme).fold(painted)
    return LabelMap(geometry.order.backward(ids), geometry.affine)


@dataclass(frozen=True, eq=False)
class _Claims:
    """What each kind says about the voxels of one CT, in canonical order."""

    fine: FineClasses
    affine: Affine
    overlaps: dict[str, float]
    findings: list[merge.Finding]
    anatomy: Ids

    def painted(self) -> Ids:
        """Merge everything into one map of fine ids."""
        return merge.paint_findings(self.anatomy, self.findings, self.fine)


def _read_claims(
    case: Case, parts: Mapping[str, Row], config: LabelMapsConfig, geometry: Geometry, root: Path
) -> _Claims:
    """Read the pseudo-labels and findings of a case, and merge its anatomy."""
    fine = fine_classes(config.dataset)
    shape = geometry.order.canonical_shape(geometry.shape)
    affine = geometry.order.canonical_affine(geometry.affine, geometry.shape)
    anatomy = merge.Anatomy(fine)
    for kind in config.priority:
        if kind in parts:
            drawn = _read_drawn(kind, parts[kind])
            anatomy.paint(kind, onto_grid(drawn, shape, affine, parts[kind].path))
            del drawn  # before the next kind is read
    findings = []
    if "lesion" in config.priority:
        findings = read_case_findings(case, geometry, fine, root)
    anatomy.claim(findings)
    return _Claims(fine, affine, anatomy.overlaps(), findings, anatomy.painted)


def _read_drawn(kind: str, row: Row) -> LabelMap:
    """Read the pseudo-labels of one kind."""
    array = load_array(resolve(row, f"pseudo_label@{kind}"), row.sha256)
    return LabelMap(array, np.asarray(row.extra["affine"], float))

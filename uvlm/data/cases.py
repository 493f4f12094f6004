"""A case: one volume with its patient, split, flags and report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from uvlm.config import LabelMapsConfig, MappedCases
from uvlm.data.label_scheme import fine_classes
from uvlm.errors import DataError
from uvlm.files import key_of
from uvlm.store import Row, read_manifest, write_manifest
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.report import Report

Split = Literal["train", "val", "test"]
SPLITS: Final[tuple[Split, ...]] = ("train", "val", "test")
_NOT_A_LESION: Final = ABNORMALITIES.index("Cardiomegaly")


@dataclass(frozen=True)
class Case:
    """One volume; reports and flags belong to its scan. Paths are relative to the store.

    `sha256` is that of the volume's stored values, `mask_sha256` that of each mask by kind
    (total, airway, vessel, findings); `finding_categories` maps a channel of the findings mask to
    its ReXGroundingCT category.
    """

    case_id: str
    scan_id: str
    patient_id: str
    split: Split
    volume: str
    findings_mask: str | None
    finding_categories: dict[str, str]
    abnormalities: tuple[int, ...]
    findings: str
    impression: str
    sha256: str = ""
    mask_sha256: dict[str, str] = field(default_factory=dict)
    source: str = ""

    @property
    def report(self) -> Report:
        """Return the two sections as one report."""
        return Report(self.findings, self.impression)

    def with_report_of(self, other: Case) -> Case:
        """Return this case with the report of another one, and with what that report says."""
        return replace(
            self,
            findings=other.findings,
            impression=other.impression,
            abnormalities=other.abnormalities,
        )


def write_index(path: Path, cases: Iterable[Case]) -> None:
    """Write the index manifest."""
    write_manifest(path, map(_to_row, cases))


def read_index(path: Path) -> list[Case]:
    """Read the index manifest, in case order."""
    return [_from_row(path, row) for row in read_manifest(path)]


def gets_label_map(cases: MappedCases, is_drawn: bool, flags: Sequence[int]) -> bool:
    """Whether `label_maps.cases` takes a case: the one rule, before the download and after it.

    Args:
        cases: the parameter.
        is_drawn: whether somebody has drawn the lesions of the case.
        flags: its abnormalities.
    """
    has_lesion = any(flag for i, flag in enumerate(flags) if i != _NOT_A_LESION)
    match cases:
        case "annotated":
            return is_drawn
        case "annotated_and_normal":
            return is_drawn or not has_lesion
    return True


def mapped_cases(cases: Iterable[Case], config: LabelMapsConfig) -> list[Case]:
    """Choose the cases that are labelled: nothing else is worth a pseudo-label."""
    return [case for case in cases if not why_unmapped(case, config)]


def why_unmapped(case: Case, config: LabelMapsConfig) -> str:
    """Say why `label_maps.cases` leaves out a case; empty if it does not."""
    is_drawn = lesions_are_drawn(case, config)
    if gets_label_map(config.cases, is_drawn, case.abnormalities):
        return ""
    is_normal = gets_label_map("annotated_and_normal", is_drawn, case.abnormalities)
    return "not_annotated" if is_normal else "lesions_not_drawn"


def lesions_are_drawn(case: Case, config: LabelMapsConfig) -> bool:
    """Whether somebody has drawn the lesions of a case."""
    return case.findings_mask is not None or fine_classes(config.dataset).lesions_come_with_anatomy


def scored_cases(cases: Iterable[Case], split: Split = "test") -> list[Case]:
    """Choose what a split is scored on: the first reconstruction of each of its scans.

    Reports and flags belong to scans, so a second reconstruction would count a scan twice.
    """
    first: dict[str, Case] = {}
    for case in cases:
        if case.split == split:
            first.setdefault(case.scan_id, case)
    return list(first.values())


def _to_row(case: Case) -> Row:
    extra = asdict(case)
    for name in ("case_id", "volume", "sha256", "source"):  # in fields of every row
        del extra[name]
    key = key_of(case.case_id, case.sha256, extra)
    return Row(case.case_id, key, case.volume, case.sha256, case.source, extra)


def _from_row(path: Path, row: Row) -> Case:
    try:
        values = row.extra | {"abnormalities": tuple(row.extra["abnormalities"])}
        return Case(row.case, volume=row.path, sha256=row.sha256, source=row.source, **values)
    except (KeyError, TypeError) as error:
        fact = f"case {row.case} is not an index row ({error})"
        raise DataError(path, fact, "run `dvc repro index`") from None

"""CT-RATE's tables as typed rows: reports, labels, metadata, and the lists of head and neck CTs.

The reports and labels tables have one row per reconstruction and repeat themselves within a scan.
RescaleIntercept is read only as a fact about the scanner: the volumes of v2 are in Hounsfield units
already, and rescaling them again is the best-known mistake with this data set.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uvlm.data.sets.ct_rate.layout import id_of
from uvlm.tables import BadRow, TableRow, check_flags, flags_of, read_table, read_text
from uvlm.text.abnormalities import ABNORMALITIES

_REPORT_COLUMNS: Final = ("VolumeName", "Findings_EN", "Impressions_EN")
_METADATA_COLUMNS: Final = (
    "VolumeName", "Manufacturer", "ManufacturerModelName", "ConvolutionKernel", "PatientSex",
    "PatientAge", "Rows", "Columns", "NumberofSlices", "XYSpacing", "ZSpacing", "RescaleIntercept",
)  # fmt: skip


@dataclass(frozen=True)
class ReportRow:
    """The two sections to be learned, as written; in scan-level tables `case_id` is a scan."""

    case_id: str
    place: str
    findings: str
    impression: str


@dataclass(frozen=True)
class LabelRow:
    """18 flags in the order of ABNORMALITIES."""

    case_id: str
    place: str
    flags: tuple[int, ...]


@dataclass(frozen=True)
class MetadataRow:
    """What the scanner recorded; shape and spacing (mm) are (z, y, x), empty cells are None."""

    case_id: str
    place: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    rescale_intercept: float
    manufacturer: str
    model: str
    kernel: str
    sex: str | None
    age_years: int | None


def read_reports(path: Path) -> list[ReportRow]:
    """Read a reports table; every row counts, even an empty one."""
    reports = []
    for row in read_table(path, _REPORT_COLUMNS).rows:
        name, findings, impression = (row.values[column] for column in _REPORT_COLUMNS)
        reports.append(ReportRow(id_of(name), row.place, findings, impression))
    return reports


def read_labels(path: Path) -> tuple[list[LabelRow], list[BadRow]]:
    """Read a labels table; a bad cell breaks its row, a column without any flag the whole table."""
    rows = read_table(path, ("VolumeName", *ABNORMALITIES)).rows
    check_flags(path, rows, ABNORMALITIES)
    good, bad = [], []
    for row in rows:
        case_id, flags = id_of(row.values["VolumeName"]), flags_of(row, ABNORMALITIES)
        if isinstance(flags, str):
            bad.append(BadRow(case_id, "bad_label", flags))
        else:
            good.append(LabelRow(case_id, row.place, flags))
    return good, bad


def labels_text(flags_by_name: Iterable[tuple[str, Iterable[int]]]) -> str:
    """Write a labels table."""
    rows = ([name, *flags] for name, flags in flags_by_name)
    return csv_text(("VolumeName", *ABNORMALITIES), rows)


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a table as CT-RATE does: commas, and quotes only where they are needed."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([columns, *rows])
    return buffer.getvalue()


def read_metadata(path: Path) -> tuple[list[MetadataRow], list[BadRow]]:
    """Read a metadata table; a row without a finite positive geometry is bad."""
    good, bad = [], []
    for row in read_table(path, _METADATA_COLUMNS).rows:
        try:
            good.append(_metadata_row(row))
        except ValueError as error:
            fact = f"{row.place}: {error}"
            bad.append(BadRow(id_of(row.values["VolumeName"]), "bad_metadata", fact))
    return good, bad


def read_no_chest(path: Path) -> frozenset[str]:
    """Read a list of volumes that show no chest, one path per line."""
    return frozenset(map(id_of, read_text(path).split()))


def _metadata_row(row: TableRow) -> MetadataRow:
    values = row.values
    x, y = _pair(values["XYSpacing"])
    z = _positive(values, "ZSpacing")
    counts = (_positive(values, name) for name in ("NumberofSlices", "Rows", "Columns"))
    depth, height, width = map(int, counts)
    age = values["PatientAge"]
    return MetadataRow(
        case_id=id_of(values["VolumeName"]),
        place=row.place,
        shape=(depth, height, width),
        spacing=(z, y, x),
        rescale_intercept=float(values["RescaleIntercept"]),
        manufacturer=values["Manufacturer"],
        model=values["ManufacturerModelName"],
        kernel=values["ConvolutionKernel"],
        sex=values["PatientSex"] or None,
        age_years=int(age[:-1]) if age[-1:] == "Y" and age[:-1].isdigit() else None,
    )


def _positive(values: dict[str, str], name: str) -> float:
    try:
        number = float(values[name])
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} is {values[name]!r}")
    return number


def _pair(text: str) -> tuple[float, float]:
    """Parse "[0.34, 0.34]": the spacing along x, then along y."""
    try:
        x, y = map(float, json.loads(text))
    except (ValueError, TypeError):
        x = y = math.nan
    if not (0 < x < math.inf and 0 < y < math.inf):
        raise ValueError(f"XYSpacing is {text!r}")
    return x, y

"""CT-RATE's tables and ReXGroundingCT's JSON, written for a set of phantom patients."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from uvlm.data.sets.ct_rate import layout
from uvlm.data.sets.ct_rate.tables import csv_text, labels_text
from uvlm.data.sets.phantom.written import Record
from uvlm.files import write_text_atomic

_REPORT_COLUMNS: Final = (
    "VolumeName", "ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN",
)  # fmt: skip
_METADATA_COLUMNS: Final = (
    "VolumeName", "Manufacturer", "SeriesDescription", "ManufacturerModelName", "PatientSex",
    "PatientAge", "ReconstructionDiameter", "DistanceSourceToDetector", "DistanceSourceToPatient",
    "GantryDetectorTilt", "TableHeight", "RotationDirection", "ExposureTime", "XRayTubeCurrent",
    "Exposure", "FilterType", "GeneratorPower", "FocalSpots", "ConvolutionKernel",
    "PatientPosition", "RevolutionTime", "SingleCollimationWidth", "TotalCollimationWidth",
    "TableSpeed", "TableFeedPerRotation", "SpiralPitchFactor", "DataCollectionCenterPatient",
    "ReconstructionTargetCenterPatient", "ExposureModulationType", "CTDIvol",
    "ImagePositionPatient", "ImageOrientationPatient", "SliceLocation", "SamplesPerPixel",
    "PhotometricInterpretation", "Rows", "Columns", "XYSpacing", "RescaleIntercept", "RescaleSlope",
    "RescaleType", "NumberofSlices", "ZSpacing", "StudyDate",
)  # fmt: skip


def write_tables(root: Path, records: Sequence[Record]) -> list[tuple[str, str]]:
    """Write all tables below `root`; returns path and sha256 of each."""
    tables: dict[str, str] = {}
    for part in layout.PARTS:
        volumes = [v for r in records for v in r["volumes"] if v["volume"].startswith(part.prefix)]
        no_chest = (v["volume"] for v in volumes if v["defect"] == "no_chest")
        tables |= {
            part.reports: csv_text(_REPORT_COLUMNS, _report_rows(volumes)),
            part.labels: labels_text((v["volume"], v["labels"]) for v in volumes),
            part.metadata: csv_text(_METADATA_COLUMNS, map(_metadata_row, volumes)),
            part.no_chest: "".join(f"{part.prefix}/{name}\n" for name in no_chest),
        }
    tables[layout.GROUNDING] = _grounding(records)
    for path, text in tables.items():
        write_text_atomic(root / path, text)
    return [(path, hashlib.sha256(text.encode()).hexdigest()) for path, text in tables.items()]


def _report_rows(volumes: Iterable[Record]) -> Iterable[Sequence[object]]:
    """Give one row per volume; the planted duplicate id comes twice, with another text."""
    for volume in volumes:
        yield [volume["volume"], *volume["report"]]
        if volume["defect"] == "duplicate_id":
            yield [volume["volume"], *volume["report"][:2], "Another report.", "Not the same."]


def _metadata_row(volume: Record) -> list[object]:
    """Fill in what a phantom's scanner can know; the other columns stay empty, as in CT-RATE."""
    z, y, x = volume["spacing"]
    known = {
        "VolumeName": volume["volume"],
        "Manufacturer": "Phantom",
        "ManufacturerModelName": "Analytic",
        "PatientPosition": "HFS",
        "Rows": volume["shape"][1],
        "Columns": volume["shape"][2],
        "XYSpacing": f"[{x}, {y}]",
        "RescaleIntercept": -1024,
        "RescaleSlope": 1,
        "NumberofSlices": volume["shape"][0],
        "ZSpacing": z,
    }
    return [known.get(column, "") for column in _METADATA_COLUMNS]


def _grounding(records: Sequence[Record]) -> str:
    """Write ReXGroundingCT's splits; its test list holds CT-RATE's validation patients."""
    splits: dict[str, list[Record]] = {"train": [], "val": [], "test": []}
    for entry in (entry for record in records for entry in record["grounding"]):
        splits["train" if entry["name"].startswith("train") else "test"].append(entry)
    return json.dumps(splits, indent=1, sort_keys=True) + "\n"

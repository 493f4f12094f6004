"""CT-RATE's tables and ReXGroundingCT's JSON, written for a set of phantom patients."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from uvlm.files import write_text_atomic
from uvlm.text.abnormalities import ABNORMALITIES

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
# CT-RATE names its two splits differently from table to table.
_SPLITS: Final = (("train", "train", "train"), ("valid", "validation", "valid"))

Record = dict[str, Any]


def write_tables(root: Path, records: Sequence[Record]) -> list[tuple[str, str]]:
    """Write all tables below `root`; returns (path, sha256 of the text) of each."""
    tables: dict[str, str] = {}
    for prefix, reports, labels in _SPLITS:
        volumes = [v for r in records for v in r["volumes"] if v["volume"].startswith(prefix)]
        dataset = "ct_rate/dataset"
        tables |= {
            f"{dataset}/radiology_text_reports/{reports}_reports.csv": _csv(
                _REPORT_COLUMNS, _report_rows(volumes)
            ),
            f"{dataset}/multi_abnormality_labels/{labels}_predicted_labels.csv": _csv(
                ("VolumeName", *ABNORMALITIES), ([v["volume"], *v["labels"]] for v in volumes)
            ),
            f"{dataset}/metadata/{reports}_metadata.csv": _csv(
                _METADATA_COLUMNS, (_metadata_row(v) for v in volumes)
            ),
            f"{dataset}/metadata/no_chest_{prefix}.txt": "".join(
                f"{prefix}/{v['volume']}\n" for v in volumes if v["defect"] == "no_chest"
            ),
        }
    tables["rexgroundingct/dataset.json"] = _grounding(records)
    for path, text in tables.items():
        write_text_atomic(root / path, text)
    return [(path, hashlib.sha256(text.encode()).hexdigest()) for path, text in tables.items()]


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()


def _report_rows(volumes: Iterable[Record]) -> Iterable[Sequence[object]]:
    """One row a volume; the planted duplicate id comes twice, with another text."""
    for volume in volumes:
        yield [volume["volume"], *volume["report"]]
        if volume["defect"] == "duplicate_id":
            yield [volume["volume"], *volume["report"][:2], "Another report.", "Not the same."]


def _metadata_row(volume: Record) -> list[object]:
    """Fill in what a phantom's scanner can know; other columns are empty, as in CT-RATE."""
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
    """ReXGroundingCT's splits; the phantom's test list holds CT-RATE's validation patients."""
    entries = [entry for record in records for entry in record["grounding"]]
    splits: dict[str, list[Record]] = {"train": [], "val": [], "test": []}
    for entry in entries:
        splits["train" if entry["name"].startswith("train") else "test"].append(entry)
    return json.dumps(splits, indent=1, sort_keys=True) + "\n"

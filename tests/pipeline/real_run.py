"""A finished run of a profile for patients in miniature, as its stages leave it in a workspace.

Reports are short and written by hand, so that what a page may say of them is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.profiles import compose, write_params
from tests.mask_files import PARTS
from uvlm.config import load_params
from uvlm.data.cases import Case, Split, write_index
from uvlm.data.leaks.fitted_on import write_fits
from uvlm.files import write_json_atomic
from uvlm.store import Row, write_manifest, write_quarantine
from uvlm.text.abnormalities import abnormality_names
from uvlm.text.predictions import CasePrediction, write_predictions, write_trained

TRAINING = "Findings: The lungs are clear. No pleural effusion. Impressions: Normal."


@dataclass(frozen=True)
class Scan:
    """A test scan: its reference, the names of its labels, and the report of the model or None."""

    reference: str
    labels: tuple[str, ...]
    generated: str | None
    reconstructions: int = 1


def write_real_run(root: Path, workspace: Path, profile: str, scans: Sequence[Scan]) -> None:
    """Write params.yaml, manifests, predictions and histories of a run without masks."""
    document = compose(root, profile)
    document["evaluate"] |= {"labeller": "rules", "meteor": False, "bootstrap_samples": 20}
    write_params(workspace, document)
    names = abnormality_names(load_params(workspace / "params.yaml"))
    manifests, reports = workspace / "data/manifests", workspace / "reports"
    empty = ("preprocess", "label_maps", "generate", *(f"pseudo_label_{kind}" for kind in PARTS))
    for name in empty:
        write_manifest(manifests / f"{name}.jsonl", [])
    source = "labeller" if profile == "folder" else "the set"
    write_manifest(manifests / "download.jsonl", [Row("own/labels.csv", "k", "p", "s", source, {})])
    write_quarantine(manifests / "quarantine/index.jsonl", [])
    cases = [_case(f"train_{n}", "train", TRAINING, [0] * len(names), 1) for n in range(3)]
    for number, scan in enumerate(scans):
        flags = [int(name in scan.labels) for name in names]
        for reconstruction in range(1, scan.reconstructions + 1):
            cases.append(_case(f"test_{number}", "test", scan.reference, flags, reconstruction))
    write_index(manifests / "index.jsonl", cases)
    said = [
        CasePrediction(f"test_{number}_1", f"test_{number}", scan.generated)
        for number, scan in enumerate(scans)
        if scan.generated is not None
    ]
    write_predictions(workspace / "data/generated/predictions.jsonl", said)
    write_trained(workspace / "data/generated/predictions.jsonl", ["encoder", "language"])
    _write_models(workspace / "data/models/cls", names)
    for name in ("index", "audit"):
        write_json_atomic(reports / f"{name}.json", {"accounts": []})
    for stage in ("train_seg", "train_cls", "train_report"):
        (reports / stage).mkdir()
        rows = "" if stage == "train_seg" else "1,2.5\n2,1.5\n"
        (reports / stage / "history.csv").write_text(f"step,loss\n{rows}")


def _write_models(folder: Path, names: Sequence[str]) -> None:
    folder.mkdir(parents=True)
    write_json_atomic(folder / "thresholds.json", dict.fromkeys(names, 0.5))
    fits: dict[str, Any] = {"classification": {"train": ["train_0_1"]}}
    write_fits(folder, fits)


def _case(scan: str, split: Split, text: str, flags: Sequence[int], reconstruction: int) -> Case:
    findings, _, impression = text.removeprefix("Findings: ").partition(" Impressions: ")
    return Case(
        case_id=f"{scan}_{reconstruction}",
        scan_id=scan,
        patient_id=scan,
        split=split,
        volume=f"raw/{scan}.nii.gz",
        findings_mask=None,
        finding_categories={},
        abnormalities=tuple(flags),
        findings=findings,
        impression=impression,
    )

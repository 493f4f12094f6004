"""Our side of a table: the records of an arm, what they reached, and what they are from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pipeline.tables.effects import number
from pipeline.tables.results import Result
from uvlm.arm_record import ArmRecord, load_records
from uvlm.errors import DataError
from uvlm.model.align import num_visual_tokens

RECORDS: Final = Path("reports") / "tables" / "runs"


def read_results(records: Path, profile: str) -> dict[str, Result]:
    """Read the records of a profile by arm, seeds in order."""
    by_arm: dict[str, list[ArmRecord]] = {}
    for record in load_records(records, profile):
        by_arm.setdefault(record.arm, []).append(record)
    return {
        arm: Result(tuple(sorted(found, key=lambda record: record.seed)))
        for arm, found in by_arm.items()
    }


def ours_of(
    result: Result, columns: list[str], *, by_masks: bool = False, average: str = "macro"
) -> dict[str, Any]:
    """Write what a row says of our runs; empty if they have none of its numbers.

    Args:
        result: the records of an arm.
        columns: metrics of the table.
        by_masks: whether lesions were found in masks, not read in reports.
        average: over the abnormalities, as the table's protocol names it.
    """
    found = result.detections() if by_masks else result.estimates()
    if not (numbers := {key: number(found[key]) for key in columns if key in found}):
        return {}  # such as masks of a run whose segmentation never trained
    last = result.records[-1]
    return {
        "status": "run",
        "ours": numbers,
        "seeds": list(result.seeds),
        "n": sorted(set(result.sizes)),
        **({} if by_masks or last.scored != "report" else {"tokens": _tokens(last)}),
        "notes": list(dict.fromkeys(note for record in result.records for note in record.notes)),
        "our_protocol": _protocol(last, average, by_masks=by_masks),
    }


def _tokens(record: ArmRecord) -> int:
    names = ("preprocess.grid", "encoder.strides", "injection.reference_stage")
    return num_visual_tokens(*(_parameter(record, name) for name in names))


def _parameter(record: ArmRecord, name: str) -> Any:
    """Look up a parameter of a record, by dotted name."""
    found: Any = record.params
    for key in name.split("."):
        if not isinstance(found, Mapping) or key not in found:
            fact = f"its parameters have no {name}"
            remedy = "take it from git again, or delete it and run `uvlm sweep` again"
            raise DataError(f"record of {record.arm}, seed {record.seed}", fact, remedy)
        found = found[key]
    return found


def _protocol(record: ArmRecord, average: str, *, by_masks: bool) -> str:
    labeller = record.metrics.get("protocol", {}).get("labeller", "unknown")
    if record.scored == "classification":
        labeller = "none; the classifier of stage 2, at 0.5"
    if by_masks:
        labeller = "none; the volume of lesion voxels, as docs/evaluation.md says"
    return f"{record.profile}, split test, average {average}, labeller: {labeller}"


def run_of(record: ArmRecord) -> dict[str, Any]:
    """Say what a record is from."""
    steps = {
        stage: _parameter(record, f"train_{stage}.steps")
        for stage in ("seg", "cls", "report")
        if record.scored == "report" or stage != "report"
    }
    data = record.inputs.get("data/manifests/index.jsonl", "")
    return {
        "arm": record.arm, "seed": record.seed, "n": len(record.cases),
        "git": record.git.get("git.commit", ""), "dirty": record.git.get("git.dirty", ""),
        "data": data[:12], "key": record.key[:12], "steps": steps,
    }  # fmt: skip

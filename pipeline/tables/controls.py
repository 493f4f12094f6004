"""What must fail, and whether it did: trainings on what belongs to other patients, mirrored CTs.

    labels     the classifier's AUROC falls to 0.5: the interval begins at or below it
    reports    macro F1 falls to that of the best report that needs no image: the interval of the
               difference begins at or below 0
    untrained  row 1 of Table 5: shown without a bar
    mirrored   share of sides that follow when CTs are mirrored; a model that does not look keeps
               them all, one that does swaps more than half

Scores of mirrored CTs are no record of an arm, but those that `uvlm evaluate --mirrored` writes:
reports/tables/mirrored/PROFILE.json is a scores.json that is kept in git.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pipeline.tables.effects import number
from pipeline.tables.results import Result
from uvlm.errors import DataError

MIRRORED: Final = Path("reports") / "tables" / "mirrored"
CHANCE: Final = 0.5  # AUROC of a classifier that knows nothing
FALLEN: Final = "falls, as it must"
NOT_FALLEN: Final = "DOES NOT FALL"
SHOWN: Final = "shown, no bar"
NOT_RUN: Final = "not run"


def check_controls(root: Path, profile: str, results: Mapping[str, Result]) -> list[dict[str, Any]]:
    """List every control: what, metric, value, beside (the same without it), bar, verdict."""
    return [
        _fallen("Abnormalities of other patients", "classifier's AUROC", "macro_auroc", profile,
                results, ("controls_labels", "table4_04"), CHANCE),
        _fallen("Reports of other patients", "F1 above the best report without an image",
                "above_trivial", profile, results, ("controls_reports", "table5_09"), 0.0),
        _untrained(profile, results),
        _mirrored(root, profile),
    ]  # fmt: skip


def _fallen(
    what: str,
    shown: str,
    metric: str,
    profile: str,
    results: Mapping[str, Result],
    arms: tuple[str, str],
    bar: float,
) -> dict[str, Any]:
    value, beside = (_value(results.get(arm), metric) for arm in arms)
    interval = value["interval"] if value else None
    fallen = interval is not None and interval[0] <= bar
    return {
        "what": what, "metric": shown, "value": value, "beside": beside, "bar": f"{bar:g}",
        "seeds": list(results[arms[0]].seeds) if arms[0] in results else [],
        "n": sorted(set(results[arms[0]].sizes)) if arms[0] in results else [],
        "verdict": NOT_RUN if value is None else FALLEN if fallen else NOT_FALLEN,
        "to_run": [] if value else [f"uvlm sweep {arms[0]} --profile {profile} --seeds 3"],
    }  # fmt: skip


def _untrained(profile: str, results: Mapping[str, Result]) -> dict[str, Any]:
    value = _value(results.get("table5_01"), "f1")
    return {
        "what": "Untrained encoder (row 1)", "metric": "macro F1 of the reports", "value": value,
        "beside": _value(results.get("table5_07"), "f1"), "bar": "",
        "seeds": list(results["table5_01"].seeds) if value else [],
        "n": sorted(set(results["table5_01"].sizes)) if value else [],
        "verdict": SHOWN if value else NOT_RUN,
        "to_run": [] if value else [f"uvlm sweep table5_01 --profile {profile} --seeds 3"],
    }  # fmt: skip


def _mirrored(root: Path, profile: str) -> dict[str, Any]:
    found = _read_mirrored(root / MIRRORED / f"{profile}.json", profile)
    value = _share(found, "swapped")
    return {
        "what": "Mirrored CTs", "metric": "share of sides that follow", "value": value,
        "beside": None, "bar": "",
        "seeds": [], "n": [found["n"]] if found else [],
        "verdict": SHOWN if value else NOT_RUN,
        "to_run": [] if value else [
            f"dvc exp apply table5_09-{profile}-seed0",
            "dvc repro",
            f"uvlm evaluate --model data/models/report --data {profile} --mirrored",
            f"cp data/elsewhere/{profile}/scores.json {MIRRORED / profile}.json",
        ],
    }  # fmt: skip


def _read_mirrored(path: Path, profile: str) -> Mapping[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        found: Mapping[str, Any] = document["mirrored"]
        if not isinstance(found["n"], int):
            raise TypeError("n is no count")
        if (other := document["elsewhere"]["data"]) != profile:
            raise ValueError(f"it is of {other}")
        return found
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        fact = f"not readable as scores of mirrored CTs ({type(error).__name__}: {error})"
        raise DataError(path, fact, "run `uvlm evaluate --mirrored` again") from None


def _share(found: Mapping[str, Any] | None, name: str) -> dict[str, Any] | None:
    if found is None or found.get(name) is None:
        return None
    return {"mean": found[name], "interval": found.get(f"{name}_ci")}


def _value(result: Result | None, metric: str) -> dict[str, Any] | None:
    found = result.estimates().get(metric) if result else None
    return number(found) if found else None

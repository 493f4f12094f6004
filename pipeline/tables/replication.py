"""The replication as a document: what of the paper's claims holds in our records, and how surely.

    profiles     name, data set of the paper, whether synthetic, departures, runs
    reached      by profile: what each arm reached
    theses       name, title, claim, asks; by profile: verdict, comparisons, note
    pipeline     by profile: verdict, comparisons, note, text_loss
    controls     by profile: checks, each with its value, the bar and a verdict
    rule, commands

A comparison has arms, metric, paper, ours (mean and interval), n, seeds, verdict. Explanations are
written by hand into reports/tables/notes.yaml; every number comes from the records, and what was
not run is None with the command that runs it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.arms.random_qwen import NOTE
from pipeline.profiles import compose
from pipeline.tables.controls import check_controls
from pipeline.tables.departures import departures
from pipeline.tables.document import dataset_of
from pipeline.tables.effects import effect_of, number
from pipeline.tables.notes import read_notes
from pipeline.tables.ours import RECORDS, read_results, run_of
from pipeline.tables.published import Published, published_rows
from pipeline.tables.reached import reached_by
from pipeline.tables.results import Result, text_loss
from pipeline.tables.theses import (
    NOT_RUN,
    PIPELINE,
    THESES,
    UNDECIDED,
    Comparison,
    Verdict,
    judge,
    together,
)

PROFILES: Final = ("longtail", "phantom_abdomen")
_OF_PAPER: Final = re.compile(r"table(?P<table>[2-5])_(?P<row>\d\d)")
CORE: Final = "replication"  # the list of conf/sweep/ with the core set


@dataclass(frozen=True)
class Side:
    """One profile of the page."""

    profile: str
    dataset: str
    results: Mapping[str, Result]

    def published(self, arm: str) -> Published | None:
        """Find the paper's row for an arm such as table5_07; one of the reader's own has none."""
        if not (found := _OF_PAPER.fullmatch(arm)):
            return None
        return published_rows(int(found["table"]), self.dataset).get(int(found["row"]))

    def sweep(self, arm: str) -> str:
        """Name the command that runs an arm."""
        return f"uvlm sweep {arm} --profile {self.profile} --seeds 3"


def replication_document(root: Path, profile: str | None = None) -> dict[str, Any]:
    """Make the document of one profile, or of those that the replication is about.

    Raises:
        ConfigError: there is no such profile.
        DataError: a record, the notes or the scores of mirrored CTs are damaged.
    """
    names = PROFILES if profile is None else (profile,)
    notes = read_notes(root)
    documents = {name: compose(root, name) for name in names}
    sides = [
        Side(name, dataset_of(document), read_results(root / RECORDS, name))
        for name, document in documents.items()
    ]
    return {
        "name": "replication",
        "alone": profile,
        "profiles": [_profile(root, side, documents[side.profile]) for side in sides],
        "reached": {
            s.profile: reached_by(s.results, {arm: s.published(arm) for arm in s.results})
            for s in sides
        },
        "theses": [
            {"name": f.name, "title": f.title, "claim": f.claim, "asks": f.asks}
            | {
                "by_profile": {
                    s.profile: _judged(s, f.by_dataset[s.dataset], notes.of(f.name, s.profile))
                    for s in sides
                }
            }
            for f in THESES
        ],
        "pipeline": {
            s.profile: _judged(s, PIPELINE, notes.of("pipeline", s.profile)) | _loss(s)
            for s in sides
        },
        "controls": {
            s.profile: {
                "checks": check_controls(root, s.profile, s.results),
                "note": notes.of("controls", s.profile),
            }
            for s in sides
        },
    }


def _profile(root: Path, side: Side, document: Mapping[Any, Any]) -> dict[str, Any]:
    records = [r for name in sorted(side.results) for r in side.results[name].records]
    return {
        "profile": side.profile,
        "dataset": side.dataset,
        "is_synthetic": document["audit"]["plausible"] == "phantom",
        "departures": [one.document for one in departures(root, side.profile, records)],
        "runs": [run_of(record) for record in records],
    }


def _judged(side: Side, comparisons: Sequence[Comparison], note: str) -> dict[str, Any]:
    """Compare, and judge by the comparisons that something is expected of."""
    found = [_compared(side, comparison) for comparison in comparisons]
    verdicts = [one["verdict"] for one in found if one["expects"]]
    ran = [one for one in found if one["expects"] and one["ours"]]
    return {
        "verdict": together(verdicts),
        "fewest_seeds": min((len(one["seeds"]) for one in ran), default=0),
        "random_weights": bool(ran) and all(one["random_weights"] for one in ran),
        "comparisons": found,
        "note": note,
    }


def _compared(side: Side, comparison: Comparison) -> dict[str, Any]:
    arms = (comparison.first, comparison.second)
    first, second = (side.results.get(arm) for arm in arms)
    effect = effect_of(
        "", (first, second), (side.published(arms[0]), side.published(arms[1])), [comparison.metric]
    )
    values = effect["metrics"][comparison.metric]
    random = [arm for arm in arms if arm in side.results and _is_random(side.results[arm])]
    return {
        **asdict(comparison),
        "paper": values["paper"],
        "ours": values["ours"],
        "seeds": effect["seeds"],
        "n": effect["n"],
        "random_weights": random,
        "verdict": _verdict(comparison, values["ours"], random),
        "to_run": [side.sweep(arm) for arm in arms if arm not in side.results],
    }


def _verdict(
    comparison: Comparison, ours: Mapping[str, Any] | None, random: Sequence[str]
) -> Verdict:
    if ours is None:
        return NOT_RUN
    return UNDECIDED if random else judge(comparison, ours["interval"])


def _is_random(result: Result) -> bool:
    return any(NOTE in record.notes for record in result.records)


def _loss(side: Side) -> dict[str, Any]:
    """How much macro F1 the text of row 7 loses to the classifier of the same run."""
    classifier, text = side.published("table4_04"), side.published("table5_07")
    paper = classifier.values["f1"] - text.values["f1"] if classifier and text else None
    result = side.results.get("table5_07")
    found = text_loss(result) if result else None
    return {
        "text_loss": {
            "paper": None if paper is None else round(paper, 6),
            "ours": number(found) if found else None,
            "seeds": list(result.seeds) if result else [],
            "n": sorted(set(result.sizes)) if result else [],
            "to_run": [] if result else [side.sweep("table5_07")],
        }
    }

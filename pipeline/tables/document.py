"""A table as a document: every row that the paper has, with our numbers where we ran it.

    table, title, profile, dataset
    columns      the metrics, in order; `rows` have `paper` and `ours` by these names
    rows         row, name, settings, status, paper, ours, seeds, n, tokens, notes, source, protocol
    effects      per ablation: differences of two rows, ours with interval and the paper's
    runs         what each of our records is from: seed, git, data, code, steps, key
    protocol     how ours and the paper's numbers came about
    inferred     columns of the paper that are not in its text copy

A row that nobody here ran has no `ours`, and nothing is filled in for it. `status` is `published`
for systems that are not ours to run, `run` where a record is there, else `not run`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pipeline.arms.read import Arm, arm_names, read_arm
from pipeline.profiles import compose
from pipeline.tables.ablations import ABLATIONS
from pipeline.tables.published import (
    ABDOMEN,
    CHEST,
    Published,
    architectures,
    inferred_columns,
    later_systems,
    published_rows,
    settings,
)
from pipeline.tables.results import Estimate, Result, difference
from uvlm.arm_record import ArmRecord, load_records
from uvlm.errors import ConfigError
from uvlm.model.align import num_visual_tokens

TITLES: Final = {
    1: "Architectures",
    2: "Report generation",
    3: "Lesion detection",
    4: "Classification ablation",
    5: "Report generation ablation",
}
_BLEU: Final = tuple((f"bleu_{n}", f"B-{n}") for n in (1, 2, 3, 4))
_AVERAGES: Final = (("weighted_f1", "F1 weighted"), ("micro_f1", "F1 micro"))
_MACRO: Final = (("f1", "F1"), ("precision", "Prec."), ("recall", "Rec."))
COLUMNS: Final[Mapping[int, tuple[tuple[str, str], ...]]] = {
    2: (*_MACRO, *_AVERAGES, ("unknown_f1", "F1 unknown average"), *_BLEU, ("bleu_mean", "B-mean"),
        ("rouge_l", "ROUGE-L"), ("crg", "CRG")),
    3: tuple(
        (f"{organ}_{metric}", f"{organ.capitalize()} {short}")
        for organ in ("pancreas", "kidney", "liver")
        for metric, short in (("precision", "P"), ("recall", "R"), ("f1", "F1"))
    ),
    4: (*_MACRO, ("f1_tuned", "F1 tuned")),
    5: (("f1", "F1"), ("bleu_mean", "B-mean")),
}  # fmt: skip
RECORDS: Final = Path("reports") / "tables" / "runs"


def table_document(root: Path, table: int, profile: str) -> dict[str, Any]:
    """Make the document of a table.

    Args:
        root: the project; records are below reports/tables/runs.
        table: 1 to 5.
        profile: whose records are shown; its data set chooses the paper's numbers.

    Raises:
        ConfigError: there is no such table or profile.
        DataError: a record is damaged.
    """
    if table not in TITLES:
        raise ConfigError(f"table {table}", "the paper has no such table", "choose 1 to 5")
    document = compose(root, profile)
    dataset = _dataset(document)
    head = {
        "table": table,
        "title": TITLES[table],
        "profile": profile,
        "dataset": _set_of(table, dataset),
        "remarks": _remarks(document, table, dataset),
    }
    if table == 1:
        empty = ("columns", "effects", "runs", "inferred")
        return {**head, "rows": [_architecture(one) for one in architectures()]} | {
            key: ["end_to_end"] if key == "inferred" else [] for key in empty
        }
    shown = _set_of(table, dataset)
    results = read_results(root / RECORDS, profile) if shown == dataset else {}
    arms = {arm.row[1]: arm for arm in _arms(root) if arm.row and arm.row[0] == table}
    rows = [
        _row(table, one, arms.get(number), results)
        for number, one in published_rows(table, shown).items()
    ]
    if table == 2:
        rows += [_row(table, one, None, results) for one in later_systems()]
    named = {arm.trained_as for arm in arms.values()}
    return {
        **head,
        "columns": [{"key": key, "title": title} for key, title in COLUMNS[table]],
        "rows": rows,
        "effects": _effects(table, shown, arms, results),
        "runs": [_run(r) for name in sorted(named & results.keys()) for r in results[name].records],
        "inferred": list(inferred_columns()) if table == 5 else [],
    }


def read_results(records: Path, profile: str) -> dict[str, Result]:
    """Read the records of a profile by arm, seeds in order."""
    by_arm: dict[str, list[ArmRecord]] = {}
    for record in load_records(records, profile):
        by_arm.setdefault(record.arm, []).append(record)
    return {
        arm: Result(tuple(sorted(found, key=lambda record: record.seed)))
        for arm, found in by_arm.items()
    }


def _dataset(document: Mapping[Any, Any]) -> str:
    return CHEST if document["label_maps"]["dataset"] == "chest" else ABDOMEN


def _set_of(table: int, dataset: str) -> str:
    """Choose whose published numbers are shown: Tables 2 and 3 are about one data set each."""
    return {2: CHEST, 3: ABDOMEN}.get(table, dataset)


def _remarks(document: Mapping[Any, Any], table: int, dataset: str) -> list[str]:
    """Say what has to be known before our numbers are compared with the paper's."""
    if table == 1:
        return []
    if (shown := _set_of(table, dataset)) != dataset:
        return [f"This table is about {shown}, and this profile holds other findings."]
    if document["audit"]["plausible"] == "phantom":
        return ["This profile holds synthetic phantoms: compare differences, not numbers."]
    return []


def _arms(root: Path) -> Iterable[Arm]:
    return (read_arm(root, name) for name in arm_names(root))


def _row(
    table: int, published: Published, arm: Arm | None, results: Mapping[str, Result]
) -> dict[str, Any]:
    result = results.get(arm.trained_as) if arm else None
    row: dict[str, Any] = {
        "row": published.row,
        "name": _name(published, table),
        "status": "published" if arm is None else "run" if result else "not run",
        "paper": _on_its_scale(published),
        "source": published.source,
        "protocol": published.protocol,
    }
    if table == 5 and published.row is not None:
        row["settings"] = vars(settings()[published.row])
    if result is not None:
        row |= _ours(result, [key for key, _ in COLUMNS[table]], published)
    return row


def _name(published: Published, table: int) -> str:
    """Name a system, and its data set where that is not the table's."""
    elsewhere = table == 2 and published.dataset != CHEST
    return f"{published.method} on {published.dataset}" if elsewhere else published.method


def _architecture(one: Mapping[str, Any]) -> dict[str, Any]:
    settings = {key: value for key, value in one.items() if key != "method"}
    return {"row": None, "name": one["method"], "status": "published", "settings": settings,
            "paper": {}, "source": "", "protocol": ""}  # fmt: skip


def _on_its_scale(published: Published) -> dict[str, float]:
    """Move an F1 that is no macro average to the column of its own average."""
    if published.average in ("macro", "none"):
        return dict(published.values)
    return {f"{published.average}_f1" if k == "f1" else k: v for k, v in published.values.items()}


def _ours(result: Result, columns: list[str], published: Published) -> dict[str, Any]:
    found = result.detections() if published.is_by_masks else result.estimates()
    last = result.records[-1]
    return {
        "ours": {key: _number(found[key]) for key in columns if key in found},
        "seeds": list(result.seeds),
        "n": sorted(set(result.sizes)),
        "tokens": _tokens(last),
        "notes": list(dict.fromkeys(note for record in result.records for note in record.notes)),
        "our_protocol": _protocol(last),
    }


def _number(found: Estimate) -> dict[str, Any]:
    interval = [round(bound, 6) for bound in found.interval] if found.interval else None
    return {"mean": round(found.mean, 6), "interval": interval}


def _tokens(record: ArmRecord) -> int:
    grid, strides = record.params["preprocess"]["grid"], record.params["encoder"]["strides"]
    return num_visual_tokens(grid, strides, record.params["injection"]["reference_stage"])


def _protocol(record: ArmRecord) -> str:
    read_by = record.metrics.get("protocol", {}).get("labeller")
    labeller = read_by or "none; the classifier of stage 2, at 0.5"
    return f"{record.profile}, split test, average macro, labeller: {labeller}"


def _run(record: ArmRecord) -> dict[str, Any]:
    steps = {
        stage: record.params[f"train_{stage}"]["steps"]
        for stage in ("seg", "cls", "report")
        if record.scored == "report" or stage != "report"
    }
    data = record.inputs.get("data/manifests/index.jsonl", "")
    return {
        "arm": record.arm, "seed": record.seed, "n": len(record.cases),
        "git": record.git.get("git.commit", ""), "dirty": record.git.get("git.dirty", ""),
        "data": data[:12], "key": record.key[:12], "steps": steps,
    }  # fmt: skip


def _effects(
    table: int, shown: str, arms: Mapping[int, Arm], results: Mapping[str, Result]
) -> list[dict[str, Any]]:
    rows = published_rows(table, shown)
    metrics = [key for key, _ in COLUMNS[table] if key in ("f1", "bleu_mean")]
    return [
        {
            "name": ablation.name,
            "claim": ablation.claim,
            "pairs": [_pair(rows, arms, results, pair, metrics) for pair in ablation.pairs],
        }
        for ablation in ABLATIONS.get(table, ())
    ]


def _pair(
    rows: Mapping[int, Published],
    arms: Mapping[int, Arm],
    results: Mapping[str, Result],
    pair: tuple[int, int],
    metrics: list[str],
) -> dict[str, Any]:
    first, second = pair
    ours, theirs = (results.get(arms[number].trained_as) for number in pair)
    found = {}
    for metric in metrics:
        of_paper = round(rows[first].values[metric] - rows[second].values[metric], 6)
        gap = difference(ours, theirs, metric) if ours and theirs else None
        found[metric] = {"paper": of_paper, "ours": _number(gap) if gap else None}
    seeds = sorted(set(ours.seeds) & set(theirs.seeds)) if ours and theirs else []
    return {"rows": [first, second], "seeds": seeds, "metrics": found}

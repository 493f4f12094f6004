"""A table as a document: every row that the paper has, with our numbers where we ran it.

    name, table, heading, profile, dataset, about, remarks
    columns      the metrics, in order; `rows` have `paper` and `ours` by these names
    rows         row, name, settings, status, paper, ours, seeds, n, tokens, notes, source, protocol
    effects      per ablation: differences of two rows, ours with interval and the paper's
    runs         what each of our records is from: seed, git, data, code, steps, key
    departures   parameters of our records that are not the profile's, such as fewer steps
    protocol     how ours and the paper's numbers came about
    inferred     columns of the paper that are not in its text copy

A row that nobody here ran has no `ours`, and nothing is filled in for it. `status` is `published`
for systems that are not ours to run, `constant` for reports that claim the same of every scan,
`run` where a record is there, else `not run`. A group of arms (groups.py) has a document of the
same form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pipeline.arms.read import Arm, arm_names, read_arm
from pipeline.profiles import compose
from pipeline.tables.ablations import ABLATIONS
from pipeline.tables.departures import departures
from pipeline.tables.effects import METRICS, effect_of
from pipeline.tables.groups import group_effects, group_of
from pipeline.tables.ours import RECORDS, ours_of, read_results, run_of
from pipeline.tables.published import (
    ABDOMEN,
    CHEST,
    Published,
    architectures,
    constants,
    inferred_columns,
    later_systems,
    published_rows,
    settings,
)
from pipeline.tables.results import Result
from uvlm.errors import ConfigError

TITLES: Final = {
    1: "Architectures",
    2: "Report generation",
    3: "Lesion detection",
    4: "Classification ablation",
    5: "Report generation ablation",
}
_LEGENDS: Final[Mapping[int, tuple[str, ...]]] = {
    1: (
        "VE vision encoder, LD language decoder, Init how it begins, E2E end to end, "
        "Perc. perceiver, AP attention pooling.",
    ),
    4: ("C coarse anatomy, F fine anatomy, L lesions. F1 tuned: at thresholds from validation.",),
    5: (
        "C coarse anatomy, F fine anatomy, L lesions; SC skip connections, Frz frozen encoder, "
        "VT visual tokens, Dec. decoder, Q4B-L and Q4B-F Qwen3-4B with LoRA and trained whole; "
        "B-mean the mean of BLEU-1 to BLEU-4.",
    ),
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
GROUP_COLUMNS: Final = (
    *_MACRO, *_AVERAGES, ("bleu_mean", "B-mean"), ("rouge_l", "ROUGE-L"),
    ("above_trivial", "F1 above trivial"), ("macro_auroc", "AUROC"), ("side_right", "Side"),
    ("lobe_right", "Lobe"), ("size_right", "Size"), ("beyond_findings", "Beyond findings"),
)  # fmt: skip


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
    dataset = dataset_of(document)
    head = {
        "name": f"table{table}",
        "table": table,
        "heading": f"Table {table}: {TITLES[table]}",
        "profile": profile,
        "dataset": "" if table == 1 else _set_of(table, dataset),
        "about": list(_LEGENDS.get(table, ())),
        "remarks": _remarks(document, table, dataset),
    }
    if table == 1:
        empty = ("columns", "effects", "runs", "inferred", "departures")
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
        rows += [_row(table, one, None, results) for one in (*later_systems(), *constants())]
    named = {arm.trained_as for arm in arms.values()}
    records = [r for name in sorted(named & results.keys()) for r in results[name].records]
    return {
        **head,
        "columns": [{"key": key, "title": title} for key, title in COLUMNS[table]],
        "rows": rows,
        "effects": _effects(table, shown, arms, results),
        "runs": [run_of(record) for record in records],
        "departures": [one.document for one in departures(root, profile, records)],
        "inferred": list(inferred_columns()) if table == 5 else [],
    }


def group_document(root: Path, name: str, profile: str) -> dict[str, Any]:
    """Make the document of a group of arms, or of a list of the reader's own.

    Raises:
        ConfigError: there is no such group, list or profile.
        DataError: a record is damaged.
    """
    document, results = compose(root, profile), read_results(root / RECORDS, profile)
    group, columns = group_of(name, results), [key for key, _ in GROUP_COLUMNS]
    rows = [
        {"row": arm, "name": shown, "status": "not run", "paper": {}, "source": "", "protocol": ""}
        | (ours_of(results[arm], columns) if arm in results else {})
        for arm, shown in group.rows.items()
    ]
    records = [r for arm in group.rows if arm in results for r in results[arm].records]
    return {
        "name": name, "table": name, "heading": group.heading, "profile": profile,
        "dataset": "", "about": list(group.about), "remarks": _synthetic(document),
        "columns": [{"key": key, "title": title} for key, title in GROUP_COLUMNS],
        "rows": rows,
        "effects": group_effects(group, results),
        "runs": [run_of(record) for record in records],
        "departures": [one.document for one in departures(root, profile, records)],
        "inferred": [],
    }  # fmt: skip


def dataset_of(document: Mapping[Any, Any]) -> str:
    """Name the paper's data set that a profile's parameters stand for."""
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
    return _synthetic(document)


def _synthetic(document: Mapping[Any, Any]) -> list[str]:
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
        "status": "not run" if arm else published.status,
        "paper": _on_its_scale(published),
        "source": published.source,
        "protocol": published.protocol,
    }
    if table == 5 and published.row is not None:
        row["settings"] = vars(settings()[published.row])
    if result is not None:
        keys = [key for key, _ in COLUMNS[table]]
        average = "none" if table == 3 else "macro"
        row |= ours_of(result, keys, by_masks=published.is_by_masks, average=average)
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


def _effects(
    table: int, shown: str, arms: Mapping[int, Arm], results: Mapping[str, Result]
) -> list[dict[str, Any]]:
    rows = published_rows(table, shown)
    metrics = [key for key, _ in COLUMNS[table] if key in METRICS]
    ours = {row: results.get(arm.trained_as) for row, arm in arms.items()}
    return [
        {
            "name": ablation.name,
            "claim": ablation.claim,
            "pairs": [
                {"rows": [one, other]}
                | effect_of(
                    f"row {one} minus row {other}",
                    (ours.get(one), ours.get(other)),
                    (rows.get(one), rows.get(other)),
                    metrics,
                )
                for one, other in ablation.pairs
            ],
        }
        for ablation in ABLATIONS.get(table, ())
    ]

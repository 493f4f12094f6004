"""A table's pages: Markdown for the repository, HTML that needs no other file, a plot per ablation.

<out>/table5-phantom.md
<out>/table5-phantom.html
<out>/figures/table5-phantom-injection.png
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from pipeline.tables.effects import METRICS
from pipeline.tables.plots import draw_effects
from uvlm.files import write_bytes_atomic, write_text_atomic
from uvlm.pages.html import png_url, render

_YES_NO: Final = {True: "yes", False: "no"}
_SETTINGS: Final = (
    ("skip_connections", "SC"),
    ("frozen", "Frz"),
    ("visual_tokens", "VT"),
    ("decoder", "Dec."),
)
_ARCHITECTURE: Final = (
    ("encoder", "VE"),
    ("decoder", "LD"),
    ("encoder_init", "VE Init"),
    ("decoder_init", "LD Init"),
    ("end_to_end", "E2E"),
)
_ABOUT: Final[Mapping[int | str, tuple[tuple[str, str], ...]]] = {1: _ARCHITECTURE, 5: _SETTINGS}
_BESIDE: Final = (4, 5)  # tables in which ours have columns of their own, not rows
_NOT_OURS: Final = ("published", "constant")
_EMPTY: Final = {"seeds": "", "n": "", "tokens": "", "kind": ""}
_SHORT: Final = 7  # digits of a commit


def write_table(document: Mapping[str, Any], out: Path) -> list[Path]:
    """Write both pages and the plots, and return their paths."""
    name = f"{document['name']}-{document['profile']}"
    figures = draw_effects(document)
    paths = [out / "figures" / f"{name}-{figure}.png" for figure in figures]
    for path, picture in zip(paths, figures.values(), strict=True):
        write_bytes_atomic(path, picture)
    page = _page(document)
    links = {figure: f"figures/{name}-{figure}.png" for figure in figures}
    urls = {figure: png_url(picture) for figure, picture in figures.items()}
    pages = {
        out / f"{name}.md": render("table.md.j2", page | {"pictures": links}, md=escape_markdown),
        out / f"{name}.html": render("table.html.j2", page | {"pictures": urls}),
    }
    for path, text in pages.items():
        write_text_atomic(path, text)
    return [*pages, *paths]


def escape_markdown(text: object) -> str:
    """Keep a name from being read as Markdown or HTML."""
    line = escape(" ".join(str(text).split()), quote=False)
    for sign in "\\`*_[]|#":
        line = line.replace(sign, f"\\{sign}")
    return line


def plain_lines(document: Mapping[str, Any]) -> list[str]:
    """Show a table in the terminal, without the intervals of ours."""
    page = _page(document)
    head = ["", *page["heads"], *(" ".join(filter(None, column)) for column in page["columns"])]
    lines = [[row["label"], *row["cells"], *(n for n, _ in row["numbers"])] for row in page["rows"]]
    ends = [[row["n"], row["seeds"], row["status"]] for row in page["rows"]]
    table = [[*head, "n", "seeds", "status"], *(r + e for r, e in zip(lines, ends, strict=True))]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    shown = ("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in table)
    return [
        *shown,
        *document["about"],
        *document["remarks"],
        *(one["text"] for one in document["departures"]),
    ]


def _page(document: Mapping[str, Any]) -> dict[str, Any]:
    """Arrange a document as its templates show it: every cell is text, a number has an interval.

    Ours stand in columns of their own beside the paper's. In the wide Tables 2 and 3, and where no
    row of the paper is meant to be ours, they have a row of their own below it.
    """
    table, inferred = document["table"], document["inferred"]
    about = _ABOUT.get(table, ())
    heads = [f"{title}{' †' * (key in inferred)}" for key, title in about]
    used = [column for column in document["columns"] if _is_used(document, column["key"])]
    keys, titles = [c["key"] for c in used], [c["title"] for c in used]
    notes = {note: mark for mark, note in enumerate(_notes(document["rows"]), start=1)}
    columns = [(title, "") for title in titles]
    pairs = _whose(document, keys)
    if _is_beside(document):
        columns = [(titles[keys.index(key)], whose) for key, whose in pairs]
    return {
        **document,
        "heads": heads,
        "has_tokens": any("tokens" in row for row in document["rows"]),
        "beside": _is_beside(document),
        "command": f"uvlm sweep {document['name']} --profile {document['profile']} --seeds 3",
        "columns": columns,
        "rows": [
            line
            for row in document["rows"]
            for line in _lines(row, keys, notes, _cells(row, table), pairs)
        ],
        "notes": list(notes),
        "protocols": _protocols(document["rows"]),
        "effects": [_effect(effect) for effect in document["effects"]],
        "runs": [_run(run) for run in document["runs"]],
    }


def _is_beside(document: Mapping[str, Any]) -> bool:
    """Tell whether ours stand beside the paper's in every row; a group of arms has only ours."""
    return document["table"] in _BESIDE


def _whose(document: Mapping[str, Any], keys: Sequence[str]) -> list[tuple[str, str]]:
    """List the columns where ours stand beside the paper's, which need not have every metric."""
    if not _is_beside(document):
        return []
    published = {key for row in document["rows"] for key in row["paper"]}
    columns = [(key, whose) for key in keys for whose in ("paper", "ours")]
    return [(key, whose) for key, whose in columns if whose == "ours" or key in published]


def _is_used(document: Mapping[str, Any], key: str) -> bool:
    return any(key in row["paper"] or key in row.get("ours", {}) for row in document["rows"])


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(note for row in rows for note in row.get("notes", [])))


def _lines(
    row: Mapping[str, Any],
    keys: Sequence[str],
    notes: Mapping[str, int],
    cells: Sequence[str],
    pairs: Sequence[tuple[str, str]],
) -> list[dict[str, Any]]:
    """Show a row of the document as one line, or as the paper's and ours if `pairs` is empty."""
    paper = [(_share(row["paper"].get(key)), "") for key in keys]
    ours = [with_interval(row.get("ours", {}).get(key)) for key in keys]
    number = row["row"] if isinstance(row["row"], int) else ""
    label = f"{number} {row['name']}".strip()
    marks = "".join(f" [{notes[note]}]" for note in row.get("notes", []))
    published = {**_EMPTY, "label": label, "cells": cells, "status": row["status"]}
    seeds = row.get("seeds", [])
    run = {
        **published,
        "label": f"{label}{marks}",
        "status": row["status"],
        "seeds": str(len(seeds)) if seeds else "",
        "n": ", ".join(str(count) for count in row.get("n", [])),
        "tokens": str(row.get("tokens", "")),
        "kind": "ours" if "ours" in row else "",
    }
    if pairs:
        by_whose = {"paper": dict(zip(keys, paper, strict=True))}
        by_whose["ours"] = dict(zip(keys, ours, strict=True))
        return [{**run, "numbers": [by_whose[whose][key] for key, whose in pairs]}]
    if row["status"] in _NOT_OURS:
        return [{**published, "numbers": paper}]
    lines = [{**published, "status": "published", "numbers": paper}] if row["paper"] else []
    own = ", ours" if lines else ""
    return [*lines, {**run, "label": f"{label}{own}{marks}", "numbers": ours}]


def _cells(row: Mapping[str, Any], table: int | str) -> list[str]:
    """Show what a row of Table 1 or 5 is."""
    values = row.get("settings", {})
    return [_plain(values.get(key)) for key, _ in _ABOUT.get(table, ())]


def _protocols(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say how the numbers came about: ours first, then each published protocol with its rows."""
    ours = dict.fromkeys(row["our_protocol"] for row in rows if "our_protocol" in row)
    by_protocol: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if not row["protocol"]:
            continue
        by_protocol.setdefault((row["source"], row["protocol"]), []).append(row["name"])
    lines = [f"Ours: {protocol}" for protocol in ours]
    for (source, protocol), names in by_protocol.items():
        whose = f" ({', '.join(names)})" if len(by_protocol) > 1 else ""
        lines.append(f"{source}{whose}: {protocol}")
    return lines


def _effect(effect: Mapping[str, Any]) -> dict[str, Any]:
    metrics = list(effect["pairs"][0]["metrics"])
    rows = [
        {
            "label": pair["label"],
            "seeds": str(len(pair["seeds"])) if pair["seeds"] else "",
            "n": ", ".join(map(str, pair["n"])),
            "cells": [_paper_and_ours(pair["metrics"][metric]) for metric in metrics],
        }
        for pair in effect["pairs"]
    ]
    return {**effect, "metrics": [METRICS[m] for m in metrics], "rows": rows}


def _paper_and_ours(effect: Mapping[str, Any]) -> tuple[str, tuple[str, str]]:
    paper = "" if effect["paper"] is None else f"{effect['paper']:+.3f}"
    return paper, with_interval(effect["ours"], signed=True)


def _run(run: Mapping[str, Any]) -> dict[str, str]:
    dirty = " (edited)" if run["dirty"] == "true" else ""
    steps = ", ".join(f"{stage} {count:,d}" for stage, count in run["steps"].items())
    short = {"git": f"{run['git'][:_SHORT]}{dirty}", "steps": steps}
    return {key: str(value) for key, value in run.items()} | short


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return _YES_NO[value] if isinstance(value, bool) else str(value)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def with_interval(found: Mapping[str, Any] | None, signed: bool = False) -> tuple[str, str]:
    """Write a number and its interval; both empty where nothing was run."""
    if found is None:
        return "", ""
    form = "{:+.3f}" if signed else "{:.3f}"
    ends = found["interval"]
    interval = f"({form.format(ends[0])} to {form.format(ends[1])})" if ends else ""
    return form.format(found["mean"]), interval

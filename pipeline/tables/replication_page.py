"""The page of the replication: the document of replication.py in plain words, and one picture.

reports/replication.md                    longtail and phantom_abdomen
reports/tables/replication-PROFILE.md     one profile, where it was asked for
<beside it>/figures/replication-...png
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pipeline.tables.notes import PLACE
from pipeline.tables.pages import with_interval
from pipeline.tables.plots import draw_replication
from pipeline.tables.reached import reached_lines
from pipeline.tables.theses import FAILS, HOLDS, NEGLIGIBLE, NOT_RUN, UNDECIDED
from uvlm.files import write_bytes_atomic, write_text_atomic

TABLES: Final = Path("reports") / "tables"
_TITLES: Final = {"f1": "macro F1", "bleu_mean": "BLEU-mean"}
_HEAD: Final = (
    "| profile | difference | of | the paper's | here (95 % interval) | n | seeds | verdict |\n"
    "|---|---|---|---:|---:|---:|---:|---|"
)
_RULE: Final = f"""\
A difference is that of two arms on the same test patients, seed by seed: both are scored on 1,000
resamples that draw seeds and, within a seed, patients. From its 95 % interval follows the verdict:

- **{HOLDS}**: the paper claims a gain, and the whole interval is above 0.
- **{FAILS}**: it is not, and the interval ends below +{NEGLIGIBLE:g}: no gain of that size is left.
- **{UNDECIDED}**: neither. More seeds or patients may decide.

*Turned round* means that the whole interval is below 0. `n` counts the test scans of a seed.

Where the paper claims that there is no gain, the first two are exchanged. A claim holds if all of
its comparisons hold, and does not hold if one of them does not; those *shown only* decide nothing.
One seed says nothing about chance between trainings, so its interval is too narrow; three seeds say
a little. Of twenty such intervals, one misses the truth by chance."""
_CONTROL_RULE: Final = """\
Trained on what belongs to other patients, a model has to fall to what needs no image: the interval
must reach its bar. The bar of texts is the best of four reports that need no image (constant
normal, constant abnormal, the most frequent, another patient's), on each run's own test set."""


def write_replication(document: Mapping[str, Any], root: Path) -> list[Path]:
    """Write page and picture, and return their paths."""
    alone = document["alone"]
    name = "replication" if alone is None else f"replication-{alone}"
    page = root / (TABLES.parent if alone is None else TABLES) / f"{name}.md"
    picture = root / TABLES / "figures" / f"{name}.png"
    write_bytes_atomic(picture, draw_replication(_panels(document)))
    link = picture.relative_to(page.parent).as_posix()
    write_text_atomic(page, "\n".join(_page(document, link)) + "\n")
    return [page, picture]


def summary_lines(document: Mapping[str, Any]) -> list[str]:
    """Show the verdicts in the terminal."""
    profiles = [one["profile"] for one in document["profiles"]]
    width = max(len(thesis["title"]) for thesis in document["theses"])
    rows = [
        [f["title"].ljust(width), *(_short(f["by_profile"][p]) for p in profiles)]
        for f in document["theses"]
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(1, len(profiles) + 1)]
    widths = [max(w, len(p)) for w, p in zip(widths, profiles, strict=True)]
    table = [["".ljust(width), *profiles], *rows]
    return ["  ".join([r[0], *map(str.ljust, r[1:], widths)]).rstrip() for r in table]


def _page(document: Mapping[str, Any], link: str) -> Iterator[str]:
    profiles = document["profiles"]
    yield "# What of the paper's claims holds here"
    yield ""
    yield from _remarks(document)
    yield "## In short"
    yield ""
    yield f"| claim of the paper | {' | '.join(one['profile'] for one in profiles)} |"
    yield "|---|" + "---|" * len(profiles)
    for place, thesis in enumerate(document["theses"], start=1):
        verdicts = [_in_short(found) for found in thesis["by_profile"].values()]
        yield f"| {place}. {thesis['title']} | {' | '.join(verdicts)} |"
    whole = [_in_short(found) for found in document["pipeline"].values()]
    yield f"| Each training adds to the whole pipeline | {' | '.join(whole)} |"
    controls = [_fallen(found["checks"]) for found in document["controls"].values()]
    yield f"| Negative controls | {' | '.join(controls)} |"
    yield "\nThe number is that of the first comparison of each part below.\n"
    yield f"![Deciding comparisons with their intervals]({link})"
    yield ""
    yield "## How a verdict is reached"
    yield ""
    yield _RULE
    yield from reached_lines(document["reached"])
    for place, thesis in enumerate(document["theses"], start=1):
        yield ""
        yield f"## {place}. {thesis['title']}"
        yield ""
        yield f"The paper: {thesis['claim']}"
        yield ""
        yield f"Here: {thesis['asks']}"
        yield ""
        yield from _compared(thesis["by_profile"], f"{thesis['name']}:")
    yield from _pipeline(document["pipeline"])
    yield from _controls(document["controls"])
    yield from _runs(document)


def _remarks(document: Mapping[str, Any]) -> Iterator[str]:
    """Say what was run on which data before any number."""
    synthetic = [one["profile"] for one in document["profiles"] if one["is_synthetic"]]
    if synthetic:
        yield (
            f"> {' and '.join(synthetic)}: synthetic phantoms and small models. Numbers say nothing"
            " about CTs; what can be compared with the paper is the direction of a difference."
        )
        yield ""
    for one in document["profiles"]:
        if one["departures"]:
            yield f"> Runs on {one['profile']} are not the profile as it stands:"
            yield from (f"> - {departure['text']}" for departure in one["departures"])
            yield ""
    files = "`reports/tables/runs/`"
    for one in document["profiles"]:
        yield f"{one['profile']} is compared with the paper's numbers on {one['dataset']}."
    yield (
        f"Every number here is made from the records in {files} by `{_again(document)}`; the part"
        f" *What was run* has the commands that made those. Explanations are written by hand, in"
        f" `{PLACE.as_posix()}`."
    )
    yield ""


def _compared(by_profile: Mapping[str, Mapping[str, Any]], subject: str) -> Iterator[str]:
    """Show the comparisons of all profiles in a table, then each verdict with its explanation."""
    yield _HEAD
    for profile, found in by_profile.items():
        for one in found["comparisons"]:
            yield f"| {profile} | {_row(one)} |"
    yield ""
    for profile, found in by_profile.items():
        yield f"- {profile}: **{_short(found)}**. {_explained(found, subject)}"
        if missing := _missing(found["comparisons"]):
            yield f"  Empty places: {missing}."


def _explained(found: Mapping[str, Any], subject: str) -> str:
    if any(one["random_weights"] for one in found["comparisons"]):
        first = "The arms with Qwen3 ran on a small one with random weights, which decides nothing."
        return f"{first} {found['note']}".strip()
    if found["note"] or found["verdict"] == NOT_RUN:
        return str(found["note"])
    return f"(No explanation is written yet: `{PLACE.as_posix()}`, `{subject}`.)"


def _row(one: Mapping[str, Any]) -> str:
    verdict = one["verdict"] if one["expects"] or one["verdict"] == NOT_RUN else "shown only"
    if one["expects"] == "gain" and one["ours"] and (one["ours"]["interval"] or [0, 0])[1] < 0:
        verdict += ", turned round"
    if one["random_weights"]:
        verdict = f"{UNDECIDED} (random weights)"
    paper = "" if one["paper"] is None else f"{one['paper']:+.3f}"
    ours = " ".join(with_interval(one["ours"], signed=True)).strip()
    cells = [_difference(one), _TITLES[one["metric"]], paper, ours, _n(one), _seeds(one), verdict]
    return " | ".join(cells)


def _difference(one: Mapping[str, Any]) -> str:
    """Name two arms of one table: Table 5, row 7 minus row 2."""
    (group, _, first), (_, _, second) = (one[side].rpartition("_") for side in ("first", "second"))
    return f"Table {group[-1]}, row {int(first)} minus row {int(second)}"


def _n(one: Mapping[str, Any]) -> str:
    return ", ".join(map(str, one["n"]))


def _seeds(one: Mapping[str, Any]) -> str:
    return str(len(one["seeds"])) if one["seeds"] else ""


def _missing(comparisons: Sequence[Mapping[str, Any]]) -> str:
    commands = dict.fromkeys(command for one in comparisons for command in one["to_run"])
    return ", ".join(f"`{command}`" for command in commands)


def _short(found: Mapping[str, Any]) -> str:
    """Say a verdict, and from how few seeds if they are fewer than three."""
    if found["random_weights"]:
        return f"{found['verdict']} (random weights)"
    few = {1: " (one seed)", 2: " (two seeds)"}.get(found["fewest_seeds"], "")
    return f"{found['verdict']}{few}"


def _in_short(found: Mapping[str, Any]) -> str:
    """Say a verdict with the effect of its first comparison."""
    first = found["comparisons"][0]
    effect = " ".join(with_interval(first["ours"], signed=True)).strip()
    metric = _TITLES[first["metric"]]
    return f"**{_short(found)}**" + (f"; {metric} {effect}" if effect else "")


def _fallen(checks: Sequence[Mapping[str, Any]]) -> str:
    """Say of the two controls that have a bar whether they fell."""
    return "; ".join(f"{one['what'].lower()}: {one['verdict']}" for one in checks if one["bar"])


def _pipeline(by_profile: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield ""
    yield "## The whole pipeline, and what each training adds"
    yield ""
    yield (
        "Segmentation, classification, reports (row 7) against classification, reports (row 2)"
        " against reports alone (row 1)."
    )
    yield ""
    yield from _compared(by_profile, "pipeline:")
    yield ""
    yield "What the text loses: macro F1 of the classifier minus that of the reports, in the same"
    yield "runs of row 7, both at a threshold of 0.5."
    yield ""
    yield "| profile | the paper's | here (95 % interval) | n | seeds |"
    yield "|---|---:|---:|---:|---:|"
    for profile, found in by_profile.items():
        loss = found["text_loss"]
        ours = " ".join(with_interval(loss["ours"], signed=True)).strip()
        missing = ", ".join(f"`{command}`" for command in loss["to_run"])
        paper = "" if loss["paper"] is None else f"{loss['paper']:+.3f}"
        yield f"| {profile} | {paper} | {ours or missing} | {_n(loss)} | {_seeds(loss)} |"


def _controls(by_profile: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield ""
    yield "## Negative controls"
    yield ""
    yield _CONTROL_RULE
    yield ""
    yield "| profile | control | measured | value (95 %) | without it | bar | n | seeds | verdict |"
    yield "|---|---|---|---:|---:|---:|---:|---:|---|"
    for profile, found in by_profile.items():
        for one in found["checks"]:
            value, beside = (" ".join(with_interval(one[k])).strip() for k in ("value", "beside"))
            cells = [profile, one["what"], one["metric"], value, beside, one["bar"], _n(one)]
            yield f"| {' | '.join(cells)} | {_seeds(one)} | {one['verdict']} |"
    yield ""
    for profile, found in by_profile.items():
        missing = _missing(found["checks"])
        said = [found["note"], f"Empty places: {missing}." if missing else ""]
        if any(said):
            yield f"- {profile}: {' '.join(filter(None, said))}"


def _runs(document: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield "## What was run"
    yield ""
    yield "| profile | arms | records | seeds | commits | digest of the index |"
    yield "|---|---:|---:|---|---|---|"
    for one in document["profiles"]:
        runs = one["runs"]
        seeds = ", ".join(str(seed) for seed in sorted({run["seed"] for run in runs}))
        commits = sorted({run["git"][:7] + "*" * (run["dirty"] == "true") for run in runs})
        data = ", ".join(sorted({run["data"] for run in runs}))
        arms = len({run["arm"] for run in runs})
        cells = [one["profile"], arms, len(runs), seeds, ", ".join(commits), data]
        yield f"| {' | '.join(map(str, cells))} |"
    yield ""
    yield "A commit with * had files that were edited. The tables list every run:"
    yield "`uvlm table 4`, `uvlm table 5`, `uvlm table controls` and `uvlm table choices`."
    yield ""
    for one in document["profiles"]:
        yield f"    uvlm sweep replication --profile {one['profile']} --seeds 3 --workers 2"
        for rest in ("table5", "choices"):
            yield f"    uvlm sweep {rest} --profile {one['profile']} --workers 2"
    yield f"    {_again(document)}"


def _again(document: Mapping[str, Any]) -> str:
    alone = document["alone"]
    return "uvlm table replication" + (f" --profile {alone}" if alone else "")


def _panels(document: Mapping[str, Any]) -> dict[str, list[tuple[str, Mapping[str, Any]]]]:
    """Label what decides, for the picture."""
    panels: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for place, thesis in enumerate(document["theses"], start=1):
        for profile, found in thesis["by_profile"].items():
            rows = panels.setdefault(profile, [])
            deciding = [one for one in found["comparisons"] if one["expects"]]
            rows += [(f"{place}. {_point(one)}", one) for one in deciding]
    return panels


def _point(one: Mapping[str, Any]) -> str:
    metric = "F1" if one["metric"] == "f1" else "BLEU"
    (group, _, first), (_, _, second) = (one[side].rpartition("_") for side in ("first", "second"))
    table = "" if group == "table5" else f"Table {group[-1]}, "
    random = " (random weights)" if one["random_weights"] else ""
    return f"{table}{int(first)} minus {int(second)}, {metric}{random}"

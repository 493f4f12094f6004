"""What each arm of the replication reached by itself, beside the differences that are judged.

A difference of two arms that both write what needs no image says little, so the page shows how far
above the best such report each of them is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pipeline.tables.effects import number
from pipeline.tables.groups import GROUPS
from pipeline.tables.pages import with_interval
from pipeline.tables.published import Published, settings
from pipeline.tables.results import Result

_OF_TEXTS: Final = {
    "f1": "report F1", "above_trivial": "above the best without an image", "bleu_mean": "BLEU-mean",
}  # fmt: skip
_OF_CLASSIFIER: Final = {"macro_auroc": "classifier's AUROC"}
_TOKENS, _OWN_DECODER = 384, "0.1B"  # of most rows of Table 5, which need not be told
_ABOUT: Final = """\
Means over seeds (95 % interval), macro averages. Above 0, reports are worth more than the best that
needs no image; where two arms are below, their difference is one of texts that nobody would use."""
TITLES: Final[Mapping[str, str]] = {**_OF_TEXTS, **_OF_CLASSIFIER}


def reached_by(
    results: Mapping[str, Result], published: Mapping[str, Published | None]
) -> list[dict[str, Any]]:
    """Write what every arm reached, the paper's rows first: arm, name, notes, values, n, seeds.

    Args:
        results: records of one profile, by arm.
        published: the paper's row of those arms that have one.
    """
    ours = {arm: name for group in GROUPS.values() for arm, name in group.rows.items()}
    return [
        {
            "arm": arm,
            "name": _of_paper(arm, row) if (row := published.get(arm)) else ours.get(arm, arm),
            "notes": list(dict.fromkeys(n for r in results[arm].records for n in r.notes)),
            "values": _values(results[arm]),
            "n": sorted(set(results[arm].sizes)),
            "seeds": list(results[arm].seeds),
        }
        for arm in sorted(results, key=lambda arm: (published.get(arm) is None, arm))
    ]


def reached_lines(by_profile: Mapping[str, Iterable[Mapping[str, Any]]]) -> Iterator[str]:
    """Write the part of the page, a row for each arm that was run."""
    yield ""
    yield "## What each arm reached"
    yield ""
    yield _ABOUT
    yield ""
    yield f"| profile | arm | {' | '.join(TITLES.values())} | n | seeds |"
    yield "|---|---|" + "---:|" * (len(TITLES) + 2)
    for profile, arms in by_profile.items():
        for one in arms:
            values = (" ".join(with_interval(one["values"].get(key))).strip() for key in TITLES)
            sizes = ", ".join(map(str, one["n"]))
            name = ", ".join([one["name"], *one["notes"]])
            cells = [profile, name, *values, sizes, str(len(one["seeds"]))]
            yield f"| {' | '.join(cells)} |"


def _of_paper(arm: str, row: Published) -> str:
    table = arm.rpartition("_")[0].removeprefix("table")
    name = f"Table {table}, row {row.row}: {row.method}"
    if table != "5" or row.row is None:
        return name
    setting = settings()[row.row]
    told = {
        "skip connections": setting.skip_connections,
        "encoder trained too": not setting.frozen,
        f"{setting.visual_tokens // _TOKENS} times the tokens": setting.visual_tokens != _TOKENS,
        setting.decoder: setting.decoder != _OWN_DECODER,
    }
    return ", ".join([name, *(text for text, is_told in told.items() if is_told)])


def _values(result: Result) -> dict[str, Any]:
    """Keep the numbers of texts only where texts were scored: a classifier has an F1 of its own."""
    found = result.estimates()
    is_text = result.records[-1].scored == "report"
    return {
        key: number(found[key])
        for key in TITLES
        if key in found and (is_text or key in _OF_CLASSIFIER)
    }

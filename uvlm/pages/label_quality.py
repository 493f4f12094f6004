"""The page of implausible label maps, with a few plausible ones for comparison.

<out>    one HTML file with its pictures embedded; opens offline
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from uvlm.config import AuditConfig, LabelMapsConfig
from uvlm.data.ct.volume import spacing_of
from uvlm.data.label_scheme import LabelScheme, fine_classes, scheme
from uvlm.data.labels.quality import CheckedLabels, JudgedCase, judge_label_maps, quality_report
from uvlm.data.labels.rules import Bodies, Flag, Plausible
from uvlm.files import write_json_atomic, write_text_atomic
from uvlm.pages.html import png_url, render
from uvlm.pages.label_planes import Outlined, draw_outlines
from uvlm.store import Row, load_array, resolve, rows_by_case

MOST_PICTURES: Final = 24
MOST_LISTED: Final = 500
DISCLAIMER: Final = (
    "Unreviewed research draft. Labels and flags were made by programs; a flag is a reason to look "
    "at a case, not a finding. Research use only, not a medical device."
)


Shown = list[dict[str, Any]]  # of each case on the page: case_id, flags, picture


def report_label_maps(
    labels: LabelMapsConfig, audit: AuditConfig, preprocess: Path, label_maps: Path, out: Path
) -> dict[str, Any]:
    """Judge every label map; write <out>.json and <out>.html.

    Args:
        labels: the section `label_maps`.
        audit: which rules apply, and how many plausible cases are shown.
        preprocess: manifest of the CTs on the grid.
        label_maps: manifest of the label maps.
        out: the two files without their suffix.

    Returns:
        What was written as JSON.
    """
    rules = Plausible.of(audit.plausible, fine_classes(labels.dataset))
    judged = judge_label_maps(label_maps, rules)
    report = quality_report(judged, rules)
    chosen = scheme(labels.dataset, labels.scheme)
    volumes, maps = rows_by_case(preprocess), rows_by_case(label_maps)

    def draw(case: JudgedCase) -> bytes:
        volume, ids = volumes[case.case_id], maps[case.case_id]
        return draw_outlines(_outlined(volume, ids, chosen, case.flags))

    flagged = [case for case in judged if case.flags]
    plausible = [case for case in judged if not case.flags and not case.is_unlabelled]
    shown = _shown(flagged[:MOST_PICTURES], draw)
    beside = _shown(_spread(plausible, audit.unflagged_shown), draw)
    write_json_atomic(out.with_suffix(".json"), report)
    write_text_atomic(out.with_suffix(".html"), _page(report, rules, shown, beside))
    return report


def checked_page(checked: CheckedLabels, bodies: Bodies, out: Path) -> None:
    """Write the page of one CT and its labels."""
    rules = Plausible.of(bodies, checked.fine)
    judged = checked.judged
    marked = {number for flag in judged.flags for number in flag.class_ids}
    names = checked.fine.names
    outlined = Outlined(checked.hu, checked.ids, checked.spacing, names, marked)
    shown = _shown([judged], lambda _: draw_outlines(outlined))
    flagged, beside = (shown, []) if judged.flags else ([], shown)
    write_text_atomic(out, _page(quality_report([judged], rules), rules, flagged, beside))


def _outlined(volume: Row, labels: Row, chosen: LabelScheme, flags: Sequence[Flag]) -> Outlined:
    """Load a case as the network will learn it: on its grid, in its scheme."""
    hu = load_array(resolve(volume, "preprocess"), volume.sha256)
    ids = load_array(resolve(labels, "label_maps"), labels.sha256)
    spacing = spacing_of(np.array(volume.extra["affine"], float))
    marked = {int(chosen.lut[number]) for flag in flags for number in flag.class_ids}
    return Outlined(hu, ids, spacing, chosen.names, marked)


def _shown(cases: Sequence[JudgedCase], draw: Callable[[JudgedCase], bytes]) -> Shown:
    return [
        {"case_id": case.case_id, "flags": case.flags, "picture": png_url(draw(case))}
        for case in cases
    ]


def _spread(cases: Sequence[JudgedCase], count: int) -> list[JudgedCase]:
    """Choose evenly spaced cases."""
    places = np.linspace(0, len(cases) - 1, min(count, len(cases))).astype(int)
    return [cases[place] for place in places]


def _page(report: Mapping[str, Any], rules: Plausible, flagged: Shown, plausible: Shown) -> str:
    page = {
        "report": report,
        "about": rules.document["about"],
        "number": rules.number,
        "unit": rules.unit,
        "flagged": flagged,
        "plausible": plausible,
        "listed": report["flagged_cases"][:MOST_LISTED],
        "disclaimer": DISCLAIMER,
    }
    return render("labels.html.j2", page, words=lambda text: str(text).replace("_", " "))

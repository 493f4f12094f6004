"""What reports say beyond presence, arranged as the summary's table and sentences show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from uvlm.pages.tables import Number, number_at
from uvlm.text.attributes import VALUES

COLUMNS: Final = (
    ("right", "Right"),
    ("commonest", "Always the commonest"),
    ("chance", "By chance"),
    ("above_commonest", "Above commonest"),
    ("of_all", "Right, of all described"),
)


@dataclass(frozen=True)
class AttributeRow:
    """Side, lobe or size: how many were scored, and the numbers of COLUMNS."""

    kind: str
    n: int
    commonest: str
    numbers: tuple[Number, ...]


def attribute_rows(report: Mapping[str, Any]) -> list[AttributeRow]:
    """Make a row for each of side, lobe and size."""
    return [
        AttributeRow(
            kind,
            report[kind]["n"],
            report[kind].get("commonest_value", ""),
            tuple(number_at(report[kind], key) for key, _ in COLUMNS),
        )
        for kind in VALUES
    ]


def reader_remark(report: Mapping[str, Any]) -> str:
    """Say who read them, and how exactly."""
    if report["attributes_read_by"] == "phantom":
        return "read exactly, by the grammar of the phantoms' reports"
    return "read from free text by rules"


def presence_remark(report: Mapping[str, Any], labeller: str) -> str:
    """Say where an abnormality has to be named to count, and what another rule would give."""
    if labeller == "phantom":
        where = "Macro-F1 above counts an abnormality if the findings name it"
    else:
        where = "Macro-F1 above counts an abnormality wherever the report names it"
    either = number_at(report["either_part"], "macro_f1")
    return f"{where}; if findings or impression count, it is {_with_range(either)}."


def consistency_remark(report: Mapping[str, Any]) -> str:
    """Say how often an impression names what the findings of its report do not."""
    found = report["consistency"]
    if reason := found.get("not_computed"):
        return f"Impressions were not compared with findings: {reason}."
    if not found["n"]:
        return "No impression names an abnormality."
    share = _with_range(number_at(found, "absent_share"))
    reference = number_at(found, "reference_absent_share")
    own = f" In the reference reports the share is {_with_range(reference)}."
    return (
        f"Of {found['n']:,} abnormalities that impressions name, {found['absent']:,} are not in "
        f"the findings of the same report: {share}.{'' if reference.value is None else own}"
    )


def contradictions_remark(report: Mapping[str, Any]) -> str:
    """Say how often reports and the classifier contradict each other."""
    found = report["contradictions"]
    if reason := found.get("not_computed"):
        return f"Reports were not compared with the classifier: {reason}."
    if not found["n"]:
        return "No scan has both a report and probabilities."
    share = _with_range(number_at(found, "share"))
    reference = _with_range(number_at(found, "reference_share"))
    return (
        f"Of {found['n']:,} pairs of scan and abnormality, some sentence says in "
        f"{found['contradicted']:,} otherwise than the classifier at its tuned threshold: {share} "
        f"({found['claimed_against']:,} claimed, {found['denied_against']:,} denied). The "
        f"reference reports contradict it in {reference}, where it is wrong. In "
        f"{found['silent']:,} pairs it says yes and the report nothing."
    )


def _with_range(number: Number) -> str:
    return f"{number.text} ({number.range})" if number.range else number.text

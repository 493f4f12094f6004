"""The model card and the CLAIM draft: their numbers are the run's, and their words follow them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from uvlm.config import Params
from uvlm.pages.licence import Ingredient, WeightsLicence
from uvlm.pages.model_card import CARD, CLAIM, attribute_remarks, weakest, write_cards
from uvlm.pages.summary import DISCLAIMER, SummaryInputs
from uvlm.text.predictions import load_predictions, write_predictions

MADE_FROM = Ingredient("a | data set", "MIT"), Ingredient("<b>labels</b>", "MIT")
LICENCE = WeightsLicence("MIT", "Terms of it.", MADE_FROM)


@pytest.fixture(scope="session")
def cards(run: SummaryInputs, params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cards")
    assert write_cards(params, run, LICENCE, out) == [out / CARD, out / CLAIM]
    return out


def numbers_in(document: Any) -> Iterator[float]:
    """Yield every number of a JSON document."""
    if isinstance(document, dict):
        document = list(document.values())
    if isinstance(document, list):
        for each in document:
            yield from numbers_in(each)
    elif isinstance(document, int | float) and not isinstance(document, bool):
        yield float(document)


@pytest.mark.slow
@pytest.mark.parametrize("name", [CARD, CLAIM])
def test_every_number_of_a_card_is_one_of_the_run(
    cards: Path, run: SummaryInputs, name: str
) -> None:
    measured = {
        f"{number:.{digits}f}"
        for path in (run.metrics, run.per_class)
        for number in numbers_in(json.loads(path.read_text(encoding="utf-8")))
        for digits in (2, 3)
    }
    text = (cards / name).read_text(encoding="utf-8").replace(run.facts["torch"], "")
    shown = set(re.findall(r"-?\b\d+\.\d{2,3}\b", text.replace("\u2013", " ")))
    assert shown or name == CLAIM
    assert shown <= measured


def test_the_card_counts_what_the_index_counts(cards: Path, run: SummaryInputs) -> None:
    rows = [json.loads(line) for line in run.index.read_text(encoding="utf-8").splitlines()]
    text = (cards / CARD).read_text(encoding="utf-8")
    for split in ("train", "val", "test"):
        of_split = [row for row in rows if row["split"] == split]
        counts = [len({r[k] for r in of_split}) for k in ("case", "scan_id", "patient_id")]
        assert f"| {split} | {' | '.join(map(str, counts))} |" in text


def test_what_fails_is_named(cards: Path) -> None:
    failures = (cards / CARD).read_text(encoding="utf-8").split("## Known failures")[1]
    assert "Not learned: Lung nodule" in failures
    assert "Named worst: Lung nodule, report F1 0.000" in failures


def test_both_say_what_they_are_and_the_licence_stands_with_its_reasons(cards: Path) -> None:
    for name in (CARD, CLAIM):
        assert DISCLAIMER in (cards / name).read_text(encoding="utf-8")
    text = (cards / CARD).read_text(encoding="utf-8")
    assert "licence of the weights | **MIT**" in text
    assert "| a \\| data set | MIT |" in text
    assert "| &lt;b&gt;labels&lt;/b&gt; | MIT |" in text


def test_the_model_is_the_one_that_wrote_the_predictions(
    run: SummaryInputs, params: Params, tmp_path: Path
) -> None:
    said = [replace(p, model="0123456789ab") for p in load_predictions(run.predictions)]
    write_predictions(tmp_path / "predictions.jsonl", said)
    inputs = replace(run, predictions=tmp_path / "predictions.jsonl")
    write_cards(params, inputs, LICENCE, tmp_path)
    assert "`0123456789ab...`" in (tmp_path / CARD).read_text(encoding="utf-8")


def side(right: float, above: float, interval: tuple[float, float]) -> dict[str, Any]:
    return {
        "n": 90, "commonest_value": "right", "right": right, "right_ci": [right - 0.1, right + 0.1],
        "above_commonest": above, "above_commonest_ci": list(interval),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("interval", "words", "is_warned"),
    [
        ((0.01, 0.2), "better than", False),
        ((-0.2, -0.01), "worse than", True),
        ((-0.1, 0.1), "not shown to be better than", True),
        ((0.0, 0.1), "not shown to be better than", True),
    ],
)
def test_sides_are_praised_only_if_they_are_better_than_a_constant(
    interval: tuple[float, float], words: str, is_warned: bool
) -> None:
    report = dict.fromkeys(("side", "lobe", "size"), side(0.6, sum(interval) / 2, interval))
    for remark in attribute_remarks(report):
        assert f", {words} always writing 'right'" in remark
        assert ("Do not rely on it" in remark) == is_warned


def test_without_a_side_nothing_is_said_of_it() -> None:
    report = {kind: {"n": 0, "right": None} for kind in ("side", "lobe", "size")}
    assert all("not measured" in remark for remark in attribute_remarks(report))


def test_classes_without_a_positive_scan_are_not_the_worst() -> None:
    rows = [
        {"name": name, "support": support, "report_f1": f1}
        for name, support, f1 in (("a", 0, 0.0), ("b", 3, 0.5), ("c", 4, 0.1), ("d", 1, None))
    ]
    assert [name for name, _, _ in weakest(rows)] == ["c", "b"]


def test_claim_has_42_items_and_leaves_to_people_what_no_file_knows(cards: Path) -> None:
    text = (cards / CLAIM).read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| .+ \| (filled|partly|authors) \| (.*) \|$", text, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, 43))
    assert all(bool(draft.strip()) == (state != "authors") for _, state, draft in rows)
    assert {state for _, state, _ in rows} == {"filled", "partly", "authors"}

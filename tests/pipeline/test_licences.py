"""The licence of weights is the strictest of what made them, and never freer than what is known."""

from __future__ import annotations

import json
from itertools import combinations_with_replacement, permutations
from pathlib import Path

import pytest

from pipeline.licences import (
    FREE,
    UNKNOWN,
    YOURS,
    ingredients_of,
    known,
    licence_of,
    weights_licence,
)
from uvlm.config.data import SYNTHETIC, DownloadConfig
from uvlm.data.sets.abdomen_atlas.cases import MASKS as ATLAS
from uvlm.data.sets.ct_rate.cases import MASKS as CT_RATE
from uvlm.data.sets.dataset import Masks
from uvlm.pages.licence import Ingredient

CC = "CC BY-NC-SA 4.0"
FREEST_FIRST = (FREE, "MIT", "Apache-2.0", CC, YOURS, UNKNOWN)
DOCS = Path(__file__).parents[2] / "docs" / "datasets.md"


def write_labels(root: Path, kind: str, *rows: dict[str, str]) -> None:
    path = root / "data" / "manifests" / f"pseudo_label_{kind}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def test_the_strictest_of_any_three_wins_in_any_order() -> None:
    for names in combinations_with_replacement(FREEST_FIRST, 3):
        strictest = [name for name in FREEST_FIRST if name in names][-1]
        for order in permutations(names):
            found = weights_licence(Ingredient("part", name) for name in order)
            assert found.name == strictest
            assert len(found.ingredients) == 3


@pytest.mark.parametrize("licence", ["", "GPL-3.0", "mit", "CC BY 4.0", "anything else"])
def test_a_licence_nobody_knows_frees_nothing(licence: str) -> None:
    found = weights_licence([Ingredient("data", FREE), Ingredient("labels", licence)])
    assert found.name == UNKNOWN
    assert "nobody" in found.terms


def test_of_nothing_nothing_is_known() -> None:
    assert weights_licence([]).name == UNKNOWN


def test_every_source_of_data_has_a_licence() -> None:
    sources = DownloadConfig.model_fields.keys() - {"source", "other"}
    assert sources > SYNTHETIC
    assert all(licence_of(source) != UNKNOWN for source in sources)
    assert {licence_of(source) for source in SYNTHETIC} == {FREE}
    assert licence_of("another") == UNKNOWN


def test_the_page_of_data_sets_says_the_same() -> None:
    rows = [line.split("|") for line in DOCS.read_text(encoding="utf-8").splitlines()]
    told = {row[1].strip().split()[0]: row[2].strip() for row in rows if len(row) == 5}
    assert told["CT-RATE"].startswith(licence_of("ct_rate"))
    assert told["AbdomenAtlas"].startswith(licence_of("abdomen_atlas"))


@pytest.mark.parametrize("masks", [CT_RATE, ATLAS], ids=["ct_rate", "abdomen_atlas"])
def test_published_masks_have_a_known_licence(masks: Masks) -> None:
    assert known(masks.licence) == CC


def test_labels_initial_weights_and_decoder_count(tmp_path: Path) -> None:
    params = {"download.source": "phantom", "decoder.kind": "scratch"}
    assert weights_licence(ingredients_of(tmp_path, params)).name == FREE
    params["train_seg.initial_weights"] = "None"
    own = {"backend": "phantom", "licence": "Apache-2.0"}
    write_labels(tmp_path, "anatomy", own, own)
    assert weights_licence(ingredients_of(tmp_path, params)).name == FREE
    write_labels(tmp_path, "airway", own, {"backend": "atm22", "licence": "MIT"})
    assert weights_licence(ingredients_of(tmp_path, params)).name == "MIT"
    params["decoder.kind"] = "qwen3_lora"
    assert weights_licence(ingredients_of(tmp_path, params)).name == "Apache-2.0"
    write_labels(tmp_path, "vessel", {"backend": "ct_rate_masks", "licence": "CC-BY-NC-SA-4.0"})
    assert weights_licence(ingredients_of(tmp_path, params)).name == CC
    params["train_seg.initial_weights"] = "sha256:0123456789ab"
    found = weights_licence(ingredients_of(tmp_path, params))
    assert found.name == UNKNOWN
    assert [each.what for each in found.ingredients] == [
        "data set phantom",
        "labels of airway, atm22",
        "labels of vessel, ct_rate_masks",
        "initial weights of stage 1, sha256:0123456789ab",
        "language decoder, Qwen3",
    ]


def test_a_row_of_labels_without_a_licence_is_not_free(tmp_path: Path) -> None:
    write_labels(tmp_path, "anatomy", {"backend": "totalsegmentator"})
    params = {"download.source": "phantom"}
    assert weights_licence(ingredients_of(tmp_path, params)).name == UNKNOWN

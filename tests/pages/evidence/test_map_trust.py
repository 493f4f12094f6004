"""What a page says of its maps, and for whose weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from uvlm.errors import DataError
from uvlm.pages.evidence.map_trust import FILE_NAME, MapTrust, Removal, verdict

KINDS = ("contribution", "occlusion")


def trust(here: float, elsewhere: float, contribution: float) -> MapTrust:
    maps = {"contribution": Removal(contribution, 0.0, 110), "occlusion": Removal(0.9, 0.05, 100)}
    return MapTrust(Removal(here, elsewhere, 120), maps)


def test_maps_that_were_never_tested_are_no_evidence() -> None:
    assert verdict(None, KINDS).startswith("These maps are no evidence")


def test_a_map_that_fails_is_no_evidence_and_one_that_passes_is_named() -> None:
    said = verdict(trust(0.9, 0.02, 0.4), KINDS)
    assert said.startswith("The maps of attention are no evidence. On phantoms, the maps of occl")
    assert "120 true sentences" in said
    assert "90 % of the sentences were gone" in said


@pytest.mark.parametrize(("here", "elsewhere"), [(0.79, 0.0), (0.95, 0.11)])
def test_where_sentences_do_not_rest_on_their_findings_no_map_is_evidence(
    here: float, elsewhere: float
) -> None:
    said = verdict(trust(here, elsewhere, 1.0), KINDS)
    assert said.startswith("The maps of attention and occlusion are no evidence.")
    assert "show what" not in said


def test_the_bars_themselves_pass() -> None:
    assert trust(0.80, 0.10, 0.80).is_evidence("contribution")


def test_fewer_than_a_hundred_sentences_prove_nothing() -> None:
    few = MapTrust(Removal(1.0, 0.0, 500), {"occlusion": Removal(1.0, 0.0, 99)})
    assert not few.is_evidence("occlusion")


def test_a_record_is_read_for_its_own_weights_only(tmp_path: Path) -> None:
    document: dict[str, Any] = {
        "model_sha256": "a",
        "planted": {"here": 1.0, "elsewhere": 0.0, "count": 3},
        "maps": {"occlusion": {"here": 0.5, "elsewhere": 0.25, "count": 2}},
    }
    (tmp_path / FILE_NAME).write_text(json.dumps(document), encoding="utf-8")
    found = MapTrust.load((tmp_path / "none", tmp_path), "a")
    assert found == MapTrust(Removal(1.0, 0.0, 3), {"occlusion": Removal(0.5, 0.25, 2)})
    assert MapTrust.load((tmp_path,), "b") is None


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"model_sha256": "a"}', '{"model_sha256": "a", "x": 1}']
)
def test_a_damaged_record_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"map_trust\.json: not readable as a test of maps"):
        MapTrust.load((tmp_path,), "a")

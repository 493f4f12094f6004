"""The page of label maps: planted faults are on it, everything is escaped, nothing is fetched."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.labels.test_rules import AFFINE, phantom
from uvlm.arrays import Ids
from uvlm.config import Params
from uvlm.data.label_scheme import fine_classes, scheme
from uvlm.data.labels.measure import measure
from uvlm.files import key_of, store_root
from uvlm.pages.label_planes import Outlined
from uvlm.pages.label_quality import report_label_maps
from uvlm.store import Row, array_path, save_array, write_manifest

FINE = fine_classes("chest")
HOSTILE = "<script>alert(1)</script>"
MIRRORED = "train_2_a_1"


@dataclass(frozen=True)
class Run:
    """Where the two manifests lie, and where the report goes."""

    params: Params
    root: Path

    def report(self, out: str = "labels") -> dict[str, Any]:
        params = self.params
        manifests = self.root / "preprocess.jsonl", self.root / "label_maps.jsonl"
        return report_label_maps(params.label_maps, params.audit, *manifests, self.root / out)

    @property
    def html(self) -> str:
        return (self.root / "labels.html").read_text(encoding="utf-8")


@pytest.fixture
def quality(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Six clean phantoms, a mirrored one, one that is not labelled."""
    monkeypatch.setenv("UVLM_DATA_ROOT", str(tmp_path / "store"))
    volumes, maps = [], []
    for number, case in enumerate([*(f"train_{n}_a_1" for n in range(1, 7)), HOSTILE, "valid_1"]):
        ids, hu, _ = phantom(number)
        ids = ids[:, :, ::-1].copy() if case in (MIRRORED, HOSTILE) else ids
        ids = np.zeros_like(ids) if case == "valid_1" else ids
        volumes.append(stored(case, "preprocess", hu, {}, {"affine": AFFINE.tolist()}))
        maps.append(stored(case, "label_maps", ids, {"facts": facts(ids, hu)}, {}))
    write_manifest(tmp_path / "preprocess.jsonl", volumes)
    write_manifest(tmp_path / "label_maps.jsonl", maps)
    return Run(params, tmp_path)


def facts(ids: Ids, hu: Any) -> dict[str, Any]:
    return measure(ids, AFFINE, FINE.one_piece, (ids, hu), {"airway+lesion": 0.25}).to_json()


def stored(case: str, stage: str, array: Any, note: dict[str, Any], extra: dict[str, Any]) -> Row:
    key = key_of(stage, case)
    path = array_path(stage, key)
    sha256 = save_array(store_root() / path, array, note)
    return Row(case, key, path, sha256, "phantom:0", extra)


@pytest.mark.slow
def test_implausible_cases_are_listed_with_their_flags(quality: Run) -> None:
    report = quality.report()
    assert report == json.loads((quality.root / "labels.json").read_text())
    assert (report["label_maps"], report["unlabelled"], report["flagged"]) == (8, 1, 2)
    assert [entry["case"] for entry in report["flagged_cases"]] == [HOSTILE, MIRRORED]
    assert report["flagged_by_rule"]["side"] == 2
    flags = report["flagged_cases"][1]["flags"]
    assert {"side"} == {f["rule"] for f in flags if f["structure"] == "lung_left"}
    (liver,) = (row for row in report["structures"] if row["structure"] == "liver")
    assert liver["cases"] == 7
    assert report["overlaps"] == [
        {"pair": "airway+lesion", "cases": 8, "median": 0.25, "most": 0.25, "plausible": None}
    ]
    assert "<td>airway and lesion</td>" in quality.html
    assert liver["least"] <= liver["median"] <= liver["most"]
    assert "not left of lung right" in quality.html


@pytest.mark.slow
def test_the_page_shows_flagged_cases_and_some_plausible_ones_in_pictures(quality: Run) -> None:
    quality.report()
    headings = re.findall(r"<h2>(.*?)</h2>", quality.html)
    assert headings == ["Flags", "Flagged", "Without a flag", "Volumes", "Claimed twice"]
    pictures = re.findall(r'<img src="data:image/png;base64,iVBOR', quality.html)
    assert len(pictures) == 2 + quality.params.audit.unflagged_shown
    assert "valid_1" not in quality.html  # nothing to see there


@pytest.mark.slow
def test_names_are_shown_as_text_and_nothing_is_fetched(quality: Run) -> None:
    quality.report()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in quality.html
    assert "<script" not in quality.html
    assert "http" not in re.sub(r"http-equiv", "", quality.html)
    assert "default-src &#39;none&#39;" in quality.html or "default-src 'none'" in quality.html


@pytest.mark.slow
def test_the_same_label_maps_give_the_same_bytes(quality: Run) -> None:
    quality.report()
    quality.report("again")
    for suffix in (".html", ".json"):
        paths = [quality.root / f"{name}{suffix}" for name in ("labels", "again")]
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_planes_run_through_what_is_in_question() -> None:
    ids = np.zeros((8, 9, 10), np.uint8)
    ids[6, 2, 3] = 5
    ids[6, 2, 7] = 3
    names = scheme("chest", "fine_lesion").names
    hu = np.zeros(ids.shape, np.int16)
    assert Outlined(hu, ids, (1, 1, 1), names, {5}).centre() == (6, 2, 3)
    assert Outlined(hu, ids, (1, 1, 1), names).centre() == (4, 4, 5)

"""report.json is read back as it was written, and refused in one line where it cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from uvlm.errors import DataError
from uvlm.text.draft import FORMAT_VERSION, Draft

READ: dict[str, Any] = {
    "text": "series 2", "kind": "series", "id": "1a2b3c4d", "files": 2, "slices": 2,
    "shape": (2, 3, 4), "spacing_mm": (5.0, 2.0, 1.5), "orientation": "LPS",
    "affine": ((0.0, 0.0, 1.5, -1.0), (0.0, 2.0, 0.0, 7.0), (5.0, 0.0, 0.0, 0.5), (0, 0, 0, 1)),
    "left_out": ({"what": ".jpg", "files": 1},),
}  # fmt: skip
CLAIM: dict[str, Any] = {
    "abnormality": "Pleural effusion", "present": True, "side": ("left",), "probability": 0.25,
    "contradiction": "the masks show it on the right only",
}  # fmt: skip
DOCUMENT: dict[str, Any] = {
    "case_id": "ct-1a2b3c4d5e6f", "disclaimer": "A draft.", "notes": ("Unlike.",),
    "report": "Findings: Fluid on the left.", "findings": "Fluid on the left.", "impression": "",
    "withheld": None, "unlike_training": {"checked": False}, "labeller": "rules",
    "sentences": (
        {"text": "Fluid on the left. <b>\u202e", "part": "findings", "claims": (CLAIM,)},
    ),
    "probabilities": {"Pleural effusion": 0.25}, "thresholds": {"Pleural effusion": 0.5},
    "structures": ({"class_id": 1, "name": "liver", "volume_ml": 12.5},), "not_trained": (),
    "provenance": {
        "read": READ, "voxels_sha256": "a", "request": "b", "model_sha256": "c",
        "contract_sha256": "d", "population_sha256": None, "trained_on": "phantom",
        "versions": {"uvlm": "1"}, "device": "cpu", "precision": "32-true",
        "seconds": {"read": 0.5},
    },
}  # fmt: skip


def test_a_draft_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    draft = Draft.model_validate(DOCUMENT)
    draft.write(tmp_path)
    again = Draft.load(tmp_path / "report.json")
    assert again == draft
    assert again.sentences[0].contradictions == ("the masks show it on the right only",)
    kept = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert kept["format_version"] == FORMAT_VERSION
    assert set(kept) == set(DOCUMENT) | {"format_version"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "not readable as a draft"),
        ("[]", "not readable as a draft"),
        ('{"case_id": "a"', "not readable as a draft"),
        ('{"case_id": "a"}', "format_version is 1, this release reads 2"),
        (json.dumps(DOCUMENT | {"format_version": 3}), "format_version is 3"),
        (json.dumps(DOCUMENT | {"format_version": 2, "patient": "x"}), "patient: Extra inputs"),
    ],
)
def test_what_is_no_draft_is_refused_in_one_line(
    text: str | None, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=words) as error:
        Draft.load(path)
    assert "\n" not in str(error.value)


def test_a_probability_is_a_number() -> None:
    claim = CLAIM | {"probability": float("nan")}
    sentences = [{"text": "", "part": "findings", "claims": [claim]}]
    with pytest.raises(ValidationError, match="finite number"):
        Draft.model_validate(DOCUMENT | {"sentences": sentences})

"""`--claim-more`: it reaches the cues, every output says so, other models refuse it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.inference.conftest import CHANGES, body, lps, make_report_folder
from uvlm.config import parse_params
from uvlm.data.ct.io import write_volume
from uvlm.drafts.batch import Options, predict
from uvlm.errors import ConfigError
from uvlm.inference.predictor import Predictor
from uvlm.model.cues import CueTokens
from uvlm.text.draft import Draft

CUED: dict[str, dict[str, Any]] = {
    "injection": {"cues": "presence"},
    "train_cls": {"evidence_folds": 2},
}


@pytest.fixture
def cued(tiny_document: dict[Any, Any], tmp_path: Path) -> Path:
    for section, values in (CHANGES | CUED).items():
        tiny_document[section] |= values
    make_report_folder(parse_params(tiny_document, "tests"), tmp_path / "cued" / "report")
    return tmp_path / "cued" / "report"


def test_a_shift_reaches_the_cues_of_presence_and_no_probability(
    cued: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Tensor] = []
    forward = CueTokens.forward

    def heard(self: CueTokens, evidence: Tensor) -> Tensor:
        read.append(evidence)
        return forward(self, evidence)

    monkeypatch.setattr(CueTokens, "forward", heard)
    found = [Predictor.load(cued, shift).predict_volume(lps(body())) for shift in (0.0, 1.5, -2.0)]
    assert found[0].probabilities == found[1].probabilities == found[2].probabilities
    torch.testing.assert_close(read[1][..., 0] - read[0][..., 0], torch.full((1, 18), 1.5))
    torch.testing.assert_close(read[2][..., 0] - read[0][..., 0], torch.full((1, 18), -2.0))


@pytest.mark.slow
def test_a_draft_says_so_and_is_made_again_for_another_shift(cued: Path, tmp_path: Path) -> None:
    ct, out = tmp_path / "ct.nii.gz", tmp_path / "out"
    write_volume(ct, lps(body()))

    def drafted(**options: Any) -> tuple[str, Draft]:
        (found,) = predict([ct], cued, out, Options(batch=True, **options))
        return found.status, Draft.load(found.ct.folder / "report.json")

    status, plain = drafted()
    assert not [note for note in plain.notes if "claim-more" in note]
    for shift, word in ((1.5, "MORE"), (-1.5, "LESS")):
        status, draft = drafted(claim_more=shift)
        assert status == "drafted"
        assert draft.notes[0].startswith(f"CLAIMS {word}")
        assert f"{shift:+g}" in draft.notes[0]
    assert drafted(claim_more=-1.5)[0] == "kept"
    assert drafted(claim_more=0.0)[0] == "drafted"


@pytest.mark.parametrize("shift", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(shift: float, cued: Path) -> None:
    with pytest.raises(ConfigError, match="--claim-more"):
        Predictor.load(cued, shift)


def test_a_model_without_cues_refuses_a_shift(report_folder: Path, tmp_path: Path) -> None:
    write_volume(tmp_path / "ct.nii", lps(body()))
    with pytest.raises(ConfigError, match="no cue of presence"):
        predict([tmp_path / "ct.nii"], report_folder, tmp_path / "out", Options(claim_more=1.0))
    assert Predictor.load(report_folder, 0.0).claim_more == 0

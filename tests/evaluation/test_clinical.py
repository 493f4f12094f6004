"""Packages that nobody has to install: small ones with their signatures stand in for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.conftest import reference_of
from uvlm.evaluation.clinical import CLINICAL, NOT_ASKED, clinical_scores
from uvlm.evaluation.reference import Reference

SHARED = """
def shared(one, other):
    return len(set(one.split()) & set(other.split())) / len(set(other.split()))
"""
RADGRAPH = """
class F1RadGraph:
    def __init__(self, reward_level, model_type=None):
        assert reward_level == "partial"
    def __call__(self, refs, hyps):
        print("reading")
        each = [shared(h, r) for h, r in zip(hyps, refs)]
        return sum(each) / len(each), each, [], []
"""
GREEN = """
class GREEN:
    def __init__(self, model_name=None, output_dir="."):
        raise OSError("no weights of " + model_name + "\\non this computer")
"""
RATESCORE = """
import os
class RaTEScore:
    def compute_score(self, candidates, references):
        assert os.environ["HF_HUB_OFFLINE"] == "1"
        return [1.0 for _ in candidates]
"""


@pytest.fixture
def reference() -> Reference:
    texts = ["clear lungs", "large effusion", "small nodule"]
    return reference_of(texts, np.zeros((3, 3), dtype=bool))


def install(folder: Path, patch: pytest.MonkeyPatch, **packages: str) -> None:
    for name, text in packages.items():
        (folder / f"{name}.py").write_text(SHARED + text)
    patch.syspath_prepend(str(folder))


def test_nothing_is_asked_of_a_package_unless_wanted(reference: Reference) -> None:
    found = clinical_scores(reference, ["clear lungs"] * 3, wanted=False)
    assert found == {name: {"not_computed": NOT_ASKED} for name in CLINICAL}


def test_what_is_not_installed_is_said(reference: Reference) -> None:
    found = clinical_scores(reference, ["clear lungs"] * 3)
    assert found == {name: {"not_computed": "not installed"} for name in CLINICAL}


def test_a_package_scores_and_a_missing_report_is_0(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, radgraph=RADGRAPH, RaTEScore=RATESCORE, green_score=GREEN)
    found = clinical_scores(reference, ["clear lungs", "effusion", " "])
    assert found["radgraph"]["mean"] == pytest.approx((1 + 1 / 2 + 0) / 3, abs=1e-6)
    assert found["ratescore"]["mean"] == pytest.approx(2 / 3, abs=1e-6)
    assert found["green"]["not_computed"].startswith("its package failed: ")
    assert "on this computer" in found["green"]["not_computed"]

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import composed
from uvlm.config import parse_params
from uvlm.pages import remarks
from uvlm.text.claims import Phrases


def counts(**replaced: Any) -> dict[str, Any]:
    return {"n": 3, "n_positive": 3, "n_both": 3, "without_positives": [], **replaced}


def test_macro_values_over_classes_that_all_occur_are_bounded_by_nothing() -> None:
    remark = remarks.macro_remark(counts(), has_probabilities=False)
    assert remark == "Macro values are unweighted means over 3 classes."


def test_a_class_that_does_not_occur_bounds_macro_f1_and_is_named() -> None:
    lacking = counts(n_positive=2, n_both=1, without_positives=["Emphysema"])
    remark = remarks.macro_remark(lacking, has_probabilities=True)
    assert "1 of them has no positive test scan and counts as 0 (Emphysema)" in remark
    assert "can exceed 0.667 in F1" in remark
    assert "AUROC is a mean over the 1 class with positive and negative test scans" in remark
    assert "AUPRC over the 2 classes with a positive one" in remark


def test_a_run_without_any_positive_scan_has_no_mean_of_auroc() -> None:
    none = counts(n_positive=0, n_both=0, without_positives=["A", "B", "C"])
    remark = remarks.macro_remark(none, has_probabilities=True)
    assert "3 of them have no positive test scan" in remark
    assert "can exceed 0.000 in F1" in remark
    assert "AUROC is a mean over the 0 classes" in remark


def test_a_labeller_without_phrases_is_not_said_to_colour_anything() -> None:
    assert "nothing is coloured" in remarks.marks_remark("radbert", Phrases())
    found = remarks.marks_remark("phantom", Phrases(claimed=lambda text: []))
    assert found == "One colour per abnormality; normal text is black."


def test_every_part_that_did_not_learn_is_named() -> None:
    assert remarks.untrained_remarks(lambda part: True) == []
    parts = remarks.untrained_remarks(lambda part: part == "classifier")
    assert [remark.split(" was")[0] for remark in parts] == [
        "The segmentation decoder",
        "The language decoder",
    ]


PLUS = (
    "The method that wrote the reports has, beyond the paper's: cues of attributes from the "
    "classifier, which in training say what the report says; a readout of the cues behind the last "
    "layer; 3 times the weight on deciding words; impressions that are written again if they name "
    "more than findings."
)


@pytest.mark.parametrize(
    ("profile", "remark"),
    [
        ("chest", "The method that wrote the reports adds nothing to the paper's."),
        ("phantom", PLUS),
        ("chest_plus", PLUS),
    ],
)
def test_the_method_of_a_profile_is_said(profile: str, remark: str) -> None:
    assert remarks.method_remark(parse_params(composed(profile), profile)) == remark


def test_every_addition_is_said() -> None:
    params = parse_params(composed("phantom"), "phantom")
    injection = params.injection.model_copy(update={"cues": "both", "pooled": "regions"})
    generate = params.generate.model_copy(update={"cue_shift": -0.5, "cue_guidance": 2.0})
    train = params.train_report.model_copy(update={"cue_truth": 0.25, "deciding_weight": 1.0})
    changed = {"injection": injection, "generate": generate, "train_report": train}
    remark = remarks.method_remark(params.model_copy(update=changed))
    for words in (
        "pooled tokens (regions)", "cues of presence and attributes", "some of which in training",
        "guidance by the cues (2)", "cues shifted by -0.5",
    ):  # fmt: skip
        assert words in remark
    assert "deciding" not in remark

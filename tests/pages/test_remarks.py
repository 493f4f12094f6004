from __future__ import annotations

from typing import Any

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

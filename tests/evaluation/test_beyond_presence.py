"""Side, lobe and size over true positives, and two parts of a report that agree or do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from uvlm.data.sets.phantom.reports import PlantedFinding, write_report
from uvlm.evaluation.beyond_presence import beyond_presence
from uvlm.evaluation.bootstrap import draw_resamples
from uvlm.evaluation.labeller import DoubtingLabeller, get_labeller
from uvlm.evaluation.labelling.phantom import slots_of
from uvlm.evaluation.reference import Reference, TextLabels
from uvlm.evaluation.scores import label_samples
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.report import Report

PHANTOM = TextLabels(get_labeller("phantom"))
RULES = TextLabels(get_labeller("rules"))


def reference_of(texts: Sequence[str], label: TextLabels, samples: int = 0) -> Reference:
    """Cases of one patient each, labelled by what is read in their findings."""
    ids = tuple(f"case_{number}" for number in range(len(texts)))
    resamples = draw_resamples(ids, samples, np.random.default_rng(0))
    return Reference(ids, ids, tuple(texts), ABNORMALITIES, label(texts), resamples)


def scores_of(
    references: Sequence[str], texts: Sequence[str], label: TextLabels = PHANTOM, samples: int = 0
) -> dict[str, object]:
    reference = reference_of(references, label, samples)
    found, _ = beyond_presence(reference, texts, reference.claims(texts, label), label)
    return found


def random_reports(count: int, seed: int) -> list[str]:
    draws = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        names = [name for name in ABNORMALITIES if draws.random() < 0.5]
        planted = [
            PlantedFinding(
                name,
                ("right", "left", "bilateral", None)[draws.integers(4)],
                ("upper", "middle", "lower", None)[draws.integers(4)],
                ("small", "large", None)[draws.integers(3)],
            )
            for name in names
        ]
        text = write_report(planted, draws)
        made.append(Report(text.findings, text.impression).text)
    return made


def test_five_effusions_worked_by_hand() -> None:
    """References say right, right, right, left, left; the reports right, left, left, left, none."""
    sides = ("right", "right", "right", "left", "left")
    references = [f"Findings: Pleural effusion on the {side}." for side in sides]
    written = [f"Findings: Pleural effusion on the {side}." for side in ("right", *["left"] * 3)]
    side = scores_of(references, [*written, "Findings: No pleural effusion."])["side"]
    assert side == {
        "n": 4,  # the fifth is missed
        "n_of_all": 5,
        "right": 0.5,  # the first and the fourth
        "commonest_value": "right",
        "commonest": 0.75,
        "chance": 0.375,  # 3/4 x 1/4 + 1/4 x 3/4
        "above_commonest": -0.25,
        "of_all": 0.4,
    }


def test_shares_are_those_of_a_loop_over_cases_and_pairs() -> None:
    references, texts = random_reports(30, 1), random_reports(30, 2)
    found = scores_of(references, texts)
    for place, kind in enumerate(("side", "lobe", "size")):
        pairs = []
        described = 0
        for reference, text in zip(references, texts, strict=True):
            true, written = slots_of(reference), slots_of(text)
            told = {name: slots[place] for name, slots in true.items() if slots[place]}
            described += len(told)
            pairs += [(v, written[name][place]) for name, v in told.items() if name in written]
        right = sum(a == b for a, b in pairs)
        by_pairs = np.mean([a == b for (a, _), (_, b) in product(pairs, pairs)])
        most = max(sum(a == value for a, _ in pairs) for value in {a for a, _ in pairs})
        scores = found[kind]
        assert isinstance(scores, dict)
        assert (scores["n"], scores["n_of_all"]) == (len(pairs), described)
        assert scores["right"] == pytest.approx(right / len(pairs), abs=1e-6)
        assert scores["chance"] == pytest.approx(by_pairs, abs=1e-6)
        assert scores["commonest"] == pytest.approx(most / len(pairs), abs=1e-6)
        assert scores["of_all"] == pytest.approx(right / described, abs=1e-6)


def test_the_references_themselves_are_right_and_their_parts_agree() -> None:
    texts = random_reports(20, 3)
    found = scores_of(texts, texts, samples=30)
    for kind in ("side", "lobe", "size"):
        scores = found[kind]
        assert isinstance(scores, dict)
        assert (scores["right"], scores["right_ci"], scores["of_all"]) == (1.0, [1.0, 1.0], 1.0)
        low, high = scores["commonest_ci"]
        assert 0 < low < scores["commonest"] < high < 1
    assert found["consistency"] == {
        "n": sum(min(len(slots_of(text)), 3) for text in texts),  # an impression names three
        "absent": 0,
        "absent_share": 0.0,
        "absent_share_ci": [0.0, 0.0],
        "reference_absent_share": 0.0,
        "reference_absent_share_ci": [0.0, 0.0],
    }


def test_counts_of_each_abnormality_add_up() -> None:
    reference = reference_of(random_reports(30, 4), PHANTOM)
    texts = random_reports(30, 5)
    found, rows = beyond_presence(reference, texts, reference.claims(texts, PHANTOM), PHANTOM)
    for kind in ("side", "lobe", "size"):
        scores = found[kind]
        assert sum(row.get(f"{kind}_n", 0) for row in rows) == scores["n"]
        right = sum(row.get(f"{kind}_right", 0) for row in rows)
        assert right / scores["n"] == pytest.approx(scores["right"], abs=1e-6)


def test_an_impression_that_names_more_than_the_findings_is_counted() -> None:
    """Two of four names are not in the findings; one that is written twice counts once."""
    texts = [
        "Findings: Emphysema. Impressions: Signs of emphysema, lung nodule, lung nodule.",
        "Findings: Nodule. Impressions: Signs of lung nodule, pleural effusion.",
        "Findings: Nodule. Impressions: No active disease.",
    ]
    found = scores_of(texts, texts)
    consistency = found["consistency"]
    assert isinstance(consistency, dict)
    assert (consistency["n"], consistency["absent"]) == (4, 2)
    assert consistency["absent_share"] == consistency["reference_absent_share"] == 0.5


def test_either_part_counts_what_only_an_impression_names() -> None:
    references = ["Findings: Emphysema. Impressions: Signs of emphysema."] * 2
    texts = ["Findings: No emphysema in the lungs. Impressions: Signs of emphysema.", references[0]]
    reference = reference_of(references, PHANTOM)
    findings = label_samples(reference, reference.claims(texts, PHANTOM))
    either = scores_of(references, texts)["either_part"]
    assert isinstance(either, dict)
    assert findings["macro_recall"][0] == pytest.approx(0.5 / 18)
    assert either["macro_recall"] == pytest.approx(1 / 18, abs=1e-6)


def test_the_rules_count_either_part_already() -> None:
    references = ["Findings: Emphysema. Impressions: Pleural effusion.", "Findings: Hiatal hernia."]
    reference = reference_of(references, RULES)
    whole = label_samples(reference, reference.claims(references, RULES))["macro_f1"][0]
    found = scores_of(references, references, RULES)
    either = found["either_part"]
    assert isinstance(either, dict)
    assert either["macro_f1"] == pytest.approx(whole, abs=1e-6)
    assert found["attributes_read_by"] == "rules"
    consistency = found["consistency"]
    assert isinstance(consistency, dict)
    assert (consistency["n"], consistency["absent"]) == (1, 1)


def test_free_text_is_scored_by_the_rules() -> None:
    references = [
        "A 4 mm nodule is seen in the right lung upper lobe. Small left pleural effusion.",
        "There are nodules in both lungs, the largest 12 mm in the left lower lobe.",
    ]
    texts = [
        "Nodule of 6 mm in the right lower lobe. Small right pleural effusion.",
        "12 mm nodule of the left lower lobe.",
    ]
    found = scores_of(references, texts, RULES)
    sides, lobes, sizes = (found[kind] for kind in ("side", "lobe", "size"))
    assert isinstance(sides, dict)
    assert isinstance(lobes, dict)
    assert isinstance(sizes, dict)
    assert (sides["n"], sides["right"]) == (3, pytest.approx(1 / 3, abs=1e-6))
    assert (lobes["n"], lobes["right"]) == (2, 0.5)
    assert (sizes["n"], sizes["right"]) == (3, 1.0)


def test_a_missing_report_is_right_about_nothing() -> None:
    references = ["Findings: Pleural effusion on the left."] * 2
    found = scores_of(references, [references[0], ""])
    side = found["side"]
    assert isinstance(side, dict)
    assert (side["n"], side["right"], side["of_all"]) == (1, 1.0, 0.5)
    assert scores_of(references, ["", ""])["side"] == {"n": 0, "n_of_all": 2, "of_all": 0.0}
    nothing = scores_of(["Findings: Emphysema."], ["Findings: Emphysema."])["side"]
    assert nothing == {"n": 0, "n_of_all": 0, "of_all": None}


def test_a_labeller_that_costs_is_not_asked_about_each_part() -> None:
    class Costly:
        name = "llm"
        usage: dict[str, float] = {}  # noqa: RUF012

        def __init__(self) -> None:
            self.num_asked = 0

        def label(self, texts: Sequence[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
            self.num_asked += len(texts)
            return get_labeller("rules").label(texts)

        answers = label

    labeller = Costly()
    assert isinstance(labeller, DoubtingLabeller)
    references = ["Nodule in the left lung.", "Emphysema."]
    reference = reference_of(references, RULES)
    label = TextLabels(labeller)
    claimed = reference.claims(references, label)
    found, _ = beyond_presence(reference, references, claimed, label)
    assert labeller.num_asked == 2
    assert "not_computed" in found["consistency"]
    assert found["attributes_read_by"] == "rules"
    assert found["side"]["right"] == 1.0


def test_samples_do_not_change_the_point() -> None:
    reference = reference_of(random_reports(20, 6), PHANTOM, samples=50)
    texts = random_reports(20, 7)
    claimed = reference.claims(texts, PHANTOM)
    whole, _ = beyond_presence(reference, texts, claimed, PHANTOM)
    once = replace(reference, resamples=replace(reference.resamples, weights=np.ones((1, 20))))
    point, _ = beyond_presence(once, texts, claimed, PHANTOM)
    for kind in ("side", "lobe", "size"):
        assert point[kind] == {k: v for k, v in whole[kind].items() if not k.endswith("_ci")}
        low, high = whole[kind]["above_commonest_ci"]
        assert low < whole[kind]["above_commonest"] < high

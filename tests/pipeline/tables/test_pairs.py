"""Numbers of records against naive loops, scikit-learn and pycocoevalcap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from sklearn.metrics import f1_score

from pipeline.runs.case_results import BY_STAGE, Scored, cases_of
from pipeline.tables import results
from pipeline.tables.results import Result, case_samples, difference, text_loss
from tests.pipeline.tables.records import flags, mistaken, record
from uvlm.arm_record import ArmRecord
from uvlm.data.cases import Case, write_index
from uvlm.evaluation.bleu import bleu_counts
from uvlm.evaluation.bootstrap import draw_resamples
from uvlm.seeding import generator
from uvlm.text.claims import CaseClaims, write_claims
from uvlm.text.predictions import CasePrediction, write_predictions

WORDS = ("no", "nodule", "of", "the", "left", "lung", "small", "large")


def texts(seed: int, count: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(6, 20))) for _ in range(count)]


def counted(references: list[str], written: list[str]) -> list[tuple[int, ...]]:
    return [tuple(map(int, row)) for row in bleu_counts(references, written)]


def macro_f1(labels: Any, claimed: Any) -> float:
    return float(f1_score(labels, claimed, average="macro", zero_division=0))


def test_a_paired_difference_is_that_of_a_loop_over_resampled_patients(
    params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "NUM_RESAMPLES", 40)
    labels = flags(0)
    claims = [mistaken(labels, share, seed) for share, seed in ((0.1, 1), (0.2, 2))]
    one, other = (record(params, f"table5_0{n}", 0, claims[n], labels) for n in (0, 1))
    found = difference(Result((one,)), Result((other,)), "f1")
    assert found is not None
    assert found.interval is not None

    patients = [case.patient_id for case in one.cases]
    draws = generator(0, "table", results._test_key(one))
    gaps = []
    for weights in draw_resamples(patients, 40, draws).weights[1:].astype(int):
        drawn = [case for case, times in enumerate(weights) for _ in range(times)]
        scores = [macro_f1(labels[drawn], said[drawn]) for said in claims]
        gaps.append(scores[0] - scores[1])
    assert found.mean == pytest.approx(macro_f1(labels, claims[0]) - macro_f1(labels, claims[1]))
    assert found.interval == pytest.approx(np.percentile(gaps, [2.5, 97.5]))


def test_a_difference_over_seeds_is_the_mean_of_those_that_both_have(
    params: dict[str, Any],
) -> None:
    def of(seed: int, arm: str, share: float) -> ArmRecord:
        return record(params, arm, seed, mistaken(flags(seed), share, seed + 9), flags(seed))

    first = Result(tuple(of(seed, "table5_07", 0.1) for seed in (0, 1, 2)))
    second = Result(tuple(of(seed, "table5_02", 0.3) for seed in (1, 2, 3)))
    gaps = [
        macro_f1(flags(s), mistaken(flags(s), 0.1, s + 9))
        - macro_f1(flags(s), mistaken(flags(s), 0.3, s + 9))
        for s in (1, 2)
    ]
    found = difference(first, second, "f1")
    assert found is not None
    assert found.mean == pytest.approx(np.mean(gaps))


def test_bleu_of_a_record_is_pycocoevalcaps_of_the_texts(params: dict[str, Any]) -> None:
    labels, count = flags(0), len(flags(0))
    references, written = texts(1, count), texts(2, count)
    held = record(params, "table5_07", 0, labels, labels, ngrams=counted(references, written))
    samples = case_samples(held)
    by_id = [{n: [text] for n, text in enumerate(side)} for side in (references, written)]
    expected, _ = Bleu(4).compute_score(*by_id, verbose=0)
    for order in (1, 2, 3, 4):
        assert samples[f"bleu_{order}"][0] == pytest.approx(expected[order - 1], abs=1e-9)
    assert samples["bleu_mean"][0] == pytest.approx(np.mean(expected), abs=1e-9)


def test_bleu_is_paired_where_both_records_count(params: dict[str, Any]) -> None:
    labels, count = flags(0), len(flags(0))
    references = texts(1, count)
    written = [text if n % 2 else f"{text} small" for n, text in enumerate(references)]
    better = [references[n] if n < 4 else text for n, text in enumerate(written)]
    one, other = (
        Result((record(params, "table5_07", 0, labels, labels, ngrams=counted(references, said)),))
        for said in (better, written)
    )
    gap = difference(one, other, "bleu_mean")
    assert gap is not None
    assert gap.interval is not None
    assert 0 <= gap.interval[0] <= gap.mean <= gap.interval[1]
    ready = [Result((record(params, "table5_07", 0, labels, labels, bleu=0.9),)) for _ in (0, 1)]
    unpaired = difference(ready[0], ready[1], "bleu_mean")
    assert unpaired is not None
    assert unpaired.interval is not None
    assert unpaired.interval[0] < 0 < unpaired.interval[1]  # two errors of 0.02 add up
    assert difference(one, one, "bleu_mean") == results.Estimate(0.0, (0.0, 0.0))


def test_a_missing_report_costs_bleu(params: dict[str, Any]) -> None:
    labels, count = flags(0), len(flags(0))
    references = texts(1, count)
    whole = record(params, "table5_07", 0, labels, labels, ngrams=counted(references, references))
    lost = whole.cases[0].model_copy(update={"claimed": None})
    less = whole.model_copy(update={"cases": (lost, *whole.cases[1:])})
    assert case_samples(whole)["bleu_4"][0] == pytest.approx(1.0)
    assert case_samples(less)["bleu_4"][0] < 1.0


def test_what_the_text_loses_is_the_classifiers_f1_minus_the_reports(
    params: dict[str, Any],
) -> None:
    labels = flags(0)
    said, thought = mistaken(labels, 0.3, 1), mistaken(labels, 0.1, 2)
    held = record(params, "table5_07", 0, said, labels)
    cases = tuple(
        case.model_copy(update={"probabilities": tuple(0.9 if flag else 0.1 for flag in row)})
        for case, row in zip(held.cases, thought, strict=True)
    )
    found = text_loss(Result((held.model_copy(update={"cases": cases}),)))
    assert found is not None
    assert found.mean == pytest.approx(macro_f1(labels, thought) - macro_f1(labels, said))


def test_a_finished_arm_leaves_counts_of_its_reports_and_no_text(tmp_path: Path) -> None:
    names = ("Emphysema", "Lung nodule")
    references = {"a": "no nodule of the lung", "b": "small nodule"}
    cases = [
        Case(f"{p}_1", f"{p}_1", p, "test", "", None, {}, (1, 0), text, "")
        for p, text in references.items()
    ]
    write_index(tmp_path / "data/manifests/index.jsonl", cases)
    scored = Scored(Path("metrics.json"), Path("said.jsonl"), Path("claims.json"))
    written = CasePrediction("a_1", "a", "Findings: no nodule", dict.fromkeys(names, 0.5))
    write_predictions(tmp_path / "said.jsonl", [written])
    claims = [CaseClaims("a_1", names[:1], (), ()), CaseClaims("b_1", names[:1], (), None)]
    write_claims(tmp_path / "claims.json", "rules", claims)
    first, second = cases_of(tmp_path, scored, names)  # references begin with "Findings:"
    assert first.ngrams == (3, 2, 1, 0, 3, 2, 1, 0, 3, 6)
    assert second.ngrams == (0, 0, 0, 0, 0, 0, 0, 0, 0, 3)
    assert second.claimed is None
    assert "nodule" not in first.model_dump_json()
    classify = Scored(Path("metrics.json"), Path("said.jsonl"), None)
    assert BY_STAGE["classify"].claims is classify.claims
    assert [case.ngrams for case in cases_of(tmp_path, classify, names)] == [None, None]

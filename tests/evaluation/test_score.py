from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from pipeline.cli import app
from uvlm.data.sets.phantom.reports import PlantedFinding, write_report
from uvlm.errors import ConfigError, DataError
from uvlm.evaluation.bootstrap import two_sided_p
from uvlm.evaluation.score import ScoreRequest, check_complete, score
from uvlm.evaluation.score_inputs import Columns, read_labels
from uvlm.evaluation.score_page import score_page
from uvlm.evaluation.text_metrics import why_no_meteor
from uvlm.text.abnormalities import ABDOMEN_LESIONS, ABNORMALITIES
from uvlm.text.predictions import CasePrediction, write_predictions

NUM_CASES = 16


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(scope="module")
def reports() -> dict[str, tuple[str, list[int]]]:
    """Text and labels of two scans each of eight patients, named as CT-RATE names them."""
    rng = np.random.default_rng(0)
    made = {}
    for number in range(NUM_CASES):
        planted = rng.random(len(ABNORMALITIES)) < 0.4
        found = [PlantedFinding(n) for n, p in zip(ABNORMALITIES, planted, strict=True) if p]
        text = write_report(found, rng)
        case_id = f"valid_{number // 2}_{'ab'[number % 2]}"
        made[case_id] = (
            f"Findings: {text.findings} Impressions: {text.impression}",
            planted.astype(int).tolist(),
        )
    return made


@pytest.fixture(scope="module")
def tables(
    tmp_path_factory: pytest.TempPathFactory, reports: dict[str, tuple[str, list[int]]]
) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    rows = [(case, text) for case, (text, _) in reports.items()]
    write_table(folder / "references.csv", ["id", "report"], rows)
    texts = [text for _, text in rows]
    moved = [(case, text) for (case, _), text in zip(rows, texts[3:] + texts[:3], strict=True)]
    write_table(folder / "others.csv", ["id", "report"], moved)
    labelled = [(case, *labels) for case, (_, labels) in reports.items()]
    write_table(folder / "labels.csv", ["id", *ABNORMALITIES], labelled)
    return folder


@pytest.fixture
def request_(tables: Path) -> ScoreRequest:
    return ScoreRequest(
        tables / "references.csv", tables / "others.csv", labeller="phantom", samples=40
    )


def test_perfect_reports_are_perfect_and_constants_show_the_floor(
    request_: ScoreRequest, tables: Path
) -> None:
    document = score(replace(request_, predictions=tables / "references.csv"))
    assert document["report"]["macro_f1"] == document["oracle"]["macro_f1"] == 1.0
    assert document["report"]["bleu_mean"] == pytest.approx(1.0)
    assert document["report"]["rouge_l"] == document["report"]["sacrebleu_13a"] == 1.0
    assert document["baselines"]["claims_nothing"]["crg"] == pytest.approx(1 / 3, abs=1e-6)
    assert document["baselines"]["claims_everything"]["crg"] == pytest.approx(1 / 3, abs=1e-6)
    assert document["n"] == NUM_CASES
    assert document["n_patients"] == NUM_CASES / 2
    assert document["protocol"]["labels"] == "read from the references by phantom"


def test_labels_of_a_table_are_the_truth_that_the_labeller_is_held_against(
    request_: ScoreRequest, tables: Path, tmp_path: Path
) -> None:
    lines = (tables / "labels.csv").read_text(encoding="utf-8").splitlines()
    flipped = [line[:-1] + ("0" if line.endswith("1") else "1") for line in lines[1:]]
    path = tmp_path / "labels.csv"
    path.write_text("\n".join([lines[0], *flipped]), encoding="utf-8")
    right = score(replace(request_, labels=tables / "labels.csv"))
    wrong = score(replace(request_, labels=path))
    assert right["oracle"]["macro_f1"] == 1.0
    assert wrong["oracle"]["macro_f1"] == pytest.approx(17 / 18, abs=1e-6)
    assert right["protocol"]["labels"].endswith("labels.csv")


def test_every_number_has_an_interval_around_it(request_: ScoreRequest, tables: Path) -> None:
    document = score(replace(request_, training=tables / "references.csv"))
    with_range = 0
    sections = [document["report"], document["oracle"], *document["baselines"].values()]
    for section in [*sections, *document["abnormalities"]]:
        for name, value in section.items():
            if isinstance(value, float) and not name.endswith("_share") and name != "threshold":
                low, high = section[f"{name}_ci"]
                assert low <= high
                with_range += 1
    assert with_range > 100


def test_baselines_and_the_audit_come_with_training_reports(
    request_: ScoreRequest, tables: Path
) -> None:
    document = score(replace(request_, training=tables / "references.csv"))
    trivial = ["constant_normal", "constant_abnormal", "most_frequent", "random"]
    assert list(document["baselines"]) == ["claims_nothing", "claims_everything", *trivial]
    best = max(document["baselines"][name]["macro_f1"] for name in trivial)
    assert document["report"]["above_trivial"] == pytest.approx(
        document["report"]["macro_f1"] - best, abs=2e-6
    )
    assert document["collapse"]["memorised"]["sentence_share"] == 1.0
    assert "collapse audit" in score_page(document)


def test_predictions_may_be_json_lines_with_probabilities(
    request_: ScoreRequest, reports: dict[str, tuple[str, list[int]]], tmp_path: Path
) -> None:
    path = tmp_path / "predictions.jsonl"
    rows = [
        CasePrediction(case, "", text, dict(zip(ABNORMALITIES, map(float, labels), strict=True)))
        for case, (text, labels) in reports.items()
    ]
    write_predictions(path, rows)
    document = score(replace(request_, predictions=path))
    assert document["report"]["macro_f1"] == document["cls"]["macro_f1"] == 1.0
    assert document["cls"]["macro_auroc"] == document["abnormalities"][0]["cls_auroc"] == 1.0
    assert "macro-AUROC" in score_page(document)


@pytest.mark.slow
def test_predictions_that_tell_what_the_classifier_says_bring_its_baselines(
    request_: ScoreRequest,
    reports: dict[str, tuple[str, list[int]]],
    tables: Path,
    tmp_path: Path,
) -> None:
    path, first = tmp_path / "predictions.jsonl", next(iter(reports))
    rows = [
        CasePrediction(
            case, "", text, dict(zip(ABNORMALITIES, map(float, labels), strict=True)), first
        )
        for case, (text, labels) in reports.items()
    ]
    write_predictions(path, rows)
    asked = replace(request_, predictions=path, training=tables / "references.csv")
    baselines = score(asked)["baselines"]
    assert list(baselines)[-2:] == ["nearest", "classifier_sentences"]
    assert baselines["nearest"]["most_common_share"] == 1.0
    write_predictions(path, [replace(row, nearest="a case of other training") for row in rows])
    document = score(asked)
    assert list(document["baselines"])[-2:] == ["random", "classifier_sentences"]
    assert "classifier in sentences" in score_page(document)
    assert "METEOR: not computed (" in score_page(document)


def test_columns_of_findings_and_impressions_become_one_report(
    request_: ScoreRequest, reports: dict[str, tuple[str, list[int]]], tmp_path: Path
) -> None:
    rows = []
    for case, (text, _) in reports.items():
        findings, impression = text.removeprefix("Findings: ").split(" Impressions: ")
        rows.append((f"{case}.nii.gz", findings, impression))
    header = ["VolumeName", "Findings_EN", "Impressions_EN"]
    path = write_table(tmp_path / "p.csv", header, rows)
    assert score(replace(request_, predictions=path))["report"]["bleu_mean"] == pytest.approx(1.0)


def test_a_missing_prediction_scores_like_an_empty_one_and_is_reported(
    request_: ScoreRequest, tables: Path, tmp_path: Path
) -> None:
    lines = (tables / "others.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    absent, empty = tmp_path / "absent.csv", tmp_path / "empty.csv"
    absent.write_text("".join([lines[0], *lines[2:]]), encoding="utf-8")
    empty.write_text("".join([lines[0], "valid_0_a,\n", *lines[2:]]), encoding="utf-8")
    missing, blank = (score(replace(request_, predictions=path)) for path in (absent, empty))
    assert missing["report"] == blank["report"]
    assert (missing["n_missing"], missing["n_empty"]) == (1, 0)
    assert (blank["n_missing"], blank["n_empty"]) == (0, 1)
    assert missing["missing"] == ["valid_0_a"]
    assert "1 WITHOUT A PREDICTION" in score_page(missing)
    with pytest.raises(DataError, match="1 of 16 references have no prediction"):
        check_complete(replace(request_, predictions=absent), missing)
    check_complete(request_, blank)


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(deleted=st.sets(st.integers(1, NUM_CASES)))
def test_deleting_rows_of_a_prediction_table_never_raises_a_metric(
    deleted: set[int], tables: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    request = ScoreRequest(
        tables / "references.csv", tables / "others.csv", labeller="phantom", samples=0
    )
    lines = (tables / "others.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    path = tmp_path_factory.mktemp("deleted") / "fewer.csv"
    kept = [line for number, line in enumerate(lines) if number not in deleted]
    path.write_text("".join(kept), encoding="utf-8")
    if len(kept) == 1:
        return
    before, after = (
        score(replace(request, predictions=p))["report"] for p in (request.predictions, path)
    )
    for name, value in before.items():
        if isinstance(value, float) and not name.endswith("_share"):
            assert after[name] <= value + 1e-6, name


def test_comparing_a_file_with_itself_finds_no_difference(request_: ScoreRequest) -> None:
    compared = score(replace(request_, compare=request_.predictions))["compare"]["metrics"]
    for scores in compared.values():
        assert scores["difference"] == 0.0
        assert scores["difference_ci"] == [0.0, 0.0]
        assert scores["p"] == 1.0


def test_better_reports_are_better_by_the_difference_of_the_scores(
    request_: ScoreRequest, tables: Path
) -> None:
    document = score(replace(request_, compare=tables / "references.csv"))
    f1 = document["compare"]["metrics"]["macro_f1"]
    assert f1["difference"] == pytest.approx(document["report"]["macro_f1"] - 1.0, abs=1e-6)
    assert f1["difference_ci"][1] < 0
    assert f1["p"] == pytest.approx(1 / 40)
    assert "paired comparison" in score_page(document)


def test_sides_of_two_sets_are_compared_where_both_name_one(tmp_path: Path) -> None:
    """One set writes every side rightly, another none; a third names nothing."""
    written = {
        "references": ["Pleural effusion on the left.", "Pleural effusion on the right."],
        "these": ["Pleural effusion on the left.", "Pleural effusion on the right."],
        "swapped": ["Pleural effusion on the right.", "Pleural effusion on the left."],
        "silent": ["No pleural effusion.", "No pleural effusion."],
    }
    paths = {
        name: write_table(tmp_path / f"{name}.csv", ["id", "report"], [*enumerate(texts)])
        for name, texts in written.items()
    }
    asked = ScoreRequest(paths["references"], paths["these"], labeller="phantom", samples=40)
    side = score(replace(asked, compare=paths["swapped"]))["compare"]["metrics"]["side_right"]
    assert (side["first"], side["second"], side["difference_ci"]) == (1.0, 0.0, [1.0, 1.0])
    silent = score(replace(asked, compare=paths["silent"]))["compare"]["metrics"]
    assert "side_right" not in silent
    assert silent["side_of_all"]["difference"] == 1.0


def test_a_paired_interval_is_that_of_the_differences_in_every_sample() -> None:
    differences = np.array([0.1, 0.3, -0.1, 0.2, 0.1])
    assert two_sided_p(differences) == pytest.approx(2 * 1 / 4)
    assert two_sided_p(differences[:1]) is None


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


def test_the_command_prints_a_table_and_writes_the_same_numbers(
    tables: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.json"
    result = run(
        *("--references", tables / "references.csv", "--predictions", tables / "others.csv"),
        *("--labeller", "phantom", "--bootstrap-samples", 20, "--json", out),
    )
    assert result.exit_code == 0, result.output
    document = json.loads(out.read_text(encoding="utf-8"))
    assert f"{document['report']['macro_f1']:.3f}" in result.output
    assert "official (headline)" in result.output
    assert "16 references of 8 patients (CT-RATE's ids)" in result.output


def test_the_command_fails_after_the_table_when_predictions_are_missing(
    tables: Path, tmp_path: Path
) -> None:
    lines = (tables / "others.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    fewer = tmp_path / "fewer.csv"
    fewer.write_text("".join(lines[:-2]), encoding="utf-8")
    arguments = (
        *("--references", tables / "references.csv", "--predictions", fewer),
        *("--labeller", "phantom", "--bootstrap-samples", 0),
    )
    result = run(*arguments)
    assert isinstance(result.exception, DataError)
    assert result.exception.exit_code == 3
    assert "2 WITHOUT A PREDICTION" in result.output
    assert run(*arguments, "--allow-missing").exit_code == 0


@pytest.mark.slow
@pytest.mark.skipif(bool(why_no_meteor()), reason=why_no_meteor() or "there is Java")
def test_meteor_of_the_corpus_is_given_only_when_no_report_is_missing(
    request_: ScoreRequest, tables: Path, tmp_path: Path
) -> None:
    lines = (tables / "references.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    fewer = tmp_path / "fewer.csv"
    fewer.write_text("".join(lines[:-4]), encoding="utf-8")
    asked = replace(request_, predictions=tables / "references.csv", with_meteor=True)
    whole, partial = (
        score(request)["report"]["meteor"] for request in (asked, replace(asked, predictions=fewer))
    )
    assert whole["corpus"] == whole["mean_over_reports"] == pytest.approx(1.0)
    assert partial["corpus"] is None
    assert partial["mean_over_reports"] == pytest.approx(12 / 16)


def test_lesions_of_the_abdomen_are_read_without_a_table_of_labels(tmp_path: Path) -> None:
    rows = [("a", "There is a hypodense lesion in the liver."), ("b", "Normal liver and kidneys.")]
    path = write_table(tmp_path / "r.csv", ["id", "report"], rows)
    arguments = ("--references", path, "--predictions", path, "--bootstrap-samples", 0)
    result = run(*arguments, "--label-set", "abdomen")
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.output.splitlines() if line.startswith("Liver lesion")]
    assert line.split()[2:] == ["1", "1.000", "1.000", "1.000"]
    assert isinstance(run(*arguments, "--label-set", "brain").exception, ConfigError)


def test_an_unknown_text_column_is_a_usage_error_that_lists_the_columns(
    request_: ScoreRequest, tmp_path: Path
) -> None:
    path = write_table(tmp_path / "p.csv", ["id", "words"], [("valid_0_a", "x")])
    with pytest.raises(ConfigError, match="id, words"):
        score(replace(request_, predictions=path))
    named = replace(request_, predictions=path, prediction_columns=Columns(None, ("words",)))
    assert score(named)["n_missing"] == NUM_CASES - 1


def test_patients_may_be_named_by_a_column(request_: ScoreRequest, tables: Path) -> None:
    with (tables / "references.csv").open(encoding="utf-8", newline="") as file:
        rows = [(*row, f"p{number % 3}") for number, row in enumerate(csv.reader(file))][1:]
    path = write_table(tables / "named.csv", ["id", "report", "who"], rows)
    document = score(replace(request_, references=path, patient_column="who"))
    assert document["n_patients"] == 3
    assert document["protocol"]["patients"] == "column who"


def test_three_lesion_columns_are_the_abdominal_label_set(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "l.csv", ["id", *ABDOMEN_LESIONS], [("a", 0, 1, 0), ("b", 1, 0, 0)]
    )
    labels = read_labels(path, None, ["b"])
    assert labels.names == ABDOMEN_LESIONS
    assert labels.values.tolist() == [[True, False, False]]
    assert labels.num_unused == 1


def test_the_page_says_over_how_many_classes_the_macro_values_run(tmp_path: Path) -> None:
    rows = [("a", "Emphysema in both lungs."), ("b", "The lungs are clear.")]
    table = write_table(tmp_path / "r.csv", ["id", "report"], rows)
    document = score(ScoreRequest(references=table, predictions=table, samples=10))
    assert document["report"]["macro_f1"] == pytest.approx(1 / 18, abs=1e-6)
    page = score_page(document)
    assert "means over 18 classes; 17 without a positive reference count as 0" in page
    assert "at most 0.056" in page
    lines = {line.split("  ")[0]: line.split() for line in page.splitlines()}
    assert lines["Hiatal hernia"][2:] == ["0", "-", "-", "-"]
    assert lines["Emphysema"][1] == "1"
    assert max(map(len, page.splitlines())) <= 110


@pytest.mark.parametrize("suffix", ["", ".nii.gz", ".mha"])
@pytest.mark.parametrize("file", ["predictions.json", "predictions.jsonl", "predictions.txt"])
def test_the_predictions_of_the_challenge_score_like_the_same_in_csv(
    tables: Path, tmp_path: Path, file: str, suffix: str
) -> None:
    with (tables / "references.csv").open(encoding="utf-8", newline="") as references:
        rows = list(csv.DictReader(references))
    said = [(row["id"], rows[-1]["report"]) for row in rows]
    as_csv = write_table(tmp_path / "predictions.csv", ["id", "report"], said)
    entries = [{"input_image_name": case + suffix, "report": text} for case, text in said]
    document = {"name": "Generated reports", "generated_reports": entries, "version": 1}
    request = ScoreRequest(tables / "references.csv", as_csv, labeller="phantom", samples=0)
    expected = score(request)
    for text in (json.dumps(document), "\n".join(json.dumps(entry) for entry in entries)):
        (tmp_path / file).write_text(text, encoding="utf-8")
        assert score(replace(request, predictions=tmp_path / file)) == expected


@pytest.mark.parametrize("file", ["predictions.json", "predictions.ndjson"])
def test_our_own_lines_keep_their_probabilities_under_any_name(
    tables: Path, tmp_path: Path, file: str
) -> None:
    with (tables / "references.csv").open(encoding="utf-8", newline="") as references:
        rows = list(csv.DictReader(references))
    lines = [
        CasePrediction(row["id"], "", row["report"], dict.fromkeys(ABNORMALITIES, 0.5))
        for row in rows
    ]
    write_predictions(tmp_path / file, lines)
    request = ScoreRequest(
        tables / "references.csv", tmp_path / file, labeller="phantom", samples=0
    )
    assert "cls" in score(request)


def test_references_in_another_language_are_refused_and_predictions_scored(tmp_path: Path) -> None:
    german = "Kein Pleuraerguss. Rundherd im rechten Oberlappen."
    good = [("a", "No pleural effusion."), ("b", "A nodule in the right upper lobe.")]
    english = write_table(tmp_path / "e.csv", ["id", "report"], good)
    mixed = write_table(tmp_path / "m.csv", ["id", "report"], [good[0], ("b", german)])
    with pytest.raises(DataError, match=r"m\.csv: id b: 0 of 6 words are known"):
        score(ScoreRequest(mixed, english, samples=0))
    document = score(ScoreRequest(english, mixed, samples=0))
    assert document["known_words"] == {"references": 1.0, "predictions": pytest.approx(3 / 9)}
    assert "words known from English reports: 100 % of the references, 33 % of" in score_page(
        document
    )
    header = ["id", *ABNORMALITIES]
    labels = write_table(tmp_path / "l.csv", header, [[case, *[0] * 18] for case in "ab"])
    assert score(ScoreRequest(mixed, english, labels=labels, samples=0))["n"] == 2

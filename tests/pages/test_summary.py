from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from uvlm.config import Params
from uvlm.errors import DataError
from uvlm.evaluation.labeller import get_phrases
from uvlm.pages.summary import DISCLAIMER, SummaryInputs, build_summary
from uvlm.store import Refusal, write_quarantine
from uvlm.text.claims import load_claims
from uvlm.text.predictions import load_predictions, write_predictions


@pytest.fixture(autouse=True)
def _store_of_the_run(run: SummaryInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVLM_DATA_ROOT", str(run.index.parent / "store"))


@pytest.fixture(scope="session")
def page(run: SummaryInputs, params: Params) -> Path:
    out = run.index.parent / "reports"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UVLM_DATA_ROOT", str(run.index.parent / "store"))
        build_summary(params, run, out)
    return out


@pytest.mark.slow
def test_sides_lobes_and_sizes_stand_beside_chance_and_the_commonest(
    page: Path, run: SummaryInputs
) -> None:
    report = json.loads(run.metrics.read_text(encoding="utf-8"))["report"]
    for name in ("summary.html", "summary.md"):
        text = (page / name).read_text(encoding="utf-8")
        for kind in ("side", "lobe", "size"):
            for key in ("right", "commonest", "chance", "of_all"):
                assert f"{report[kind][key]:.3f}" in text
        assert f"{report['either_part']['macro_f1']:.3f}" in text
        consistency = report["consistency"]
        assert f"Of {consistency['n']:,} abnormalities that impressions name" in text


@pytest.mark.slow
def test_operating_points_are_a_table_on_both_pages_and_a_picture(
    run: SummaryInputs, params: Params, tmp_path: Path
) -> None:
    metrics = json.loads(run.metrics.read_text(encoding="utf-8"))
    scores = {"macro_precision": 0.4321, "macro_recall": 0.6543, "macro_f1": 0.5219}
    points = [{"shift": shift, **scores, "macro_f1_ci": [0.5, 0.6]} for shift in (-1.5, 0.0)]
    metrics["operating_points"] = {"n": 7, "points": points}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    build_summary(params, replace(run, metrics=tmp_path / "metrics.json"), tmp_path)
    for name in ("summary.html", "summary.md"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        part = text.partition("Operating points")[2]
        assert part.count("0.654") == part.count("0.432") == 2
        assert "n = 7 scans" in part
        assert "-1.5" in part
    html = (tmp_path / "summary.html").read_text(encoding="utf-8")
    assert html.count('src="data:image/png;base64,') == 5


@pytest.mark.slow
def test_what_reports_say_against_the_classifier_stands_on_both_pages(
    page: Path, run: SummaryInputs
) -> None:
    found = json.loads(run.metrics.read_text(encoding="utf-8"))["report"]["contradictions"]
    for name in ("summary.html", "summary.md"):
        text = (page / name).read_text(encoding="utf-8")
        assert f"Of {found['n']:,} pairs of scan and abnormality" in text
        assert f"{found['share']:.3f}" in text
        assert "Operating points" not in text


def test_page_needs_no_network_and_no_other_file(page: Path) -> None:
    html = (page / "summary.html").read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', html)
    assert len(sources) == 4
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http://" not in html.replace("http-equiv", "")
    assert "https://" not in html


def test_both_pages_say_that_nobody_reviewed_them(page: Path) -> None:
    for name in ("summary.html", "summary.md"):
        assert DISCLAIMER in (page / name).read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_note_stands_on_both_pages_with_what_it_is_written_in_escaped(
    run: SummaryInputs, params: Params, tmp_path: Path
) -> None:
    shown = params.summarize.model_copy(update={"note": "Of <two> steps & a *dozen* CTs."})
    build_summary(params.model_copy(update={"summarize": shown}), run, tmp_path)
    assert "Of &lt;two&gt; steps &amp; a *dozen* CTs." in (tmp_path / "summary.html").read_text()
    markdown = (tmp_path / "summary.md").read_text()
    assert "<two>" not in markdown
    assert "steps" in markdown.partition("Test split")[0]


def test_headline_numbers_stand_beside_oracle_and_every_baseline(
    page: Path, run: SummaryInputs
) -> None:
    metrics = json.loads(run.metrics.read_text(encoding="utf-8"))
    for name in ("summary.html", "summary.md"):
        text = (page / name).read_text(encoding="utf-8")
        assert f"{metrics['report']['macro_f1']:.3f}" in text
        low, high = metrics["report"]["macro_f1_ci"]
        assert f"{low:.2f}\u2013{high:.2f}" in text
        assert f"{metrics['oracle']['macro_f1']:.3f}" in text
        for scores in metrics["baselines"].values():
            assert f"{scores['macro_f1']:.3f}" in text
            assert f"{scores['bleu_mean']:.3f}" in text


def test_the_collapse_audit_is_shown(page: Path, run: SummaryInputs) -> None:
    audit = json.loads(run.metrics.read_text(encoding="utf-8"))["collapse"]
    for name in ("summary.html", "summary.md"):
        text = (page / name).read_text(encoding="utf-8")
        assert "macro-F1 when every CT is another patient" in text
        assert f"{audit['image_shuffle']['macro_f1_lost']:.3f}" in text
        assert f"{audit['memorised']['reference_sentence_share']:.3f}" in text


def test_every_row_of_a_table_is_accounted_for(page: Path) -> None:
    assert "| reports | 9 | 7 | no\\_chest 2 |" in (page / "summary.md").read_text(encoding="utf-8")
    assert "no_chest 2</td>" in (page / "summary.html").read_text(encoding="utf-8")


def test_a_class_that_is_not_learned_is_named(page: Path, run: SummaryInputs) -> None:
    metrics = json.loads(run.metrics.read_text(encoding="utf-8"))
    assert "Lung nodule" in metrics["not_learned"]
    section = (page / "summary.md").read_text(encoding="utf-8").split("## What is not learned")[1]
    assert "- Lung nodule: report F1 0.00" in section.split("##")[0]


def test_goals_say_whether_they_are_reached(page: Path) -> None:
    html = (page / "summary.html").read_text(encoding="utf-8")
    assert "goal 0.70 reached" in html
    assert "goal 0.99 not reached" in html


def test_quarantine_of_all_stages_is_merged(page: Path) -> None:
    html = (page / "summary.html").read_text(encoding="utf-8")
    assert "Quarantine: 2 refused" in html
    assert "8 voxels are NaN" in html


@pytest.mark.slow
def test_line_ends_in_a_fact_or_a_report_break_neither_a_reader_nor_a_row(
    run: SummaryInputs, params: Params, tmp_path: Path
) -> None:
    ends = "\n\r\v\f\x85\u2028\u2029"
    fact = "".join(f"{end}part {number}" for number, end in enumerate(ends))
    (tmp_path / "quarantine").mkdir()
    refusals = [Refusal(case, "a.nii.gz", "header", fact, "again") for case in ("one", "two")]
    write_quarantine(tmp_path / "quarantine/index.jsonl", refusals)
    said = [replace(p, report=p.report + fact) for p in load_predictions(run.predictions)]
    write_predictions(tmp_path / "predictions.jsonl", said)
    odd = replace(
        run, quarantine=tmp_path / "quarantine", predictions=tmp_path / "predictions.jsonl"
    )
    build_summary(params, odd, tmp_path)
    assert "Quarantine: 2 refused" in (tmp_path / "summary.html").read_text(encoding="utf-8")
    lines = (tmp_path / "summary.md").read_text(encoding="utf-8").splitlines()
    parts = " ".join(f"part {number}" for number in range(len(ends)))
    assert [line for line in lines if line.startswith("| index |")] == [
        f"| index | {case} | header |  {parts} |" for case in ("one", "two")
    ]


def test_figures_are_also_files(page: Path) -> None:
    names = ["f1_by_abnormality.png", "reliability.png", "slice.png", "training_curves.png"]
    assert sorted(path.name for path in (page / "figures").iterdir()) == names
    for path in (page / "figures").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(
    page: Path, run: SummaryInputs, params: Params, tmp_path: Path
) -> None:
    build_summary(params, run, tmp_path)
    for name in ("summary.html", "summary.md", "figures/slice.png"):
        assert (tmp_path / name).read_bytes() == (page / name).read_bytes()


@pytest.mark.slow
def test_generated_script_is_shown_as_text_and_never_runs(
    run: SummaryInputs, params: Params, tmp_path: Path
) -> None:
    attack = "<script>alert(1)</script><img src=x onerror=alert(2)> | [a](javascript:alert(3))"
    rows = [json.loads(line) for line in run.predictions.read_text(encoding="utf-8").splitlines()]
    lines = [json.dumps({**row, "report": attack + row["report"]}) for row in rows]
    predictions = tmp_path / "predictions.jsonl"
    predictions.write_text("\n".join(lines), encoding="utf-8")
    hostile = replace(run, predictions=predictions, facts={"branch": attack})
    build_summary(params, hostile, tmp_path)
    html = (tmp_path / "summary.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<script" not in html
    assert "onerror=alert(2)&gt;" in html
    markdown = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "<script" not in markdown
    assert "<img src=x" not in markdown
    assert "\\[a\\](javascript" in markdown


def test_missing_metrics_are_refused_by_name(
    run: SummaryInputs, params: Params, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"none\.json"):
        build_summary(params, replace(run, metrics=tmp_path / "none.json"), tmp_path)


@pytest.mark.slow
def test_a_labeller_that_marks_no_words_is_not_given_colours(
    run: SummaryInputs, params: Params, tmp_path: Path
) -> None:
    metrics = json.loads(run.metrics.read_text(encoding="utf-8"))
    metrics["protocol"]["labeller"] = "radbert"
    (tmp_path / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    judged = replace(run, metrics=tmp_path / "metrics.json", phrases=get_phrases("radbert"))
    build_summary(params, judged, tmp_path)
    html = (tmp_path / "summary.html").read_text(encoding="utf-8")
    assert "The labeller radbert judges a report as a whole" in html
    assert "<mark" not in html
    assert "Wavy lines" not in html
    assert 'class="legend"' not in html
    examples = (tmp_path / "summary.md").read_text(encoding="utf-8").split("## Reports beside")[1]
    claims = load_claims(run.claims)[1]
    for block in examples.split("## Masks")[0].split("### ")[1:]:
        case = claims[block.split(":")[0].replace("\\", "")]
        missed = set(case.labels) - set(case.claimed or ())
        said = block.split("Missed: ")[1].split(". Invented")[0]
        assert set(said.split(", ")) - {"\u2013"} == missed

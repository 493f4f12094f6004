"""What the page of a run on patients says is true: `evaluate` and `summarize` as stages."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline.evaluate import score
from pipeline.stage import execute
from pipeline.summarize import summarize
from tests.pipeline.real_run import Scan, write_real_run

HERNIA = "Findings: Sliding type hiatal hernia is observed. Impressions: Hiatal hernia."
CLEAR = "Findings: The lungs are clear. Impressions: Normal."
Pages = Callable[[str, Sequence[Scan]], "Page"]


class Page(HTMLParser):
    """The words of summary.html, the classes of its marks, and the two files as they are."""

    def __init__(self, reports: Path) -> None:
        super().__init__()
        self.html = (reports / "summary.html").read_text(encoding="utf-8")
        self.markdown = (reports / "summary.md").read_text(encoding="utf-8")
        self.metrics = json.loads((reports / "metrics.json").read_text(encoding="utf-8"))
        self.words = ""
        self.feed(re.sub(r"<style>.*?</style>", "", self.html, flags=re.DOTALL))
        self.words = " ".join(self.words.split())

    def handle_data(self, data: str) -> None:
        """Collect what a reader sees."""
        self.words += f" {data}"

    def marked(self) -> list[tuple[str, str]]:
        """List the coloured words with their abnormality."""
        found = re.findall(r'<mark [^>]*title="([^"]*)">([^<]*)</mark>', self.html)
        return [(words, name) for name, words in found]

    def examples(self) -> list[str]:
        """Return the words of each example."""
        return [part.split("## ")[0] for part in self.markdown.split("### test_")[1:]]


@pytest.fixture
def page_of(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pages:
    """Make the page of a profile and its test scans."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nowhere/mlflow.db")
    monkeypatch.chdir(tmp_path)
    shutil.copy(root / "dvc.yaml", tmp_path)
    (tmp_path / "data/generated").mkdir(parents=True)

    def make(profile: str, scans: Sequence[Scan]) -> Page:
        write_real_run(root, tmp_path, profile, scans)
        assert execute("evaluate", score) == 0
        assert execute("summarize", summarize, live=True) == 0
        return Page(tmp_path / "reports")

    return make


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["folder", "chest"])
def test_a_missed_hernia_is_missed_and_not_a_perfect_report(page_of: Pages, profile: str) -> None:
    page = page_of(profile, [Scan(HERNIA, ("Hiatal hernia",), "."), Scan(CLEAR, (), CLEAR)])
    assert "Missed: Hiatal hernia" in page.markdown
    assert "number 2 of 2 by agreement · F1 of this case 0.00" in page.words
    assert "number 1 of 2 by agreement · nothing to find and nothing claimed" in page.words
    assert page.marked() == [("hiatal hernia", "Hiatal hernia"), ("Hiatal hernia", "Hiatal hernia")]
    assert "phantom" not in page.words.lower()
    assert "labeller rules" in page.words


@pytest.mark.slow
def test_a_page_of_abdominal_reports_has_its_three_lesions_and_no_other(page_of: Pages) -> None:
    sick = "Findings: There is a hypodense lesion in the liver. Impressions: Liver lesion."
    kidney = "Findings: The kidney shows no lesion. Impressions: Normal."
    page = page_of(
        "abdomen", [Scan(sick, ("Liver lesion",), sick), Scan(kidney, ("Kidney lesion",), sick)]
    )
    assert page.metrics["classes"]["without_positives"] == ["Pancreatic lesion"]
    assert {name for _, name in page.marked()} == {"Liver lesion"}
    assert "Found: Liver lesion. Missed: \u2013. Invented: \u2013." in page.markdown
    assert "Missed: Kidney lesion. Invented: Liver lesion." in page.markdown
    assert "Labelled, but not read in the reference: Kidney lesion." in page.words
    assert "Emphysema" not in page.words
    assert "phantom" not in page.words.lower()


@pytest.mark.slow
def test_classes_without_a_test_scan_are_not_judged_and_bound_the_macro_values(
    page_of: Pages,
) -> None:
    page = page_of("chest", [Scan(HERNIA, ("Hiatal hernia",), HERNIA), Scan(CLEAR, (), CLEAR)])
    classes = page.metrics["classes"]
    assert (classes["n"], classes["n_positive"], classes["n_both"]) == (18, 1, 1)
    assert page.metrics["report"]["macro_f1"] == pytest.approx(1 / 18, abs=1e-6)  # and perfect
    assert page.metrics["oracle"]["macro_f1"] == pytest.approx(1 / 18, abs=1e-6)
    assert page.metrics["not_learned"] == []
    assert "17 of them have no positive test scan and count as 0" in page.words
    assert "can exceed 0.056 in F1" in page.words
    section = page.markdown.split("## What is not learned")[1].split("##")[0]
    assert "Not judged, for want of a positive test scan: Medical material, Arterial" in section
    assert "report F1" in section  # of the one class that is judged
    assert "✕" not in page.html


@pytest.mark.slow
def test_one_count_of_test_scans_stands_everywhere(page_of: Pages) -> None:
    twice = Scan(HERNIA, ("Hiatal hernia",), HERNIA, reconstructions=2)
    page = page_of("chest", [twice, Scan(CLEAR, (), CLEAR)])
    assert (page.metrics["n"], page.metrics["n_cts"]) == (2, 3)
    assert "2 scans of 2 patients (3 CTs: the first reconstruction of each" in page.words
    row = next(line for line in page.markdown.splitlines() if line.startswith("| Hiatal hernia |"))
    assert row.split("|")[2:5] == [" 0 ", " 0 ", " 1 "]  # of scans, as n=1 of the figure


@pytest.mark.slow
def test_masks_of_an_untrained_decoder_are_neither_shown_nor_scored(page_of: Pages) -> None:
    page = page_of("folder", [Scan(CLEAR, (), CLEAR)])
    assert "The segmentation decoder was not trained" in page.words
    for word in ("Dice", "Hausdorff", "lesion area"):
        assert word not in page.words, word
        assert word not in page.markdown, word
    assert "<img" in page.html  # other figures are there
    assert page.html.count("<img") == 2


@pytest.mark.slow
def test_a_single_patient_has_no_other_to_exchange_the_ct_with(page_of: Pages) -> None:
    page = page_of("folder", [Scan(CLEAR, (), CLEAR)])
    assert "1 scan of 1 patient" in page.words
    assert "the only test scan · nothing to find and nothing claimed" in page.words
    row = next(line for line in page.markdown.splitlines() if "reports that change with" in line)
    assert row.split("|")[2].strip() == "\u2013"


@pytest.mark.slow
def test_empty_reports_say_that_they_count_as_wrong(page_of: Pages) -> None:
    page = page_of("chest", [Scan(CLEAR, (), ""), Scan(HERNIA, ("Hiatal hernia",), None)])
    assert page.words.count("no report, which counts as wrong in every class") == 2
    assert page.words.count("(no report)") == 2
    assert "1 without a prediction, 1 with an empty report, each counted as" in page.words
    assert "othing to find" not in page.words


@pytest.mark.slow
def test_labels_that_the_labeller_made_itself_are_called_so(page_of: Pages) -> None:
    page = page_of("folder", [Scan(HERNIA, ("Hiatal hernia",), HERNIA)])
    assert "its own errors are hidden" in page.words
    assert "table of labels." not in page.words.replace("For want of a table of labels", "")


@pytest.mark.slow
def test_markup_in_a_report_is_text_where_its_words_are_coloured(page_of: Pages) -> None:
    attack = 'Findings: Nodule <script>alert(1)</script> emphysema "><img src=x onerror=alert(2)>.'
    page = page_of("chest", [Scan(CLEAR, (), attack)])
    assert "<script" not in page.html + page.markdown
    assert "<img src=x" not in page.html + page.markdown
    assert {name for _, name in page.marked()} == {"Lung nodule", "Emphysema"}

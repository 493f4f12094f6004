"""DVC's plots draw what the stages write, experiments over each other, without a network."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.profiles import read_document
from uvlm.pages.class_tables import write_tables

ROOT = Path(__file__).parents[2]
DOCUMENT = read_document(ROOT / "dvc.yaml")
DRAWN = {  # by title: template, x, table, y
    title: (spec["template"], spec["x"], *next(iter(spec["y"].items())))
    for entry in DOCUMENT["plots"]
    if isinstance(entry, dict)
    for title, spec in entry.items()
} | {
    spec["title"]: (spec["template"], spec["x"], path, spec["y"])
    for stage in DOCUMENT["stages"].values()
    for entry in stage.get("plots", [])
    for path, spec in entry.items()
}


def table(path: str) -> list[dict[str, Any]]:
    """The rows that DVC draws: of a JSON file, those of its last list."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines())) if path.endswith(".csv") else [
        *list(json.loads(text).values())[-1]
    ]  # fmt: skip


@pytest.mark.parametrize("title", DRAWN)
def test_every_plot_has_its_template_and_its_columns(title: str) -> None:
    template, x, path, y = DRAWN[title]
    rows = table(path)
    assert any(row[y] for row in rows)
    assert any(row[x] for row in rows)
    document = json.loads((ROOT / ".dvc/plots" / f"{template}.json").read_text())
    assert document["encoding"]["color"]["field"] == "rev"  # experiments over each other


def test_the_page_asks_for_nothing_from_a_network() -> None:
    page = (ROOT / ".dvc/offline/plots.html").read_text(encoding="utf-8")
    assert "{plot_divs}" in page
    assert "{scripts}" not in page  # DVC would put its addresses there
    assert all(word not in page for word in ("<link", "<script src", "cdn."))
    config = (ROOT / ".dvc/config").read_text(encoding="utf-8")
    assert "html_template = offline/plots.html" in config


def test_tables_of_classes_hold_the_numbers_of_the_evaluation(tmp_path: Path) -> None:
    rows = {
        "abnormalities": [
            {"name": "a", "f1": 0.5, "f1_ci": [0.25, 0.75], "not_learned": ["x", "y, z"]},
            {"name": 'b "c"', "f1": None, "side_n": 3},
        ],
        "structures": [],
    }
    (tmp_path / "per_class.json").write_text(json.dumps(rows))
    write_tables(tmp_path / "per_class.json", tmp_path)
    with (tmp_path / "abnormalities.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert found == [
        {"name": "a", "f1": "0.5", "f1_ci_low": "0.25", "f1_ci_high": "0.75",
         "not_learned": "x; y, z", "side_n": ""},
        {"name": 'b "c"', "f1": "", "f1_ci_low": "", "f1_ci_high": "", "not_learned": "",
         "side_n": "3"},
    ]  # fmt: skip
    assert (tmp_path / "structures.csv").read_text() == "name\n"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_without_a_network_draws_every_plot_of_two_versions(tmp_path: Path) -> None:
    for name in ("dvc.yaml", "params.yaml", "reports", ".dvc/config", ".dvc/plots", ".dvc/offline"):
        target = tmp_path / "ein Projekt" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, target)
    project = tmp_path / "ein Projekt"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], cwd=project, check=True)
    history = project / "reports/train_seg/history.csv"
    history.write_text(history.read_text().replace("\n20,", "\n21,"))
    command = [sys.executable, "-m", "dvc", "plots", "diff", "HEAD", "--out", "page"]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    browser += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=20000"]
    found = subprocess.run(
        [*browser, (project / "page/index.html").as_uri()],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert found.count('class="marks"') == len(DRAWN)
    drawn = (project / "page/index.html").read_text(encoding="utf-8")
    assert all(f'"rev": "{name}"' in drawn for name in ("HEAD", "workspace"))

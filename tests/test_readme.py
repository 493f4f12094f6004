"""Every command, parameter, path and link of the README exists."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.dvc_yaml import read_declarations
from pipeline.profiles import compose, flatten
from tests.test_config import PROFILES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_at_most_200_lines() -> None:
    assert README.count("\n") <= 200


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"run", "test"} <= named <= targets


@pytest.mark.slow
def test_every_uvlm_command_exists() -> None:
    commands = set(re.findall(r"(?:^    |`)uvlm ([a-z-]+(?: [a-z]+)?)", README, re.MULTILINE))
    assert commands
    for command in commands:
        result = CliRunner().invoke(app, [*command.split(), "--help"])
        assert result.exit_code == 0, command


def test_every_overridden_parameter_exists() -> None:
    keys = set(flatten(compose(ROOT, "phantom"))) | {"profile"}
    assert set(re.findall(r"-S ([\w.]+)=", README)) <= keys


def test_every_profile_and_stage_is_named() -> None:
    for name in PROFILES:
        assert f"`{name}`" in README
    for stage in read_declarations(ROOT).values():
        assert stage.script in README


def test_every_local_link_leads_to_a_file() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_file_tree_is_the_real_one() -> None:
    tree = README.partition("## File tree")[2].partition("\n## ")[0]
    paths = [line.split()[0] for line in re.findall(r"^    (\S.*)$", tree, re.MULTILINE)]
    assert {"conf/", "pipeline/", "tests/"} <= {f"{path.split('/')[0]}/" for path in paths}
    assert any(path.startswith("uvlm/") for path in paths)
    missing = [path for path in paths if not list(ROOT.glob(path.rstrip("/")))]
    assert missing == []


def test_the_tree_shows_every_room_where_it_is() -> None:
    tree = README.partition("## File tree")[2].partition("\n## ")[0]
    folders: list[str] = []
    shown = set()
    for indent, name in re.findall(r"^    ( *)(\S+/)  ", tree, re.MULTILINE):
        folders[len(indent) // 2 :] = [name]
        shown.add("".join(folders).rstrip("/"))
    assert {path for path in shown if not (ROOT / path).is_dir()} == set()
    for parent in ("uvlm", "uvlm/data", "uvlm/train", "pipeline"):
        rooms = {f.parent for f in (ROOT / parent).glob("*/__init__.py")}
        assert {str(room.relative_to(ROOT)) for room in rooms} <= shown


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ("report macro-F1", ("report.macro_f1", "baselines.classifier_sentences.macro_f1")),
        ("the same, findings or impression", ("report.either_part.macro_f1",)),
        ("side right, of 406 true positives", ("report.side.right", "report.side.commonest")),
        ("lobe right, of 365", ("report.lobe.right", "report.lobe.commonest")),
        ("report BLEU-mean", ("report.bleu_mean", "baselines.constant_normal.bleu_mean")),
        ("classifier macro-AUROC", ("cls.macro_auroc",)),
        ("Dice, anatomy / lesions", ("seg.dice", "seg.lesion_dice")),
        ("reference reports through the labeller", ("oracle.macro_f1",)),
    ],
)
def test_the_numbers_are_those_of_the_committed_run(row: str, names: tuple[str, ...]) -> None:
    """Not those of a run on this machine, whose last digits may differ."""
    shown = subprocess.run(
        ["git", "show", "HEAD:reports/metrics.json"], cwd=ROOT, capture_output=True, check=False
    )
    if shown.returncode:
        pytest.skip("not a git checkout")
    metrics = json.loads(shown.stdout)
    (line,) = [line for line in README.splitlines() if line.startswith(f"| {row} |")]
    for name in names:
        value = metrics
        for key in name.split("."):
            value = value[key]
        assert f"{value:.3f}" in line, (name, value)


def test_masks_score_alike_on_the_networks_grid_and_on_the_cts() -> None:
    seg = json.loads((ROOT / "reports" / "metrics.json").read_text(encoding="utf-8"))["seg"]
    for name in ("dice", "lesion_dice"):
        assert abs(seg[name] - seg["native"][name]) < 0.01


def test_the_python_of_the_readme_uses_public_names_only() -> None:
    import uvlm

    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                assert node.module == "uvlm"
                assert {alias.name for alias in node.names} <= set(uvlm.__all__)


@pytest.mark.parametrize("sentence", ["not a medical device", "Apache-2.0"])
def test_the_readme_says_what_must_be_said(sentence: str) -> None:
    assert sentence.lower() in README.lower()

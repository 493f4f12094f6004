"""The files by which people help themselves say what is so."""

from __future__ import annotations

import re
import subprocess
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.dvc_yaml import read_declarations

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGES = ("CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def read_yaml(name: str) -> Any:
    return YAML(typ="safe").load(read(name))


def releases() -> list[str]:
    """Headings of the changelog, newest first."""
    return re.findall(r"^## (.*)$", read("CHANGELOG.md"), re.MULTILINE)


def test_every_hook_is_local_and_a_tool_that_the_project_installs() -> None:
    (repo,) = read_yaml(".pre-commit-config.yaml")["repos"]
    assert repo["repo"] == "local"
    hooks = {hook["id"]: hook for hook in repo["hooks"]}
    assert set(hooks) == {"ruff-check", "ruff-format", "params"}
    for hook in hooks.values():
        assert hook["language"] == "system"
        assert {"name", "entry"} <= set(hook)
        assert hook["entry"].split()[0] in ("ruff", "python")
    assert "pre-commit" not in " ".join(PROJECT["dependencies"])


def test_the_hook_of_parameters_runs_when_they_or_their_types_change() -> None:
    (hook,) = [h for h in read_yaml(".pre-commit-config.yaml")["repos"][0]["hooks"] if "files" in h]
    changed = re.compile(hook["files"])
    for path in ("params.yaml", "conf/config.yaml", "conf/profile/chest.yaml"):
        assert (ROOT / path).exists()
        assert changed.search(path)
    assert not changed.search("uvlm/model/unet.py")
    command = hook["entry"].removeprefix("python -m pipeline.cli ").split()
    assert CliRunner().invoke(app, [*command, "--help"]).exit_code == 0


@pytest.mark.parametrize("command", ["ruff check .", "ruff format --check ."])
def test_hooks_and_make_check_use_the_same_tool(command: str) -> None:
    entries = [h["entry"] for h in read_yaml(".pre-commit-config.yaml")["repos"][0]["hooks"]]
    assert f"\t{command}\n" in read("Makefile")
    assert any(entry.startswith(" ".join(command.split()[:2])) for entry in entries)


def test_the_newest_release_of_the_changelog_is_the_version_of_the_package() -> None:
    unreleased, *released = releases()
    assert unreleased == "[Unreleased]"
    versions = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\S+)", heading) for heading in released]
    assert all(versions)
    numbers = [tuple(map(int, found[1].split("."))) for found in versions if found]
    days = [date.fromisoformat(found[2]) for found in versions if found]
    assert numbers == sorted(numbers, reverse=True)
    assert days == sorted(days, reverse=True)
    assert ".".join(map(str, numbers[0])) == PROJECT["version"]


def test_every_kind_of_change_is_one_that_readers_know() -> None:
    kinds = set(re.findall(r"^### (.*)$", read("CHANGELOG.md"), re.MULTILINE))
    known = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert {kind for kind in kinds - known if not kind.startswith("Coming from ")} == set()


def test_the_citation_names_this_version_and_the_paper() -> None:
    citation = read_yaml("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "type", "version", "license"} <= set(citation)
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert f"[{citation['version']}] - {citation['date-released']}" in releases()
    (paper,) = citation["references"]
    assert {"type", "title", "authors"} <= set(paper)
    number = paper["identifiers"][0]["value"].removeprefix("arXiv:")
    assert paper["url"] == f"https://arxiv.org/abs/{number}"
    assert paper["url"] in read("README.md")
    assert f"{paper['title']}* (arXiv {number})" in read("docs/faithfulness.md")
    assert all({"family-names", "given-names"} == set(author) for author in paper["authors"])


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_exists(page: str) -> None:
    text = read(page)
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    code = re.findall(r"`((?:tests|docs|pipeline|conf|reports)/[\w./-]*)`", text)
    assert [path for path in [*links, *code] if not (ROOT / path).exists()] == []


def test_every_promise_of_security_names_a_test_that_pytest_collects() -> None:
    table = [line for line in read("SECURITY.md").splitlines() if line.startswith("| ")][1:]
    assert len(table) >= 8
    for line in table:
        tests = re.findall(r"`(tests/[\w/]+\.py)`", line.split("|")[2])
        assert tests, line
        assert all("def test_" in read(test) for test in tests), line


def test_security_invents_no_address() -> None:
    assert not re.search(r"\S+@\S+|https?://", read("SECURITY.md"))


def test_what_is_made_from_patients_is_out_of_gits_reach() -> None:
    outs = [out for stage in read_declarations(ROOT).values() for out in stage.outs]
    made = [out for out in outs if out.startswith("data/") and not out.startswith("data/code/")]
    paths = [*made, *(f"data/{folder}/a" for folder in ("store", "draft", "smoke"))]
    paths += [".uvlm/runs/a", "mlflow.db", "mlruns/a"]
    command = ["git", "check-ignore", "--no-index", *paths]
    ignored = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ignored.returncode == 128:
        pytest.skip("not a git checkout")
    assert set(ignored.stdout.split()) == set(paths)

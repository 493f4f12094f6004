from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from tests.test_config import PROFILES
from uvlm.errors import ConfigError, DataError, Interrupted, SetupError

HEAVY = ("torch", "monai", "lightning_fabric", "mlflow", "numpy", "pydantic", "hydra", "rich")


def uvlm_command(*arguments: str, cwd: Path, root: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(root)}
    environment.pop("DVC_ROOT", None)
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path, root: Path) -> Path:
    """A folder with conf/ and nothing else."""
    for path in (root / "conf").rglob("*.yaml"):
        copied = tmp_path / path.relative_to(root)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.parametrize("module", ["uvlm", "uvlm.cli", "pipeline.cli"])
def test_importing_the_command_imports_nothing_heavy(module: str, root: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {module}"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert module in imported
    assert imported.isdisjoint(HEAVY)


@pytest.mark.slow
def test_help_takes_less_than_300_milliseconds(tmp_path: Path, root: Path) -> None:
    seconds = []  # of the processor, so that a busy machine adds little
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = uvlm_command("--help", cwd=tmp_path, root=root)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        assert result.returncode == 0
        assert "predict" in result.stdout
    assert min(seconds) < 0.3, seconds


@pytest.mark.parametrize("group", [[], ["store"], ["runs"]])
def test_help_describes_every_command_in_a_whole_sentence(group: list[str]) -> None:
    shown = CliRunner().invoke(app, [*group, "--help"]).stdout
    _, _, commands = shown.partition("\nCommands:\n")
    sentences = re.split(r"\n  (?=\S)", commands.partition("\n\n")[0])
    assert len(sentences) >= 1 + (not group) * 10
    for sentence in sentences:
        assert sentence.rstrip().endswith("."), sentence
        assert "..." not in sentence
    assert max(map(len, shown.splitlines())) <= 80
    if not group:
        codes = {
            str(error.exit_code) for error in (ConfigError, DataError, SetupError, Interrupted)
        }
        assert codes | {"0", "70"} <= set(re.findall(r"\d+", shown.partition("Exit codes:")[2]))


def test_the_version_is_that_of_the_package() -> None:
    shown = CliRunner().invoke(app, ["--version"])
    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert (shown.exit_code, shown.stdout) == (0, f"uvlm {declared['project']['version']}\n")


@pytest.mark.parametrize(
    "arguments", [["predictt"], ["use"], ["use", "chest", "--fast"], ["predict", "a.nii.gz"]]
)
def test_a_usage_error_exits_with_2(arguments: list[str], tmp_path: Path, root: Path) -> None:
    result = uvlm_command(*arguments, cwd=tmp_path, root=root)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_use_composes_a_profile_and_params_checks_it(project: Path, root: Path) -> None:
    used = uvlm_command("use", "chest", cwd=project, root=root)
    assert (used.returncode, used.stderr) == (0, "")
    assert "chest" in used.stdout
    assert uvlm_command("params", "--check", cwd=project, root=root).returncode == 0
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("seed: 0", "seed: 7"))
    drifted = uvlm_command("params", "--check", cwd=project, root=root)
    assert drifted.returncode == 2
    assert drifted.stderr == ("params.yaml: seed: params.yaml has 7, conf/ 0; run `uvlm params`\n")
    assert uvlm_command("params", cwd=project, root=root).returncode == 0
    assert uvlm_command("params", "--check", cwd=project, root=root).returncode == 0


def test_an_unknown_profile_is_one_line_and_2(project: Path, root: Path) -> None:
    result = uvlm_command("use", "head", cwd=project, root=root)
    assert result.returncode == 2
    assert result.stderr == (f"profile head: no such profile; choose {', '.join(PROFILES)}\n")


@pytest.mark.slow
def test_a_mistyped_parameter_names_the_nearest_key(project: Path, root: Path) -> None:
    uvlm_command("params", cwd=project, root=root)
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("  grid:", "  gird:"))
    result = uvlm_command("params", "--check", cwd=project, root=root)
    assert result.returncode == 2
    assert "nearest valid key is preprocess.grid" in result.stderr


@pytest.mark.slow
def test_outside_a_project_a_command_says_so(tmp_path: Path, root: Path) -> None:
    result = uvlm_command("params", cwd=tmp_path, root=root)
    assert result.returncode == 2
    assert "run this in the project's folder" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_info_as_json_tells_versions_and_places(project: Path, root: Path) -> None:
    result = uvlm_command("info", "--json", cwd=project, root=root)
    facts = json.loads(result.stdout)
    assert facts["profile"] == "no params.yaml here"
    assert Path(facts["store"]) == project / "data" / "store"
    assert facts["device"] == "cpu"


@pytest.mark.slow
def test_info_describes_the_model_of_the_paper(project: Path, root: Path) -> None:
    uvlm_command("use", "chest", cwd=project, root=root)
    facts = json.loads(uvlm_command("info", "--json", cwd=project, root=root).stdout)
    assert facts["visual tokens K"] == "384"
    assert facts["injection"] == "f6->L1 f5->L2 f4->L3 f3->L4 f2->L5 f1->L6"


@pytest.mark.slow
def test_info_counts_the_weights_of_a_profile_that_is_not_in_use(project: Path, root: Path) -> None:
    result = uvlm_command("info", "--profile", "chest", "--json", cwd=project, root=root)
    facts = json.loads(result.stdout)
    millions = {name: round(int(facts[name]) / 1e6, 1) for name in (
        "encoder parameters", "unet parameters", "with Qwen3's vocabulary"
    )}  # fmt: skip
    assert list(millions.values()) == [90.3, 102.4, 102.9]
    assert facts["visual tokens K"] == "384"
    assert not (project / "params.yaml").exists()
    unknown = uvlm_command("info", "--profile", "head", cwd=project, root=root)
    assert unknown.returncode == 2
    assert f"choose {', '.join(PROFILES)}" in unknown.stderr


@pytest.mark.slow
def test_an_empty_store_is_intact_and_has_nothing_to_collect(project: Path, root: Path) -> None:
    verified = uvlm_command("store", "verify", cwd=project, root=root)
    assert (verified.returncode, verified.stdout) == (0, "intact\n")
    collected = uvlm_command("store", "gc", cwd=project, root=root)
    assert collected.returncode == 0
    assert collected.stdout.splitlines()[-1] == "0 files are not named by a manifest"


def test_reaping_without_runs_finds_none(project: Path, root: Path) -> None:
    result = uvlm_command("runs", "reap", cwd=project, root=root)
    assert (result.returncode, result.stdout) == (0, "0 dead runs marked as KILLED\n")

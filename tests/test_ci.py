"""What the CI files, the Dockerfile and the scripts of .ci/ name exists; both CI files agree."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
GITHUB, GITLAB = ROOT / ".github/workflows/ci.yml", ROOT / ".gitlab-ci.yml"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def read(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)


def ours(lines: list[str]) -> set[str]:
    """The commands of this project among shell lines, without arguments."""
    found = (re.match(r"make [\w-]+|\.ci/[\w-]+", line) for line in lines)
    return {match.group() for match in found if match}


def github_jobs() -> dict[str, set[str]]:
    jobs = read(GITHUB)["jobs"]
    return {name: ours([s.get("run", "") for s in job["steps"]]) for name, job in jobs.items()}


def gitlab_jobs() -> dict[str, set[str]]:
    return {n: ours(job["script"]) for n, job in read(GITLAB).items() if "script" in job}


def test_both_run_the_same_commands_in_jobs_of_the_same_names() -> None:
    assert github_jobs() == gitlab_jobs()
    assert github_jobs().keys() == {"check", "smoke", "library", "comment", "all"}


def test_every_command_exists_and_can_be_run() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in set().union(*github_jobs().values()):
        script = ROOT / command
        is_target = command.startswith("make ") and command[5:] in targets
        assert is_target or os.access(script, os.X_OK), command


def test_only_the_job_that_comments_may_write_and_no_fork_reaches_it() -> None:
    document = read(GITHUB)
    writers = {n for n, job in document["jobs"].items() if "write" in str(job.get("permissions"))}
    assert document["permissions"] == {"contents": "read"}
    assert writers == {"comment"}
    assert "head.repo.full_name == github.repository" in document["jobs"]["comment"]["if"]
    # What a stranger can word, such as a branch's name, never gets into a shell line.
    for job in document["jobs"].values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")


def test_caches_go_with_what_is_installed() -> None:
    text = GITHUB.read_text()
    assert text.count("hashFiles('constraints.txt', 'pyproject.toml')") == text.count("path: .venv")
    for job in (job for job in read(GITLAB).values() if "cache" in job):
        assert job["cache"]["key"]["files"] == ["constraints.txt", "pyproject.toml"]


def test_the_image_installs_dependencies_before_any_code() -> None:
    steps = [
        line.split()[0:2] for line in DOCKERFILE.split("\n") if line.startswith(("COPY", "RUN"))
    ]
    installs = DOCKERFILE.index('".[${EXTRAS}]"')
    assert installs < DOCKERFILE.index("COPY uvlm") < DOCKERFILE.index("COPY pipeline")
    assert ["COPY", "constraints.txt"] in steps


def test_the_image_has_no_tools_of_tests_and_only_extras_that_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(project["optional-dependencies"])
    named = re.findall(r"EXTRAS=([\w,]+)", DOCKERFILE)
    assert named
    assert {extra for text in named for extra in text.split(",")} <= extras - {"test"}


def test_no_digest_of_a_base_is_invented() -> None:
    for line in re.findall(r"^FROM (\S+)|^ARG BASE=(\S+)", DOCKERFILE, re.MULTILINE):
        assert "@" not in "".join(line)


def bare_debian() -> ModuleType:
    """The script as a module; importing it would leave a file beside it."""
    path, module = ROOT / ".ci/bare-debian", ModuleType("bare_debian")
    module.__file__ = str(path)
    exec(compile(path.read_text(encoding="utf-8"), path, "exec"), module.__dict__)
    return module


def test_the_steps_in_a_bare_root_are_those_of_the_dockerfile(tmp_path: Path) -> None:
    """Docker's own rules, on a small file: continuations, comments, ARG, ENV, and a later USER."""
    script = bare_debian()
    text = (
        "FROM a\n# no\nARG X=1\nENV P=/new:$PATH \\\n    Q=2\nRUN --mount=type=cache,target=/c \\\n"
    )
    text += "    # not this\n    echo a \\\n    && echo b\nWORKDIR /w\nUSER 7:8\n"
    text += "COPY --from=build /a /b\n"
    found = script.instructions(text)
    assert [name for name, _ in found] == ["FROM", "ARG", "ENV", "RUN", "WORKDIR", "USER", "COPY"]
    ran: list[str] = []
    root = script.Root(tmp_path, {"X": "chosen"})
    root.run = ran.append
    for name, rest in found:
        root.execute(name, rest)
    assert ran == ["echo a && echo b"]
    assert (root.variables["X"], root.variables["Q"]) == ("chosen", "2")
    assert root.variables["P"] == f"/new:{root.variables['PATH']}"
    assert (root.where, root.user, (tmp_path / "w").is_dir()) == ("/w", "7:8", True)


@pytest.mark.slow
def test_the_comment_shows_the_numbers_of_both_commits(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"}

    def call(*command: str) -> str:
        done = subprocess.run(
            command,
            cwd=project,
            env=kept | {"PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    stage = {"cmd": "true", "params": ["seed"], "metrics": [{"m.json": {"cache": False}}]}
    stage["plots"] = [{"h.csv": {"cache": False, "x": "step", "y": "loss"}}]
    call("git", "init", "-q")
    call("git", "config", "user.email", "a@b.c")
    call("git", "config", "user.name", "A")
    call("dvc", "init", "-q")
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": stage}}))
    for f1, seed in ((0.25, 1), (0.75, 2)):
        many = {f"class_{number:02d}": f1 for number in range(50)}
        (project / "m.json").write_text(json.dumps({"a_f1": f1} | many))
        (project / "params.yaml").write_text(f"seed: {seed}\n")
        (project / "h.csv").write_text(f"step,loss\n1,{f1}\n2,{f1}\n")
        call("git", "add", ".")
        call("git", "commit", "-qm", str(f1))
    call(str(ROOT / ".ci/comment"), call("git", "rev-parse", "HEAD~1").strip(), "out")
    page = (project / "out/comment.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.split("\n")]
    assert ["m.json", "a_f1", "0.25", "0.75", "0.5"] in rows
    assert ["params.yaml", "seed", "1", "2"] in rows
    assert "11 more rows are in metrics.md." in page
    assert (project / "out/metrics.md").read_text().count("0.75") == 51
    assert (project / "out/plots/index.html").stat().st_size > 500
    call(str(ROOT / ".ci/comment"), "HEAD", "same")
    assert (project / "same/comment.md").read_text().count("Nothing differs.") == 2

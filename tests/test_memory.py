"""How much memory a process may have, on computers made of a few files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from uvlm.errors import ConfigError
from uvlm.memory import usable_memory

GIB = 2**30
PAGE = os.sysconf("SC_PAGE_SIZE")
RESIDENT = 1000 * PAGE


@pytest.fixture
def computer(tmp_path: Path) -> Path:
    """16 GiB free, a process with 1,000 resident pages, and no control group."""
    write(
        tmp_path / "proc/meminfo",
        f"MemTotal: {32 * GIB // 1024} kB\nMemAvailable: {16 * GIB // 1024} kB\n",
    )
    write(tmp_path / "proc/self/statm", "5000 1000 200 10 0 300 0\n")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def group(folder: Path, limit: object, usage: int, cached: int, version: int = 2) -> None:
    names = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    write(folder / names[0], f"{limit}\n")
    write(folder / names[1], f"{usage}\n")
    write(folder / "memory.stat", f"anon 5\n{names[2]} {cached}\n")


def test_without_a_limit_it_is_what_is_free_and_what_the_process_has(computer: Path) -> None:
    assert usable_memory(computer).num_bytes == 16 * GIB + RESIDENT


def test_a_group_leaves_its_limit_without_what_others_hold(computer: Path) -> None:
    write(computer / "proc/self/cgroup", "0::/user/job\n")
    group(computer / "sys/fs/cgroup/user/job", 8 * GIB, 3 * GIB, cached=1 * GIB)
    found = usable_memory(computer)
    assert found.num_bytes == 6 * GIB + RESIDENT
    assert "control group" in found.said_by


def test_the_tightest_of_nested_groups_counts(computer: Path) -> None:
    write(computer / "proc/self/cgroup", "0::/a/b\n")
    group(computer / "sys/fs/cgroup/a/b", "max", GIB, cached=0)
    group(computer / "sys/fs/cgroup/a", 2 * GIB, GIB, cached=0)
    assert usable_memory(computer).num_bytes == GIB + RESIDENT


def test_version_1_groups_count_too(computer: Path) -> None:
    write(computer / "proc/self/cgroup", "5:cpu,cpuacct:/\n4:memory:/job\n")
    group(computer / "sys/fs/cgroup/memory/job", 4 * GIB, GIB, cached=0, version=1)
    assert usable_memory(computer).num_bytes == 3 * GIB + RESIDENT


def test_no_limit_of_version_1_is_a_huge_number(computer: Path) -> None:
    write(computer / "proc/self/cgroup", "4:memory:/\n")
    group(computer / "sys/fs/cgroup/memory", 2**63 - 4096, GIB, cached=0, version=1)
    assert usable_memory(computer).num_bytes == 16 * GIB + RESIDENT


def test_in_a_container_the_limit_is_at_the_top(computer: Path) -> None:
    write(computer / "proc/self/cgroup", "4:memory:/docker/1234\n")  # the path outside
    group(computer / "sys/fs/cgroup/memory", 2 * GIB, GIB, cached=0, version=1)
    assert usable_memory(computer).num_bytes == GIB + RESIDENT


@pytest.mark.parametrize(("text", "expected"), [("8GB", 8 * 10**9), ("1.5 GiB", 3 * GIB // 2)])
def test_the_user_has_the_last_word(
    computer: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: int
) -> None:
    monkeypatch.setenv("UVLM_MEMORY", text)
    assert usable_memory(computer).num_bytes == expected


@pytest.mark.parametrize("text", ["8", "lots", "8GB or so", "-1GB"])
def test_a_size_without_a_unit_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("UVLM_MEMORY", text)
    with pytest.raises(ConfigError, match="use a size such as 8GB"):
        usable_memory()


def test_ulimit_counts(root: Path) -> None:
    code = (
        "import resource; from uvlm.memory import usable_memory as u; G = 2**30\n"
        "resource.setrlimit(resource.RLIMIT_AS, (G, G)); print(u().num_bytes / G, u().said_by)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    gib, _, source = done.stdout.strip().partition(" ")
    assert 0.5 < float(gib) < 1
    assert source == "limit of this process (ulimit -v)"

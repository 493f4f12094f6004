"""Every environment variable: its default, what it accepts, and that one module reads it."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from uvlm import environment, store
from uvlm.device import set_threads
from uvlm.environment import TABLE, allowed_cores
from uvlm.errors import ConfigError, SetupError
from uvlm.processes import place
from uvlm.read_ahead import num_loaders
from uvlm.variable import Variable

ROOT = Path(__file__).parents[1]
DEFAULTS = {  # those that are not None
    "UVLM_DEVICE": "auto",
    "UVLM_DEVICES": 1,
    "UVLM_DOWNLOADS": 4,
    "UVLM_STRATEGY": "ddp",
    "UVLM_KEEP_MEMORY": True,
    "UVLM_TUNING": frozenset(),
    "UVLM_EXECUTOR": "loky",
    "UVLM_LLM_PRICES": (0.0, 0.0),
    "HF_ENDPOINT": "https://huggingface.co",
    "SLURM_STEP_NUM_TASKS": 1,
}
COUNTS = (
    *("UVLM_WORKERS", "UVLM_DEVICES", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    *("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS_PER_NODE", "SLURM_CPUS_PER_TASK"),
    *("UVLM_THREADS", "UVLM_DOWNLOADS"),
)
NUMBERS = ("RANK", "SLURM_PROCID", "UVLM_LOADERS")
FOLDERS = (
    *("UVLM_DATA_ROOT", "UVLM_OWN_DATA", "UVLM_VESSEL_MASKS", "UVLM_REAL_DATA", "UVLM_QWEN3"),
    *("UVLM_INITIAL_WEIGHTS", "UVLM_RADBERT_WEIGHTS", "TOTALSEG_WEIGHTS_PATH"),
    "TOTALSEG_HOME_DIR",
)
URLS = ("UVLM_LLM_URL", "HF_ENDPOINT")
WORDS = (
    *("RAY_ADDRESS", "UVLM_SALT", "UVLM_LLM_MODEL", "UVLM_LLM_KEY", "HF_TOKEN", "HF_HUB_OFFLINE"),
    *("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "TORCHELASTIC_RUN_ID"),
)
GOOD: list[tuple[str, str, Any]] = [
    *(("UVLM_DEVICE", text, text) for text in ("auto", "cpu", "cuda", "cuda:0", "cuda:12", "mps")),
    *(("UVLM_PRECISION", text, text) for text in ("32-true", "bf16-mixed")),
    *(("UVLM_STRATEGY", text, text) for text in ("ddp", "fsdp2")),
    *(("UVLM_KEEP_MEMORY", text, value) for text, value in (("yes", True), ("no", False))),
    ("UVLM_TUNING", "cudnn", frozenset({"cudnn"})),
    ("UVLM_TUNING", "norms,compile,cudnn", frozenset({"cudnn", "compile", "norms"})),
    *(("UVLM_EXECUTOR", text, text) for text in ("loky", "ray", "dask://a:1", "dask://[::1]:86")),
    *((name, text, int(text)) for name in COUNTS for text in ("1", "64")),
    *((name, text, int(text)) for name in NUMBERS for text in ("0", "7")),
    *((name, str(ROOT), ROOT) for name in (*FOLDERS, "DVC_ROOT")),
    *((name, "/not/yet/there", Path("/not/yet/there")) for name in FOLDERS),
    ("UVLM_ATM22_WEIGHTS", "weight.pth", Path("weight.pth")),
    *((name, "a b", "a b") for name in WORDS),
    ("UVLM_LLM_PRICES", "1,2.5", (1.0, 2.5)),
    ("UVLM_MEMORY", "8GB", 8 * 10**9),
    ("UVLM_MEMORY", "1.5 GiB", 3 * 2**29),
    *((name, "http://[::1]:80/v1", "http://[::1]:80/v1") for name in URLS),
]  # fmt: skip
WRONG = [
    *(("UVLM_DEVICE", text) for text in ("gpu", "cuda:", "cuda:-1", "cpu:0", "CUDA", "cpu\n")),
    *(("UVLM_PRECISION", text) for text in ("bf16", "16", "32-true ", "BF16-MIXED")),
    *(("UVLM_STRATEGY", text) for text in ("fsdp", "ddp,fsdp2")),
    *(("UVLM_KEEP_MEMORY", text) for text in ("1", "Yes", "no ")),
    *(("UVLM_TUNING", text) for text in ("all", "cudnn,", "cudnn compile", "norms,fast")),
    *(("UVLM_EXECUTOR", text) for text in ("dask", "dask://host", "dusk://a:1", "slurm")),
    *((name, text) for name in COUNTS for text in ("two", "0", "00", "-1", "1.5", "²", "1 ")),
    *((name, "9" * 5000) for name in COUNTS),  # Python itself refuses to parse so many digits
    *((name, text) for name in NUMBERS for text in ("first", "-1", "0.0")),
    *((name, str(Path(__file__))) for name in FOLDERS),
    *(("UVLM_LLM_PRICES", text) for text in ("cheap", "1", "1,2,3", "-1,2", "nan,1", "1.2.3,4")),
    *(("UVLM_MEMORY", text) for text in ("8", "8 G", "-1GB", "GB", "lots", f"{'9' * 5000}GB")),
    *((name, text) for name in URLS
      for text in ("localhost:8000", "file:///etc/passwd", "http://", "http:///v1", "https://a b")),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in TABLE:
        monkeypatch.delenv(variable.name, raising=False)


def of_name(name: str) -> Variable[Any]:
    (found,) = [variable for variable in TABLE if variable.name == name]
    return found


@pytest.mark.parametrize("text", [None, ""])
def test_what_is_not_set_or_empty_has_its_default(
    text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in TABLE:
        if text is not None:
            monkeypatch.setenv(variable.name, text)
        assert variable.read() == DEFAULTS.get(variable.name), variable.name
        assert variable.shown() == (variable.default_text, "default")


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_a_good_value_is_parsed(
    name: str, text: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, text)
    found = of_name(name).read()
    assert (found, type(found)) == (value, type(value))
    assert of_name(name).shown()[1] == "set"


@pytest.mark.parametrize(("name", "text"), WRONG)
def test_a_wrong_value_is_one_line_that_says_what_is_accepted(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = of_name(name)
    monkeypatch.setenv(name, text)
    with pytest.raises(ConfigError) as caught:
        variable.read()
    line = str(caught.value)
    assert line.startswith(f"{name}: is '{text.strip()}")
    assert line.endswith(f"; use {variable.kind.accepts}")
    assert len(line.splitlines()) == 1
    assert caught.value.exit_code == 2
    assert variable.shown()[1] == "wrong"


def test_every_variable_has_good_values_here_and_every_one_that_can_be_wrong_has_those() -> None:
    names = [variable.name for variable in TABLE]
    assert len(names) == len(set(names))
    assert {name for name, _, _ in GOOD} == set(names)
    can_be_wrong = {v.name for v in TABLE if not v.kind.accepts.startswith(("any text", "a path"))}
    assert {name for name, _ in WRONG} == can_be_wrong


def test_a_login_in_an_address_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "ftp://me:pass@word@mirror/x")
    with pytest.raises(ConfigError, match=r"is 'ftp://\*\*\*@mirror/x'"):
        environment.HF_ENDPOINT.read()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:password@runs.example/u@v")
    assert environment.TRACKING_URI.shown() == ("https://***@runs.example/u@v", "set")


READERS: dict[str, Callable[[], object]] = {
    "UVLM_WORKERS": lambda: store.map_cases(abs, range(9)),
    "UVLM_THREADS": set_threads,
    "UVLM_LOADERS": lambda: num_loaders("cuda"),
}  # UVLM_DOWNLOADS: tests/data/sets/hub


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_each_variable_of_numbers_means_one_thing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    monkeypatch.setenv(name, "two")
    with pytest.raises(ConfigError, match=f"{name}: is 'two'; use a whole number from "):
        READERS[name]()
    for other in READERS.keys() - {name}:
        READERS[other]()  # does not read it


# Cores allowed, what the launcher says, and the share of one process, worked out by hand.
SHARES: list[tuple[int, dict[str, str], int]] = [
    (3, {}, 3),
    (12, {"SLURM_CPUS_PER_TASK": "4"}, 4),  # a batch script: SLURM pins nothing here
    (2, {"SLURM_CPUS_PER_TASK": "4"}, 2),
    (12, {"RANK": "1", "WORLD_SIZE": "4"}, 3),
    (12, {"RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "2"}, 6),
    (12, {"RANK": "0", "WORLD_SIZE": "2", "SLURM_CPUS_PER_TASK": "8"}, 4),  # torchrun in a script
    (3, {"RANK": "0", "WORLD_SIZE": "100"}, 1),
    (12, {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS_PER_NODE": "4"}, 3),
    (12, {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS_PER_NODE": "4",
          "SLURM_CPUS_PER_TASK": "3"}, 3),
    (3, {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS_PER_NODE": "4",
         "SLURM_CPUS_PER_TASK": "3"}, 3),  # pinned: what the task has is its own
]  # fmt: skip


@pytest.mark.parametrize(("cores", "variables", "share"), SHARES)
def test_threads_and_loaders_default_to_the_cores_of_this_process(
    cores: int, variables: dict[str, str], share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    set_threads()
    assert threads == [share]
    assert num_loaders("cuda") == share
    assert num_loaders("cpu") == 0  # its cores are busy computing


def test_a_large_computer_starts_no_more_loaders_than_its_memory_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(128)), raising=False)
    assert num_loaders("cuda") == 16
    monkeypatch.setenv("UVLM_LOADERS", "40")
    assert num_loaders("cuda") == num_loaders("cpu") == 40
    monkeypatch.setenv("UVLM_LOADERS", "0")
    assert num_loaders("cuda") == 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process")
def test_a_pinned_process_counts_one_core() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert allowed_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(("name", "text"), [("RANK", "first"), ("WORLD_SIZE", "0")])
def test_a_wrong_place_among_processes_is_refused(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(name, text)
    with pytest.raises(ConfigError, match=f"{name}: is '{text}'"):
        place()


def sources() -> list[Path]:
    folders = ("uvlm", "pipeline", "benchmarks")
    return [path for folder in folders for path in (ROOT / folder).rglob("*.py")]


def reads_the_environment(tree: ast.Module) -> bool:
    """Setting a variable for other packages is no reading: a bare call of setdefault or update."""
    names = {"environ", "environb", "getenv", "getenvb"}
    calls = [n.value for n in ast.walk(tree) if isinstance(n, ast.Expr)]
    called = [call.func for call in calls if isinstance(call, ast.Call)]
    written = [
        function.value
        for function in called
        if isinstance(function, ast.Attribute) and function.attr in ("setdefault", "update")
    ]
    return any(
        (isinstance(node, ast.Attribute) and node.attr in names and node not in written)
        or (isinstance(node, ast.ImportFrom) and names & {alias.name for alias in node.names})
        for node in ast.walk(tree)
    )


@pytest.mark.slow
def test_no_other_module_reads_the_environment() -> None:
    readers = [path for path in sources() if reads_the_environment(ast.parse(path.read_text()))]
    assert readers == [ROOT / "uvlm/variable.py"]


def test_every_variable_that_texts_and_code_name_is_in_the_table() -> None:
    campaigns = {  # of the tests alone
        "UVLM_KILLS", "UVLM_LABEL_KILLS", "UVLM_LABELLED_PHANTOMS",
        "UVLM_RAW_KILLS", "UVLM_RAW_PATIENTS", "UVLM_SWEEP_KILLS", "UVLM_PUBLISH_KILLS",
    }  # fmt: skip
    texts = [ROOT / "README.md", ROOT / "Makefile", ROOT / "Dockerfile", *ROOT.glob("docs/*.md")]
    pattern = re.compile(r"\bUVLM_[A-Z0-9]+(?:_[A-Z0-9]+)*\b")
    named = {name for path in texts + sources() for name in pattern.findall(path.read_text())}
    assert named - {variable.name for variable in TABLE} == campaigns


def test_what_cannot_be_done_without_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SetupError, match="UVLM_QWEN3: is not set; name a folder"):
        environment.QWEN3.needed("name a folder")
    monkeypatch.setenv("UVLM_QWEN3", "/models")
    assert environment.QWEN3.needed("name a folder") == Path("/models")

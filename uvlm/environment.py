"""Every environment variable that this project reads; only this module reads them.

Places, devices and secrets are set here and never by parameters, so that changing one invalidates
no result. `uvlm info --environment` and docs/environment.md show this table. An empty variable
counts as not set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from uvlm.errors import ConfigError, SetupError

T_co = TypeVar("T_co", covariant=True)
Value = TypeVar("Value")


@dataclass(frozen=True)
class Kind(Generic[T_co]):
    """Which values a variable accepts: in words, as a pattern, and how the text is converted."""

    accepts: str
    pattern: str
    convert: Callable[[str], T_co]


@dataclass(frozen=True)
class Variable(Generic[T_co]):
    """One row of the table; `otherwise` describes a default that is not a plain value."""

    name: str
    meaning: str
    kind: Kind[T_co]
    default: T_co
    otherwise: str = ""

    def read(self) -> T_co:
        """Return the present value or the default; raise ConfigError if it is not accepted."""
        text = os.environ.get(self.name)
        if not text:
            return self.default
        try:
            if re.fullmatch(self.kind.pattern, text, re.DOTALL) is None:
                raise ValueError
            return self.kind.convert(text)
        except (ValueError, OSError):
            fact, remedy = f"is '{without_login(text)}'", f"use {self.kind.accepts}"
            raise ConfigError(self.name, fact, remedy) from None

    def needed(self: Variable[Value | None], remedy: str, fact: str = "is not set") -> Value:
        """Return the value of a variable that the task requires, or raise SetupError."""
        value = self.read()
        if value is None:
            raise SetupError(self.name, fact, remedy)
        return value

    @property
    def default_text(self) -> str:
        """The default, in words."""
        return self.otherwise or str(self.default)

    def shown(self) -> tuple[str, str]:
        """Return the present value as it may be printed, and set, default or wrong."""
        text = os.environ.get(self.name)
        if not text:
            return self.default_text, "default"
        try:
            self.read()
        except ConfigError:
            return without_login(text), "wrong"
        return "set" if self.kind is _SECRET else without_login(text), "set"


def allowed_cores() -> int:
    """Count the CPU cores that this process may use, which may be fewer than exist."""
    pinned = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if pinned else os.cpu_count() or 1
    # SLURM does not pin the processes of a task unless its site says so.
    return min(cores, SLURM_CORES.read() or cores)


def project_root() -> Path:
    """Find the project, even while DVC runs an experiment in a temporary copy of it."""
    return DVC_ROOT.read() or Path.cwd()


def inherited() -> dict[str, str]:
    """Copy the whole environment, for a child process to start from."""
    return dict(os.environ)


def without_login(text: str) -> str:
    """Put a value on one line and hide the login in an address."""
    return repr(re.sub(r"://[^/]*@", "://***@", text))[1:-1]


def _optional(
    name: str, meaning: str, kind: Kind[Value], otherwise: str = "not set"
) -> Variable[Value | None]:
    return Variable(name, meaning, kind, None, otherwise)


def _folder(text: str) -> Path:
    """Refuse a file; whoever uses the folder refuses or makes it if it does not exist."""
    if Path(text).is_file():
        raise ValueError
    return Path(text)


def _prices(text: str) -> tuple[float, float]:
    of_input, of_output = map(float, text.split(","))
    return of_input, of_output


def _bytes(text: str) -> int:
    """Convert "8GB" (powers of 1000) or "8GiB" (powers of 1024)."""
    number, unit, binary = re.findall(r"([0-9.]+)\s*([MGT])(i?)B", text)[0]
    return int(float(number) * (1024 if binary else 1000) ** (2 + "MGT".index(unit)))


_TEXT: Final = Kind("any text", ".+", str)
_SECRET: Final = Kind("any text; it is never shown", ".+", str)
_URL: Final = Kind("an address that begins with http:// or https://", r"https?://[^\s/]\S*", str)
_FOLDER: Final = Kind("a folder", ".+", _folder)
_PATH: Final = Kind("a path", ".+", Path)
_COUNT: Final = Kind("a whole number from 1", "0*[1-9][0-9]*", int)
_NUMBER: Final = Kind("a whole number from 0", "[0-9]+", int)
_CORES: Final = "the CPU cores that this process may use"
SIZE: Final = Kind("a size such as 8GB or 7.5GiB", r"[0-9]{1,6}(\.[0-9]{1,3})?\s*[MGT]i?B", _bytes)

DEVICE: Final = Variable(
    "UVLM_DEVICE",
    "Where networks run. `auto` takes CUDA, else MPS, else the CPU; published networks "
    "(TotalSegmentator, ATM'22, RadBERT) have never been tried on MPS, so for them it skips MPS.",
    Kind("auto, cpu, cuda, cuda:N or mps", "auto|cpu|cuda|cuda:[0-9]+|mps", str),
    "auto",
)
PRECISION: Final = _optional(
    "UVLM_PRECISION",
    "The precision of networks. By default bf16-mixed on CUDA, and for convolutions and wide "
    "matrices on CPUs that multiply bf16 (AMX, AVX-512); else 32-true.",
    Kind("32-true or bf16-mixed", "32-true|bf16-mixed", str),
    "what is fast on the device",
)
WORKERS: Final = _optional(
    "UVLM_WORKERS",
    "How many cases a data stage works on at once, each in a process: phantoms and own CTs of "
    "download, preprocess, pseudo_label, label_maps, the masks of evaluate.",
    _COUNT,
    _CORES,
)
LOADERS: Final = _optional(
    "UVLM_LOADERS",
    "How many processes read and prepare ahead while a network computes: batches of a training, "
    "volumes of a validation, of encode and of generate. 0 reads in the process itself, between "
    "two steps.",
    _NUMBER,
    "on a GPU the process's share of the cores, at most 16; on a CPU 0",
)
THREADS: Final = _optional(
    "UVLM_THREADS",
    "How many CPU threads torch uses in a process that computes.",
    _COUNT,
    "the process's share of the cores",
)
DOWNLOADS: Final = Variable("UVLM_DOWNLOADS", "How many files are downloaded at a time.", _COUNT, 4)
DEVICES: Final = Variable(
    "UVLM_DEVICES",
    "How many processes `dvc repro` starts for a training on this computer: one per GPU.",
    _COUNT,
    1,
)
STRATEGY: Final = Variable(
    "UVLM_STRATEGY",
    "How several processes share train_report: with ddp each holds all weights; fsdp2 spreads "
    "weights, gradients and optimiser state over them.",
    Kind("ddp or fsdp2", "ddp|fsdp2", str),
    "ddp",
)
MEMORY: Final = _optional(
    "UVLM_MEMORY",
    "How much of the computer's memory one stage may use. A stage whose estimate is larger ends "
    "before it starts; set it higher to run the stage all the same.",
    SIZE,
    "what is free, within the limits of control group and ulimit",
)
EXECUTOR: Final = Variable(
    "UVLM_EXECUTOR",
    "Where the data stages process cases: loky in processes on this computer, dask on the workers "
    "of a cluster that see the same store at the same path, ray on the cluster of RAY_ADDRESS.",
    Kind("loky, ray or dask://host:port", r"loky|ray|dask://[^\s/]+:[0-9]+", str),
    "loky",
)
RAY_ADDRESS: Final = _optional(
    "RAY_ADDRESS", "The Ray cluster; read by Ray itself.", _TEXT, "this computer"
)

_STORE = "The store of published CTs, prepared volumes, label maps and features; can be shared."
DATA_ROOT: Final = _optional("UVLM_DATA_ROOT", _STORE, _FOLDER, "data/store in the project")
DVC_ROOT: Final = _optional("DVC_ROOT", "The project; set by DVC.", _PATH, "the current folder")
OWN_DATA: Final = _optional(
    "UVLM_OWN_DATA", "Your own CTs and their reports, for the profile `folder`.", _FOLDER
)
SALT: Final = _optional(
    "UVLM_SALT",
    "Salt of the ids by which CTs and series are called instead of their real names. Set the same "
    "one on several machines to get the same ids there.",
    _SECRET,
    "a salt of this machine",
)
VESSEL_MASKS: Final = _optional(
    "UVLM_VESSEL_MASKS", "Masks for `pseudo_label.vessel.backend=masks`.", _FOLDER
)
REAL_DATA: Final = _optional(
    "UVLM_REAL_DATA", "Real CTs and reports, for the tests and benchmarks that need them.", _FOLDER
)

QWEN3: Final = _optional(
    "UVLM_QWEN3", "A downloaded Qwen3, for a decoder or tokenizer of kind qwen3.", _FOLDER
)
INITIAL_WEIGHTS: Final = _optional(
    "UVLM_INITIAL_WEIGHTS", "The model folder that `train_seg.initial_weights` names.", _FOLDER
)
RADBERT_WEIGHTS: Final = _optional(
    "UVLM_RADBERT_WEIGHTS", "Output of `uvlm import-radbert`, for the labeller radbert.", _FOLDER
)
_ATM22 = "Output of `uvlm import-atm22`, or the published weight.pth, for the airway backend atm22."
ATM22_WEIGHTS: Final = _optional("UVLM_ATM22_WEIGHTS", _ATM22, _PATH)
_IN_HOME = "nnunet/results in TOTALSEG_HOME_DIR"
TOTALSEG_WEIGHTS: Final = _optional(
    "TOTALSEG_WEIGHTS_PATH", "The models of TotalSegmentator.", _FOLDER, _IN_HOME
)
TOTALSEG_HOME: Final = _optional(
    "TOTALSEG_HOME_DIR", "TotalSegmentator's own folder.", _FOLDER, "~/.totalsegmentator"
)

LLM_URL: Final = _optional(
    "UVLM_LLM_URL",
    "OpenAI-compatible endpoint of the labeller llm, such as https://api.deepseek.com/v1; reports "
    "are sent to it.",
    _URL,
)
LLM_MODEL: Final = _optional("UVLM_LLM_MODEL", "Its model, such as deepseek-chat.", _TEXT)
LLM_KEY: Final = _optional(
    "UVLM_LLM_KEY", "Its key, if it requires one; sent nowhere else.", _SECRET
)
LLM_PRICES: Final = Variable(
    "UVLM_LLM_PRICES",
    "Prices of a million input and a million output tokens; used only to report the cost.",
    Kind("two prices such as 1,2", r"\s*[0-9.]+\s*,\s*[0-9.]+\s*", _prices),
    (0.0, 0.0),
    "0,0",
)

HF_TOKEN: Final = _optional(
    "HF_TOKEN",
    "Read access to data sets on the Hugging Face hub; read by huggingface_hub itself.",
    _SECRET,
    "the login of huggingface_hub",
)
HF_ENDPOINT: Final = Variable(
    "HF_ENDPOINT", "The hub, or a mirror of it.", _URL, "https://huggingface.co"
)
HF_HUB_OFFLINE: Final = _optional(
    "HF_HUB_OFFLINE", "1 forbids downloads; read by huggingface_hub itself.", _TEXT
)

TRACKING_URI: Final = _optional(
    "MLFLOW_TRACKING_URI", "MLflow's server or database.", _TEXT, "mlflow.db in the project"
)
EXPERIMENT: Final = _optional("DVC_EXP_NAME", "The experiment; set by `dvc exp run`.", _TEXT)
EXPERIMENT_START: Final = _optional(
    "DVC_EXP_BASELINE_REV", "The commit it started from; set by `dvc exp run`.", _TEXT
)

_RANK = "The number of this process in a training; set by "
RANK: Final = _optional("RANK", f"{_RANK}torchrun and UVLM_DEVICES.", _NUMBER)
WORLD_SIZE: Final = _optional("WORLD_SIZE", "How many there are; set with RANK.", _COUNT)
LOCAL_WORLD_SIZE: Final = _optional(
    "LOCAL_WORLD_SIZE", "How many on this computer; set with RANK.", _COUNT, "WORLD_SIZE"
)
TORCHRUN: Final = _optional("TORCHELASTIC_RUN_ID", "Set by torchrun.", _TEXT)
SLURM_RANK: Final = _optional("SLURM_PROCID", f"{_RANK}srun.", _NUMBER)
SLURM_SIZE: Final = Variable("SLURM_STEP_NUM_TASKS", "How many there are; set by srun.", _COUNT, 1)
SLURM_CORES: Final = _optional(
    "SLURM_CPUS_PER_TASK", "The cores of a task; set by `--cpus-per-task`.", _COUNT, "not limited"
)
SLURM_LOCAL_SIZE: Final = _optional(
    "SLURM_NTASKS_PER_NODE", "The value of `srun --ntasks-per-node`.", _COUNT
)

TABLE: Final[tuple[Variable[Any], ...]] = tuple(
    value for value in tuple(globals().values()) if isinstance(value, Variable)
)

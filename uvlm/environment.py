"""Every environment variable that this project reads; no other module of it reads one.

Places, devices and secrets come from here and never from parameters, so that changing one
invalidates no result. `uvlm info --environment` and docs/environment.md show this table.
A variable that is set to nothing counts as not set.
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
    """What a variable may say: in words, as a pattern, and as what is made of the text."""

    accepts: str
    pattern: str
    convert: Callable[[str], T_co]


@dataclass(frozen=True)
class Variable(Generic[T_co]):
    """One row of the table; `otherwise` says the default in words where it is no plain value."""

    name: str
    meaning: str
    kind: Kind[T_co]
    default: T_co
    otherwise: str = ""

    def read(self) -> T_co:
        """Return the value that is set, else the default.

        Raises:
            ConfigError: the variable does not accept that value.
        """
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
        """Return the value of a variable that the work at hand cannot do without."""
        value = self.read()
        if value is None:
            raise SetupError(self.name, fact, remedy)
        return value

    @property
    def default_text(self) -> str:
        """The default, for people."""
        return self.otherwise or str(self.default)

    def shown(self) -> tuple[str, str]:
        """Return what may be printed of the present value, and set, default or wrong."""
        text = os.environ.get(self.name)
        if not text:
            return self.default_text, "default"
        if self.kind is _SECRET:
            return "set", "set"
        try:
            self.read()
        except ConfigError:
            return without_login(text), "wrong"
        return without_login(text), "set"


def allowed_cores() -> int:
    """Count the CPU cores that this process may use, which can be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def project_root() -> Path:
    """Find the project, also when DVC runs an experiment in a temporary copy of it."""
    return DVC_ROOT.read() or Path.cwd()


def inherited() -> dict[str, str]:
    """Copy the whole environment, for a child process to begin with."""
    return dict(os.environ)


def without_login(text: str) -> str:
    """Keep a value on one line, and the login of an address out of it."""
    return repr(re.sub(r"://[^/]*@", "://***@", text))[1:-1]


def _optional(
    name: str, meaning: str, kind: Kind[Value], otherwise: str = "not set"
) -> Variable[Value | None]:
    return Variable(name, meaning, kind, None, otherwise)


def _folder(text: str) -> Path:
    """Refuse a file; a folder that is not there is for its reader to refuse or to make."""
    if Path(text).is_file():
        raise ValueError
    return Path(text)


def _prices(text: str) -> tuple[float, float]:
    price_in, price_out = map(float, text.split(","))
    return price_in, price_out


_TEXT: Final = Kind("any text", ".+", str)
_SECRET: Final = Kind("any text; it is never shown", ".+", str)
_URL: Final = Kind("an address that begins with http:// or https://", r"https?://[^\s/]\S*", str)
_FOLDER: Final = Kind("a folder", ".+", _folder)
_PATH: Final = Kind("a path", ".+", Path)
_COUNT: Final = Kind("a whole number from 1", "0*[1-9][0-9]*", int)
_NUMBER: Final = Kind("a whole number from 0", "[0-9]+", int)

DEVICE: Final = Variable(
    "UVLM_DEVICE",
    "Where networks run. `auto` takes CUDA, else MPS, else the CPU; published networks "
    "(TotalSegmentator, ATM'22, RadBERT) were never tried on MPS, and `auto` skips it for them.",
    Kind("auto, cpu, cuda, cuda:N or mps", "auto|cpu|cuda|cuda:[0-9]+|mps", str),
    "auto",
)
PRECISION: Final = _optional(
    "UVLM_PRECISION",
    "How networks calculate. By default bf16-mixed on CUDA, and on CPUs that multiply bf16 (AMX, "
    "AVX-512) for convolutions and wide matrices; else 32-true.",
    Kind("32-true or bf16-mixed", "32-true|bf16-mixed", str),
    "what is fast on the device",
)
WORKERS: Final = _optional(
    "UVLM_WORKERS",
    "How many at a time: processes of the data stages, threads of torch (by default the cores are "
    "divided among the processes of a training), processes that prepare batches for a GPU (by "
    "default at most 8), downloads (by default 4).",
    _COUNT,
    "the CPU cores that this process may use",
)
DEVICES: Final = Variable(
    "UVLM_DEVICES",
    "How many processes `dvc repro` starts for a training on this computer, one for each GPU.",
    _COUNT,
    1,
)
STRATEGY: Final = Variable(
    "UVLM_STRATEGY",
    "How several processes share train_report: ddp keeps all weights on each, fsdp2 spreads "
    "weights, gradients and optimiser over them.",
    Kind("ddp or fsdp2", "ddp|fsdp2", str),
    "ddp",
)
EXECUTOR: Final = Variable(
    "UVLM_EXECUTOR",
    "Where the data stages work on cases: loky in processes of this computer, dask on the workers "
    "of a cluster that see the same store at the same path, ray on the cluster of RAY_ADDRESS.",
    Kind("loky, ray or dask://host:port", r"loky|ray|dask://[^\s/]+:[0-9]+", str),
    "loky",
)
RAY_ADDRESS: Final = _optional(
    "RAY_ADDRESS", "The Ray cluster; read by Ray itself.", _TEXT, "this computer"
)

DATA_ROOT: Final = _optional(
    "UVLM_DATA_ROOT",
    "The store: CTs as published, prepared volumes, label maps, features. Projects may share it.",
    _FOLDER,
    "data/store in the project",
)
DVC_ROOT: Final = _optional("DVC_ROOT", "The project; set by DVC.", _PATH, "the current folder")
OWN_DATA: Final = _optional(
    "UVLM_OWN_DATA", "Your own CTs and their reports, for the profile `folder`.", _FOLDER
)
VESSEL_MASKS: Final = _optional(
    "UVLM_VESSEL_MASKS", "Masks for `pseudo_label.vessel.backend=masks`.", _FOLDER
)
REAL_DATA: Final = _optional(
    "UVLM_REAL_DATA", "Real CTs and reports, for tests and benchmarks that need some.", _FOLDER
)

QWEN3: Final = _optional(
    "UVLM_QWEN3", "A downloaded Qwen3, where decoder or tokenizer is of kind qwen3.", _FOLDER
)
INITIAL_WEIGHTS: Final = _optional(
    "UVLM_INITIAL_WEIGHTS", "The model that `train_seg.initial_weights` names.", _FOLDER
)
RADBERT_WEIGHTS: Final = _optional(
    "UVLM_RADBERT_WEIGHTS", "What `uvlm import-radbert` wrote, for the labeller radbert.", _FOLDER
)
ATM22_WEIGHTS: Final = _optional(
    "UVLM_ATM22_WEIGHTS",
    "What `uvlm import-atm22` wrote, or the published weight.pth, for the airway backend atm22.",
    _PATH,
)
TOTALSEG_WEIGHTS: Final = _optional(
    "TOTALSEG_WEIGHTS_PATH",
    "The models of TotalSegmentator.",
    _FOLDER,
    "nnunet/results in TOTALSEG_HOME_DIR",
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
    "UVLM_LLM_KEY", "Its key, if it wants one; sent there and nowhere else.", _SECRET
)
LLM_PRICES: Final = Variable(
    "UVLM_LLM_PRICES",
    "What a million tokens cost, those it reads and those it writes; only for the count.",
    Kind("two prices such as 1,2", r"\s*[0-9.]+\s*,\s*[0-9.]+\s*", _prices),
    (0.0, 0.0),
    "0,0",
)

HF_TOKEN: Final = _optional(
    "HF_TOKEN",
    "Read access to data sets of the Hugging Face hub; read by huggingface_hub itself.",
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
    "MLFLOW_TRACKING_URI", "Server or database of MLflow.", _TEXT, "mlflow.db in the project"
)
EXPERIMENT: Final = _optional("DVC_EXP_NAME", "The experiment; set by `dvc exp run`.", _TEXT)
EXPERIMENT_START: Final = _optional(
    "DVC_EXP_BASELINE_REV", "The commit that it began at; set by `dvc exp run`.", _TEXT
)

RANK: Final = _optional(
    "RANK", "Which process of a training this is; set by torchrun and UVLM_DEVICES.", _NUMBER
)
WORLD_SIZE: Final = _optional("WORLD_SIZE", "How many there are; set with RANK.", _COUNT)
LOCAL_WORLD_SIZE: Final = _optional(
    "LOCAL_WORLD_SIZE", "How many on this computer; set with RANK.", _COUNT, "WORLD_SIZE"
)
TORCHRUN: Final = _optional("TORCHELASTIC_RUN_ID", "Set by torchrun.", _TEXT)
SLURM_RANK: Final = _optional(
    "SLURM_PROCID", "Which process of a training this is; set by srun.", _NUMBER
)
SLURM_SIZE: Final = Variable("SLURM_STEP_NUM_TASKS", "How many there are; set by srun.", _COUNT, 1)
SLURM_LOCAL_SIZE: Final = _optional(
    "SLURM_NTASKS_PER_NODE", "What `srun --ntasks-per-node` says.", _COUNT
)

TABLE: Final[tuple[Variable[Any], ...]] = tuple(
    value for value in tuple(globals().values()) if isinstance(value, Variable)
)

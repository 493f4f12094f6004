"""Every environment variable that this project reads.

Places, devices and secrets are set here and never by parameters, so that changing one invalidates
no result. `uvlm info --environment` and docs/environment.md show this table. An empty variable
counts as not set.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from uvlm.variable import (
    COUNT,
    FOLDER,
    NUMBER,
    PATH,
    PRICES,
    SECRET,
    SIZE,
    TEXT,
    URL,
    Kind,
    Variable,
    optional,
)
from uvlm.variable import inherited as inherited
from uvlm.variable import without_login as without_login


def allowed_cores() -> int:
    """Count the CPU cores that this process may use, which may be fewer than exist."""
    pinned = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if pinned else os.cpu_count() or 1
    # SLURM does not pin the processes of a task unless its site says so.
    return min(cores, SLURM_CORES.read() or cores)


def project_root() -> Path:
    """Find the project, even while DVC runs an experiment in a temporary copy of it."""
    return DVC_ROOT.read() or Path.cwd()


_CORES: Final = "the CPU cores that this process may use"

DEVICE: Final = Variable(
    "UVLM_DEVICE",
    "Where networks run. `auto` takes CUDA, else MPS, else the CPU; published networks "
    "(TotalSegmentator, ATM'22, RadBERT) have never been tried on MPS, so for them it skips MPS.",
    Kind("auto, cpu, cuda, cuda:N or mps", "auto|cpu|cuda|cuda:[0-9]+|mps", str),
    "auto",
)
PRECISION: Final = optional(
    "UVLM_PRECISION",
    "The precision of networks. By default bf16-mixed on CUDA, and for convolutions and wide "
    "matrices on CPUs that multiply bf16 (AMX, AVX-512); else 32-true.",
    Kind("32-true or bf16-mixed", "32-true|bf16-mixed", str),
    "what is fast on the device",
)
WORKERS: Final = optional(
    "UVLM_WORKERS",
    "How many cases a data stage works on at once, each in a process: phantoms and own CTs of "
    "download, preprocess, pseudo_label, label_maps, the masks of evaluate.",
    COUNT,
    _CORES,
)
LOADERS: Final = optional(
    "UVLM_LOADERS",
    "How many processes read and prepare ahead while a network computes: batches of a training, "
    "volumes of a validation, of encode and of generate. 0 reads in the process itself, between "
    "two steps.",
    NUMBER,
    "on a GPU the process's share of the cores, at most 16; on a CPU 0",
)
THREADS: Final = optional(
    "UVLM_THREADS",
    "How many CPU threads torch uses in a process that computes.",
    COUNT,
    "the process's share of the cores",
)
DOWNLOADS: Final = Variable("UVLM_DOWNLOADS", "How many files are downloaded at a time.", COUNT, 4)
DEVICES: Final = Variable(
    "UVLM_DEVICES",
    "How many processes `dvc repro` starts for a training on this computer: one per GPU.",
    COUNT,
    1,
)
STRATEGY: Final = Variable(
    "UVLM_STRATEGY",
    "How several processes share train_report: with ddp each holds all weights; fsdp2 spreads "
    "weights, gradients and optimiser state over them.",
    Kind("ddp or fsdp2", "ddp|fsdp2", str),
    "ddp",
)
MEMORY: Final = optional(
    "UVLM_MEMORY",
    "How much of the computer's memory one stage may use. A stage whose estimate is larger ends "
    "before it starts; set it higher to run the stage all the same.",
    SIZE,
    "what is free, within the limits of control group and ulimit",
)
KEEP_MEMORY: Final = Variable(
    "UVLM_KEEP_MEMORY",
    "Whether a stage with tensors keeps freed memory for the next step: faster on a CPU, and its "
    "peak is up to twice as high (docs/training.md).",
    Kind("yes or no", "yes|no", lambda text: text == "yes"),
    True,
    "yes",
)
TUNING: Final = Variable(
    "UVLM_TUNING",
    "What trainings try to be faster; the last digits change. `cudnn` times kinds of convolutions, "
    "`compile` fuses kernels, `norms` leave channels-last tensors as they lie, as always on a CPU "
    "(docs/training.md).",
    Kind(
        "any of the three, joined by commas",
        "(cudnn|compile|norms)(,(cudnn|compile|norms))*",
        lambda text: frozenset(text.split(",")),
    ),
    frozenset[str](),
    "none of them",
)
EXECUTOR: Final = Variable(
    "UVLM_EXECUTOR",
    "Where the data stages process cases: loky in processes on this computer, dask on the workers "
    "of a cluster that see the same store at the same path, ray on the cluster of RAY_ADDRESS.",
    Kind("loky, ray or dask://host:port", r"loky|ray|dask://[^\s/]+:[0-9]+", str),
    "loky",
)
RAY_ADDRESS: Final = optional(
    "RAY_ADDRESS", "The Ray cluster; read by Ray itself.", TEXT, "this computer"
)

_STORE = "The store of published CTs, prepared volumes, label maps and features; can be shared."
DATA_ROOT: Final = optional("UVLM_DATA_ROOT", _STORE, FOLDER, "data/store in the project")
DVC_ROOT: Final = optional("DVC_ROOT", "The project; set by DVC.", PATH, "the current folder")
OWN_DATA: Final = optional(
    "UVLM_OWN_DATA", "Your own CTs and their reports, for the profile `folder`.", FOLDER
)
SALT: Final = optional(
    "UVLM_SALT",
    "Salt of the ids by which CTs and series are called instead of their real names. Set the same "
    "one on several machines to get the same ids there.",
    SECRET,
    "a random one in ~/.config/uvlm/salt",
)
VESSEL_MASKS: Final = optional(
    "UVLM_VESSEL_MASKS", "Masks for `pseudo_label.vessel.backend=masks`.", FOLDER
)
REAL_DATA: Final = optional(
    "UVLM_REAL_DATA",
    "Real CTs and reports, for the tests and benchmarks that need them.",
    FOLDER,
)

QWEN3: Final = optional(
    "UVLM_QWEN3", "A downloaded Qwen3, for a decoder or tokenizer of kind qwen3.", FOLDER
)
INITIAL_WEIGHTS: Final = optional(
    "UVLM_INITIAL_WEIGHTS", "The model folder that `train_seg.initial_weights` names.", FOLDER
)
RADBERT_WEIGHTS: Final = optional(
    "UVLM_RADBERT_WEIGHTS",
    "Output of `uvlm import-radbert`, for the labeller radbert.",
    FOLDER,
)
_ATM22 = "Output of `uvlm import-atm22`, or the published weight.pth, for the airway backend atm22."
ATM22_WEIGHTS: Final = optional("UVLM_ATM22_WEIGHTS", _ATM22, PATH)
_IN_HOME = "nnunet/results in TOTALSEG_HOME_DIR"
TOTALSEG_WEIGHTS: Final = optional(
    "TOTALSEG_WEIGHTS_PATH", "The models of TotalSegmentator.", FOLDER, _IN_HOME
)
TOTALSEG_HOME: Final = optional(
    "TOTALSEG_HOME_DIR", "TotalSegmentator's own folder.", FOLDER, "~/.totalsegmentator"
)

LLM_URL: Final = optional(
    "UVLM_LLM_URL",
    "OpenAI-compatible endpoint of the labeller llm, such as https://api.deepseek.com/v1; reports "
    "are sent to it.",
    URL,
)
LLM_MODEL: Final = optional("UVLM_LLM_MODEL", "Its model, such as deepseek-chat.", TEXT)
LLM_KEY: Final = optional("UVLM_LLM_KEY", "Its key, if it requires one; sent nowhere else.", SECRET)
LLM_PRICES: Final = Variable(
    "UVLM_LLM_PRICES",
    "Prices of a million input and a million output tokens; used only to report the cost.",
    PRICES,
    (0.0, 0.0),
    "0,0",
)

HF_TOKEN: Final = optional(
    "HF_TOKEN",
    "Read access to data sets on the Hugging Face hub; read by huggingface_hub itself.",
    SECRET,
    "the login of huggingface_hub",
)
HF_ENDPOINT: Final = Variable(
    "HF_ENDPOINT", "The hub, or a mirror of it.", URL, "https://huggingface.co"
)
HF_HUB_OFFLINE: Final = optional(
    "HF_HUB_OFFLINE", "1 forbids downloads; read by huggingface_hub itself.", TEXT
)

TRACKING_URI: Final = optional(
    "MLFLOW_TRACKING_URI", "MLflow's server or database.", TEXT, "mlflow.db in the project"
)
EXPERIMENT: Final = optional("DVC_EXP_NAME", "The experiment; set by `dvc exp run`.", TEXT)
EXPERIMENT_START: Final = optional(
    "DVC_EXP_BASELINE_REV", "The commit it started from; set by `dvc exp run`.", TEXT
)

_RANK = "The number of this process in a training; set by "
RANK: Final = optional("RANK", f"{_RANK}torchrun and UVLM_DEVICES.", NUMBER)
WORLD_SIZE: Final = optional("WORLD_SIZE", "How many there are; set with RANK.", COUNT)
LOCAL_WORLD_SIZE: Final = optional(
    "LOCAL_WORLD_SIZE", "How many on this computer; set with RANK.", COUNT, "WORLD_SIZE"
)
TORCHRUN: Final = optional("TORCHELASTIC_RUN_ID", "Set by torchrun.", TEXT)
SLURM_RANK: Final = optional("SLURM_PROCID", f"{_RANK}srun.", NUMBER)
SLURM_SIZE: Final = Variable("SLURM_STEP_NUM_TASKS", "How many there are; set by srun.", COUNT, 1)
SLURM_CORES: Final = optional(
    "SLURM_CPUS_PER_TASK",
    "The cores of a task; set by `--cpus-per-task`.",
    COUNT,
    "not limited",
)
SLURM_LOCAL_SIZE: Final = optional(
    "SLURM_NTASKS_PER_NODE", "The value of `srun --ntasks-per-node`.", COUNT
)

TABLE: Final[tuple[Variable[Any], ...]] = tuple(
    value for value in tuple(globals().values()) if isinstance(value, Variable)
)

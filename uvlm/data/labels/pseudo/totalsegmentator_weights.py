"""Which of TotalSegmentator's models a task needs, and whether they are here; fetches nothing.

    <weights>/Dataset297_TotalSegmentator_total_3mm_1559subj/<trainer>__<plans>__3d_fullres/
        dataset.json  plans.json  fold_0/checkpoint_final.pth

The package's own tables say which data sets a task uses. <weights> is $TOTALSEG_WEIGHTS_PATH, by
default where the package keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal

from uvlm import environment
from uvlm.errors import SetupError, install
from uvlm.files import files_sha256

Task = Literal["total", "lung_vessels"]
_DOWNLOADS: Final = {
    ("total", False): ("total",),
    ("total", True): ("total_fast",),
    ("lung_vessels", False): ("lung_vessels", "total_fast"),  # the second crops to the lungs
}


@dataclass(frozen=True)
class Model:
    """One trained nnU-Net; `folder` is relative to the folder of the weights."""

    dataset_id: int
    folder: Path
    folds: tuple[int, ...]

    def files(self) -> list[Path]:
        """List the files that are read."""
        names = ["dataset.json", "plans.json"]
        names += [f"fold_{fold}/checkpoint_final.pth" for fold in self.folds]
        return [self.folder / name for name in names]


def weights_folder() -> Path:
    """Find the folder as the package does."""
    home = environment.TOTALSEG_HOME.read() or Path.home() / ".totalsegmentator"
    return environment.TOTALSEG_WEIGHTS.read() or home / "nnunet/results"


def models_of(task: Task, fast: bool = False) -> list[Model]:
    """Look up the models of a task, including the one that crops for it."""
    tables = _tables()
    configs = {**tables.DEFAULT_CONFIG, **tables.TASK_CONFIGS[task]}
    if "sub_modes" in configs:
        configs |= configs["sub_modes"]["fast" if fast else "default"]
    models = _models(configs, tables)
    if configs["crop"] is not None:
        mode = "fast" if configs["robust_crop"] else "fastest"
        cropper = tables.DEFAULT_CONFIG | tables.TASK_CONFIGS["total"]["sub_modes"][mode]
        models += _models(cropper, tables)
    return models


def check_weights(task: Task, fast: bool = False) -> str:
    """Check that every file is there; return one digest of them all.

    Raises:
        SetupError: the package or a file is missing.
    """
    root, models = weights_folder(), models_of(task, fast)
    files = [file for model in models for file in model.files()]
    missing = [file for file in files if not (root / file).is_file()]
    if missing:
        number = f" and {len(missing) - 1} more files" if missing[1:] else ""
        command = " && ".join(f"totalseg_download_weights -t {n}" for n in _DOWNLOADS[task, fast])
        remedy = f"run `{command}` where there is a network, and set this to the folder"
        fact = f"{root} lacks {missing[0]}{number}"
        raise SetupError(environment.TOTALSEG_WEIGHTS.name, fact, remedy)
    return files_sha256(root, files)


def _models(config: dict[str, Any], tables: Any) -> list[Model]:
    ids = config["task_id"] if isinstance(config["task_id"], list) else [config["task_id"]]
    plans = config["plans"] or "nnUNetPlans"
    name = f"{config['trainer']}__{plans}__{config['model']}"
    folders = (tables.TASK_ID_WEIGHTS_CONFIGS[number]["foldername"] for number in ids)
    return [
        Model(number, Path(folder) / name, tuple(config["folds"]))
        for number, folder in zip(ids, folders, strict=True)
    ]


def _tables() -> Any:
    """Import the package's tables of tasks and weights; they need neither network nor torch."""
    try:
        return import_module("totalsegmentator.map_tasks_config")
    except ImportError:
        remedy = install("pseudo")
        raise SetupError("totalsegmentator", "the package is not installed", remedy) from None

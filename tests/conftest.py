"""Settings and parameters that every test may use."""

from __future__ import annotations

import copy
import os
import shutil
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]

# Before anything heavy is imported: one thread, no telemetry, no network, no display.
_ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MPLBACKEND": "Agg",
    "OMP_NUM_THREADS": "1",
    "UVLM_DEVICE": "cpu",
    "UVLM_PRECISION": "32-true",
    "UVLM_SALT": "tests",
    "UVLM_THREADS": "1",
    "UVLM_WORKERS": "1",
}
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)


# Files with minutes of slow tests, the longest first: begun last, one of them would keep a single
# process busy while the other has nothing left.
LONGEST_FIRST = (
    "pipeline/test_team.py",
    "pipeline/rehearse/test_rehearse.py",
    "train/loop/test_processes.py",
    "pipeline/sweep/test_sweep.py",
    "pipeline/smoke/test_smoke.py",
    "train/loop/test_killed_trainings.py",
    "pipeline/test_tiny_run.py",
    "train/loop/test_sharding.py",
    "train/test_eight_cases.py",
    "pipeline/test_own_data_run.py",
    "data/labels/pseudo/test_totalsegmentator.py",
    "train/test_arms_train.py",
    "data/sets/test_real_tables.py",
    "pipeline/test_own_data_airways.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the longest files first; all others stay in their order."""
    places = {ROOT / "tests" / name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(autouse=True)
def _away_from_the_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test writes below the repository: store, records and states go to its own folder."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("UVLM_DATA_ROOT", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real CTs and reports; tests that need it skip with the reason."""
    folder = os.environ.get("UVLM_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("UVLM_REAL_DATA names no folder of real test data")
    return Path(folder).resolve()


@pytest.fixture
def old_project(tmp_path: Path) -> Path:
    """What an earlier release left on disk (golden/before_the_moves), with today's dvc.yaml."""
    archive_path = ROOT / "tests" / "golden" / "before_the_moves" / "project.tar.xz"
    with tarfile.open(archive_path) as archive:
        # Python 3.11 has filters of archives since its fourth release.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    return tmp_path


TINY: dict[str, Any] = {
    "download.phantom.train_patients": 10,
    "download.phantom.test_patients": 5,
    "download.phantom.shape": [20, 28, 28],
    "download.phantom.defects": False,
    "index.val_fraction": 0.3,
    "index.max_quarantined_share": 0.5,
    "preprocess.grid": [16, 24, 24],
    "tokenizer.vocabulary_size": 400,
    "encoder.channels": [4, 4, 8, 8, 8, 8],
    "decoder.layers": 8,
    "decoder.width": 16,
    "decoder.heads": 2,
    "decoder.ffn": 32,
    "decoder.max_report_tokens": 64,
    "train_seg.patch": [16, 16, 16],
    "evaluate.bootstrap_samples": 20,
    "evaluate.meteor": False,
    "summarize.num_examples": 1,
}
TINY |= {
    f"{stage}.{key}": value
    for stage in ("train_seg", "train_cls", "train_report")
    for key, value in {
        "steps": 2,
        "batch_size": 2,
        "log_every": 1,
        "val_every": 2,
        "val_cases": 2,
        "checkpoint_minutes": 0,
        "optim.warmup_steps": 1,
    }.items()
}
TINY |= {"train_cls.head_warmup_steps": 2, "train_cls.head_warmup_batch_size": 2}


@cache
def composed(profile: str) -> dict[Any, Any]:
    """A profile as conf/ has it, composed once; whoever changes it takes a copy."""
    from pipeline.profiles import compose

    return compose(ROOT, profile)


@pytest.fixture
def tiny_document() -> dict[Any, Any]:
    """The parameters of the paper on phantoms, so small that every stage takes seconds."""
    document = copy.deepcopy(composed("phantom_plain")) | {"profile": "phantom"}
    for key, value in TINY.items():
        *parents, name = key.split(".")
        section = document
        for parent in parents:
            section = section[parent]
        section[name] = value
    return document

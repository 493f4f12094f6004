"""Raw volumes that are not kept: the same manifests and arrays, on a disk that holds only a few.

UVLM_RAW_KILLS=20 UVLM_RAW_PATIENTS=200 pytest -s -m slow PATH_OF_THIS_FILE    the whole campaign
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.profiles import compose, write_params
from tests.data.sets.hub.server import FakeHub, serve
from uvlm.config import PhantomConfig
from uvlm.data.sets.ct_rate import layout
from uvlm.data.sets.phantom.dataset import write_dataset
from uvlm.files import file_sha256

ROOT = Path(__file__).parents[4]
WORKERS = 2
KILLS = int(os.environ.get("UVLM_RAW_KILLS", "2"))
PATIENTS = int(os.environ.get("UVLM_RAW_PATIENTS", "16"))
STAGES = """
import sys
from pathlib import Path
from uvlm.config import load_params
from uvlm.data import index
from uvlm.data.cases import read_index
from uvlm.data.labels.pseudo.stage import PseudoLabels
from uvlm.data.preprocess import Volumes
from uvlm.data.sets.catalogue import choose_set
from uvlm.store import every_case
folder, code = Path(sys.argv[1]), sys.argv[2]
params = load_params(folder / "params.yaml")
choose_set(params).fetch(folder / "download.jsonl", None)
index.build(params, folder / "download.jsonl", folder / "index.jsonl", folder / "q_index.jsonl")
cases = read_index(folder / "index.jsonl")
for product in (Volumes.of(params), PseudoLabels.of(params, "anatomy")):
    name = product.stage
    out, refused = folder / f"{name}.jsonl", folder / f"q_{name}.jsonl"
    every_case.run(product, cases, out, 1.0, refused, None, code)
"""


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serve phantoms, planted defects among them, as CT-RATE and ReXGroundingCT."""

    @contextmanager
    def serving(patients: int, pace: float) -> Iterator[FakeHub]:
        monkeypatch.setenv("UVLM_DATA_ROOT", str(tmp_path / "published"))
        shape = (20, 32, 32)
        config = PhantomConfig(
            train_patients=patients - patients // 4,
            test_patients=patients // 4,
            shape=shape,
            prevalence=0.3,
            second_scan_fraction=0.0,
            second_reconstruction_fraction=0.2,
            noise_hu=10.0,
            defects=True,
        )
        root = write_dataset(config, 0, tmp_path / "published.jsonl")
        repos = {layout.CT_RATE_REPO: layout.CT_RATE, layout.REX_REPO: layout.REX}
        files = {
            repo: {
                path.relative_to(root / name).as_posix(): path.read_bytes()
                for path in (root / name).rglob("*")
                if path.is_file()
            }
            for repo, name in repos.items()
        }
        with serve(FakeHub({}, others=files, pace=pace)) as hub:
            yield hub

    return serving


class Run:
    """The data stages with one value of `keep_raw`, in a process of their own."""

    def __init__(self, folder: Path, keep_raw: str, fake: FakeHub) -> None:
        self.folder, self.store = folder, folder / "store"
        folder.mkdir()
        document = compose(ROOT, "phantom")
        document["download"] = {
            "source": "ct_rate",
            "phantom": None,
            "abdomen_atlas": None,
            "folder": None,
            "ct_rate": {
                "revision": "main",
                "rexgrounding_revision": "main",
                "train": None,
                "test": None,
                "exclude": [],
                "reconstructions": "all",
                "anatomy_masks": True,
                "findings_masks": True,
                "keep_raw": keep_raw,
            },
        }
        document["pseudo_label"]["anatomy"]["backend"] = "ct_rate_masks"
        document["index"]["max_quarantined_share"] = 1.0
        write_params(folder, document)
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "UVLM_DATA_ROOT": str(self.store),
            "UVLM_WORKERS": str(WORKERS),
            "HF_ENDPOINT": fake.endpoint,
            "HF_HUB_OFFLINE": "0",
        }

    def start(self, code: str = "") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", STAGES, str(self.folder), code]
        how: dict[str, Any] = {"stderr": subprocess.PIPE, "start_new_session": True, "text": True}
        return subprocess.Popen(command, env=self.environment, **how)

    def finish(self, code: str = "") -> str:
        """Run to the end; returns what was said."""
        process = self.start(code)
        _, said = process.communicate()
        assert process.returncode == 0, said
        return said

    def results(self) -> dict[str, bytes | str]:
        """Every manifest and list, and the digest of every array."""
        lists = {path.name: path.read_bytes() for path in self.folder.glob("*.jsonl")}
        arrays = {
            str(path.relative_to(self.store)): file_sha256(path)
            for path in self.store.rglob("*.b2nd")
        }
        return lists | arrays

    def volumes(self) -> dict[Path, int]:
        """The size of every raw volume on the disk, whole or in part."""
        found = {}
        for path in (self.store / "raw").rglob("*"):
            is_volume = "_fixed" in str(path) or ".passing" in path.parts
            if is_volume and "ts_total" not in path.parts and path.name.endswith((".gz", ".part")):
                try:
                    found[path] = path.stat().st_size
                except FileNotFoundError:
                    continue
        return found


@contextmanager
def peak_of(run: Run) -> Iterator[list[int]]:
    """Watch how many bytes of raw volumes there are at once."""
    peak, end = [0], threading.Event()

    def watch() -> None:
        while not end.wait(0.003):
            peak[0] = max(peak[0], sum(run.volumes().values()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        end.set()
        thread.join()


def largest_volume(fake: FakeHub) -> int:
    chest = fake.others[layout.CT_RATE_REPO]
    return max(len(c) for p, c in chest.items() if "_fixed/" in p and "ts_seg" not in p)


def check_kills(tmp_path: Path, fake: FakeHub, kills: int, seconds: float) -> None:
    """Compare a run that keeps nothing and is killed with one that keeps everything."""
    whole = Run(tmp_path / "all", "all", fake)
    whole.finish()
    run, draws = Run(tmp_path / "none", "none", fake), random.Random(0)
    with peak_of(run) as peak:
        for _ in range(kills):
            process = run.start()
            time.sleep(draws.uniform(0.5, seconds))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        run.finish()
    assert run.results() == whole.results()
    assert run.volumes() == {}
    assert 0 < peak[0] <= 3 * WORKERS * largest_volume(fake)
    kept = sum(whole.volumes().values())
    sys.stdout.write(f"{kills} kills, {peak[0]:,} bytes of raw volumes at most, {kept:,} in all\n")


@pytest.mark.slow
def test_nothing_kept_gives_the_same_bytes_and_survives_kills(tmp_path: Path, publish: Any) -> None:
    with publish(8, 0.0) as fake:
        check_kills(tmp_path, fake, 2, 4.0)


@pytest.mark.slow
def test_many_kills_among_many_patients(tmp_path: Path, publish: Any) -> None:
    with publish(PATIENTS, 0.01) as fake:
        check_kills(tmp_path, fake, KILLS, 10.0)


def fetched_volumes(fake: FakeHub) -> set[str]:
    asked = [path for _, path, _ in fake.requests if "/resolve/" in path and "_fixed/" in path]
    return {Path(path).name for path in asked if "ts_seg" not in path}


@pytest.mark.slow
def test_changed_code_fetches_again_by_name_what_it_compares(tmp_path: Path, publish: Any) -> None:
    with publish(8, 0.0) as fake:
        run = Run(tmp_path / "none", "none", fake)
        run.finish("one")
        results = run.results()
        fake.requests.clear()
        assert "to compare" not in run.finish("one")
        refused = fetched_volumes(fake)  # of these nothing is stored, so they are looked at again
        fake.requests.clear()
        said = [line for line in run.finish("two").splitlines() if "to compare" in line]
        named = {line.rpartition(" ")[2] for line in said if line.startswith("preprocess: ")}
        assert 1 <= len(named) <= 3  # the first, the middle and the last stored case
        assert not named & refused
        assert fetched_volumes(fake) == named | refused
        assert run.results() == results
        assert run.volumes() == {}


@pytest.mark.slow
def test_annotated_volumes_stay_and_the_bytes_are_the_same(tmp_path: Path, publish: Any) -> None:
    with publish(8, 0.0) as fake:
        whole = Run(tmp_path / "all", "all", fake)
        whole.finish()
        run = Run(tmp_path / "some", "annotated", fake)
        run.finish()
        assert run.results() == whole.results()
        masks = fake.others[layout.REX_REPO]
        annotated = {Path(path).name for path in masks if path.startswith("segmentations/")}
        kept = {path.name for path in run.volumes()}
        assert kept == annotated & {path.name for path in whole.volumes()}
        assert 0 < len(kept) < len(whole.volumes())

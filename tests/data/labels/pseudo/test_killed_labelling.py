"""kill -9 while pseudo-labels are made: resumed, nothing made twice, the manifest the same.

UVLM_LABELLED_PHANTOMS=1000 UVLM_LABEL_KILLS=10 \
    pytest -s tests/data/labels/pseudo/test_killed_labelling.py      the whole campaign
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from pipeline.profiles import write_params
from uvlm.config import LABEL_KINDS, Params, PhantomConfig
from uvlm.data import index
from uvlm.data.sets.phantom.dataset import write_dataset
from uvlm.files import store_root
from uvlm.store import load_array, read_manifest, resolve

PHANTOMS = int(os.environ.get("UVLM_LABELLED_PHANTOMS", "30"))
KILLS = int(os.environ.get("UVLM_LABEL_KILLS", "2"))
WORKERS = 2

# Every process of a run, workers too, writes down each array that it has made.
_COUNT = """
import os
from uvlm.store import once
save = once.save_array
def counting(path, *rest):
    with open(os.environ["UVLM_TEST_MADE"], "a") as file:
        file.write(path.name + chr(10))
    return save(path, *rest)
once.save_array = counting
"""
_RUN = """
import sys
from pathlib import Path
from uvlm.config import LABEL_KINDS, load_params
from uvlm.data.cases import read_index
from uvlm.data.labels.pseudo.stage import PseudoLabels
from uvlm.store import every_case
root, out = Path(sys.argv[1]), Path(sys.argv[2])
params, cases = load_params(root / "params.yaml"), read_index(root / "index.jsonl")
for kind in LABEL_KINDS:
    labels, limit = PseudoLabels.of(params, kind), params.index.max_quarantined_share
    made = every_case.run(labels, cases, out / f"{kind}.jsonl", limit, out / "q.jsonl")
    print(kind, made)
"""


@pytest.fixture
def indexed(tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of small phantoms, one CT a patient."""
    monkeypatch.setenv("UVLM_DATA_ROOT", str(tmp_path / "store"))
    config = PhantomConfig(
        train_patients=PHANTOMS - PHANTOMS // 5,
        test_patients=PHANTOMS // 5,
        shape=(24, 36, 36),
        prevalence=0.25,
        second_scan_fraction=0.0,
        second_reconstruction_fraction=0.0,
        noise_hu=15.0,
        defects=False,
    )
    write_dataset(config, 0, tmp_path / "download.jsonl")
    files = [tmp_path / name for name in ("download.jsonl", "index.jsonl", "quarantine.jsonl")]
    index.build(params, *files)
    write_params(tmp_path, params.model_dump(mode="json"))
    (tmp_path / "sitecustomize.py").write_text(_COUNT)
    return tmp_path


def start(root: Path, out: Path) -> subprocess.Popen[bytes]:
    """Label every kind, as the stage does, with two workers."""
    environment = os.environ | {
        "PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}:{Path(__file__).parents[4]}",
        "UVLM_TEST_MADE": str(out / "made.txt"),
        "UVLM_WORKERS": str(WORKERS),
    }
    out.mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, "-c", _RUN, str(root), str(out)], env=environment)


def arrays() -> set[str]:
    """Names of the arrays that are there."""
    return {path.name for path in (store_root() / "pseudo_label").rglob("*.b2nd")}


@pytest.mark.slow
@pytest.mark.timeout(300 + 3 * PHANTOMS)
def test_killed_labelling_goes_on_where_it_ended(
    indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = PHANTOMS * len(LABEL_KINDS)
    begin = time.monotonic()
    assert start(indexed, indexed / "unbroken").wait() == 0
    seconds = time.monotonic() - begin
    assert len(arrays()) == total

    (store_root() / "pseudo_label").rename(indexed / "made_unbroken")
    draws, kept_at_kill, killed = random.Random(0), set[str](), 0
    wanted = sorted(draws.sample(range(1, total - 1), KILLS))
    while killed < KILLS:
        process = start(indexed, indexed / "broken")
        while len(arrays()) < wanted[killed] and process.poll() is None:
            time.sleep(0.002)
        assert process.poll() is None, "it was done before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kept_at_kill |= arrays()
        killed += 1
    assert start(indexed, indexed / "broken").wait() == 0

    made = Counter((indexed / "broken/made.txt").read_text().split())
    assert set(made) == arrays()
    assert all(made[name] == 1 for name in kept_at_kill)
    again = sum(made.values()) - total  # under way when the kill came, so never finished
    assert 0 <= again <= KILLS * WORKERS
    for kind in LABEL_KINDS:
        manifests = [indexed / run / f"{kind}.jsonl" for run in ("unbroken", "broken")]
        assert manifests[0].read_bytes() == manifests[1].read_bytes()
        rows = read_manifest(manifests[1])
        assert len(rows) == PHANTOMS
        for row in rows[:: max(1, PHANTOMS // 20)]:
            load_array(resolve(row, f"pseudo_label@{kind}"), row.sha256)
    sys.stdout.write(
        f"{PHANTOMS} phantoms, {len(LABEL_KINDS)} kinds: {killed} kills, "
        f"{len(kept_at_kill)} arrays kept over them and made once, "
        f"{again} made again that were under way, manifests identical; "
        f"unbroken {seconds:.0f} s\n"
    )

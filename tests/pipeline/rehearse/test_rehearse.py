"""The parts of a rehearsal: a hub of our own, enlarged phantoms, stand-ins, what is measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from huggingface_hub import close_session, constants

from pipeline.profiles import compose
from pipeline.rehearse.abdomens import write_abdomens
from pipeline.rehearse.local_hub import serve
from pipeline.rehearse.rehearse import Request, _begin, _environment, rehearse
from pipeline.rehearse.scans import annotate_few, enlarge, write_chests
from pipeline.rehearse.stand_ins import as_large_as_qwen3, random_airway_weights, stand_ins
from pipeline.rehearse.watch import watch
from uvlm.config import parse_params
from uvlm.data.ct.io import read_volume
from uvlm.data.labels.pseudo.atm22 import load_network
from uvlm.data.sets.abdomen_atlas.dataset import AbdomenAtlas
from uvlm.data.sets.ct_rate.dataset import CtRate
from uvlm.data.sets.hub import Hub, Patience, Snapshot
from uvlm.data.splits import carve_validation
from uvlm.errors import ConfigError, DataError, SetupError
from uvlm.store import rows_by_case
from uvlm.text.tokenizer import Tokenizer

GRID = (20, 30, 32)


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The loopback interface may be used, and the store is the test's own."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("UVLM_DATA_ROOT", str(tmp_path / "store"))
    yield
    close_session()


def hub(endpoint: str) -> Hub:
    return Hub(endpoint, Patience(waits=(0.1,), timeout=5.0))


@pytest.mark.slow
def test_files_arrive_verified_and_a_part_is_continued(tmp_path: Path, online: None) -> None:
    content = np.random.default_rng(0).bytes(11_000_000)  # large enough for a sha256 of its own
    (tmp_path / "set" / "below").mkdir(parents=True)
    (tmp_path / "set" / "below" / "large").write_bytes(content)
    (tmp_path / "set" / "small").write_bytes(b"few")
    (tmp_path / "secret").write_bytes(b"not of the set")
    with serve({"some/set": tmp_path / "set"}) as endpoint:
        snapshot = Snapshot.of(hub(endpoint), "some/set", "main", "it")
        part = snapshot.folder / "below" / ".large.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(content[:1000])
        snapshot.fetch(["small", "below/large"], "files")
        assert (snapshot.folder / "below" / "large").read_bytes() == content
        assert (snapshot.folder / "small").read_bytes() == b"few"
        for name in ("missing", "../secret", "below/../../secret"):
            with pytest.raises(DataError, match="not on the hub"):
                snapshot.fetch([name], "files")


def test_every_voxel_of_an_enlarged_array_is_one_of_its_place() -> None:
    small = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    large = enlarge(small, (4, 9, 8))
    assert (large == np.kron(small, np.ones((2, 3, 2), int))).all()
    assert enlarge(small, (5, 7, 9)).shape == (5, 7, 9)


@pytest.mark.slow
def test_chests_have_one_grid_the_wanted_annotations_and_the_same_bytes_again(
    root: Path, tmp_path: Path, online: None
) -> None:
    config = parse_params(compose(root, "chest"), "chest").download.ct_rate
    assert config is not None
    for name in ("one", "two"):
        records = write_chests(tmp_path / name, 5, 2, GRID, seed=0)
        annotate_few(tmp_path / name, records, 2, seed=0, val_fraction=0.34)
    files = [path for path in (tmp_path / "one").rglob("*") if path.is_file()]
    for path in files:
        assert (
            path.read_bytes()
            == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
        )
    repos = {
        "ibrahimhamamci/CT-RATE": tmp_path / "one" / "ct_rate",
        "rajpurkarlab/ReXGroundingCT": tmp_path / "one" / "rexgroundingct",
    }
    manifest = tmp_path / "download.jsonl"
    with serve(repos) as endpoint:
        chest = CtRate(config, 0, hub(endpoint))
        chest.fetch(manifest, lambda _: [])
    cases, refused = chest.cases(rows_by_case(manifest))
    assert not refused
    assert len(cases) == 7
    split = carve_validation(cases, 0, 0.34)
    drawn = [case.split for case in split if case.findings_mask is not None]
    assert sorted(drawn) == ["test", "train", "val"]
    volume = next(
        path for path in files if "train_fixed" in str(path) and "ts_seg" not in str(path)
    )
    assert sorted(read_volume(volume).array.shape) == sorted(GRID)


@pytest.mark.slow
def test_abdomens_are_read_from_their_archives(root: Path, tmp_path: Path, online: None) -> None:
    config = parse_params(compose(root, "abdomen"), "abdomen").download.abdomen_atlas
    assert config is not None
    records = write_chests(tmp_path, 3, 1, GRID, seed=0)
    write_abdomens(tmp_path, tmp_path / "atlas", records)
    manifest = tmp_path / "download.jsonl"
    with serve({"AbdomenAtlas/AbdomenAtlas3.0Mini": tmp_path / "atlas"}) as endpoint:
        atlas = AbdomenAtlas(config, 0, hub(endpoint))
        survey = atlas.survey()
        atlas.fetch(manifest, lambda _: [])
    cases, refused = atlas.cases(rows_by_case(manifest))
    assert not refused
    assert {case.split for case in cases} == {"train", "test"}
    assert {e.case_id: e.split for e in survey.cases} == {c.case_id: c.split for c in cases}
    assert len([path for path in rows_by_case(manifest) if "/segmentations/" in path]) == 4 * 41


@pytest.mark.slow
def test_a_stand_in_for_each_part_that_is_missing_and_none_for_one_that_is_there(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path))
    for name in ("UVLM_ATM22_WEIGHTS", "UVLM_QWEN3", "UVLM_RADBERT_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    params = parse_params(compose(root, "chest"), "chest")
    texts = ["The heart is large.", "The lungs are clear."]
    found = stand_ins(params, tmp_path, texts, tmp_path / "made")
    parts = {each.part for each in found}
    assert parts == {
        "airways by atm22", "vessels by totalsegmentator", "labeller radbert", "Qwen3's tokenizer",
    }  # fmt: skip
    for each in found:
        for name, value in each.environment.items():
            monkeypatch.setenv(name, value)
    again = {each.part for each in stand_ins(params, tmp_path, texts, tmp_path / "again")}
    assert again == {"vessels by totalsegmentator", "labeller radbert"}


@pytest.mark.slow
def test_stand_ins_have_the_shapes_of_what_they_stand_for(tmp_path: Path) -> None:
    texts = ["Findings: The heart is enlarged.", "Findings: No nodule."]
    (tmp_path / "tokenizer.json").write_text(as_large_as_qwen3(texts), encoding="utf-8")
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.is_qwen3
    assert tokenizer.vocabulary_size == 151_669
    for text in (*texts, "filler 3 <|im_end|> \u2264 5 mm"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    load_network(random_airway_weights(tmp_path / "airway.safetensors"))
    first, second = (random_airway_weights(tmp_path / f"{n}.safetensors") for n in "ab")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
def test_the_peak_is_that_of_the_command_and_its_children_not_of_who_starts_it(
    tmp_path: Path,
) -> None:
    held = np.ones(300 * 2**20, np.uint8)  # of this process
    work = "import time; x = b'1' * (40 * 2**20); time.sleep(0.6)"
    start = f"subprocess.Popen([sys.executable, '-c', {work!r}])"
    two = f"import subprocess, sys; [p.wait() for p in [{start} for _ in '12']]"
    found = watch([sys.executable, "-c", two], tmp_path, dict(os.environ))
    assert held.nbytes > 0
    assert found.code == 0
    assert 40 < found.peak_mb < 120
    assert found.together_mb > 80
    assert (
        watch([sys.executable, "-c", "raise SystemExit(3)"], tmp_path, dict(os.environ)).code == 3
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_watched_command_ends_with_who_watches_it_and_so_do_its_children(
    number: signal.Signals, tmp_path: Path
) -> None:
    child = "import os, time; open(str(os.getpid()), 'w').close(); time.sleep(60)"
    two = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from pipeline.rehearse.watch import watch\n"
        # Also where a shell began the tests in the background, and Ctrl-C is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"watch([sys.executable, '-c', {two!r}], Path({str(tmp_path)!r}), dict(os.environ))"
    )
    watching = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    while not (found := list(tmp_path.iterdir())):
        assert watching.poll() is None
        time.sleep(0.05)
    watching.send_signal(number)
    _, said = watching.communicate(timeout=60)
    assert ("SIGTERM" if number == signal.SIGTERM else "KeyboardInterrupt") in said
    deadline = time.monotonic() + 30
    while psutil.pid_exists(int(found[0].name)):
        assert time.monotonic() < deadline, "the grandchild goes on"
        time.sleep(0.05)


def test_what_cannot_be_rehearsed_is_refused_and_nothing_is_written(
    root: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="which no hub serves"):
        list(rehearse(root, Request("phantom", tmp_path / "out")))
    assert not (tmp_path / "out").exists()
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match="exists, and no rehearsal"):
        list(rehearse(root, Request("chest", tmp_path / "there")))


@pytest.mark.slow
def test_too_little_memory_for_the_lightest_training_is_said_before_anything_is_made(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVLM_MEMORY", "600MB")
    said = r"train_seg: would need [\d,]+ MiB by estimate of 572 MiB \(UVLM_MEMORY says so\)"
    with pytest.raises(SetupError, match=said):
        list(rehearse(root, Request("chest", tmp_path / "out", edge=32, train=4, test=2)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("memory", "said_by_user", "kept"),
    [("1300MB", None, "no"), ("1300MB", "yes", "yes"), ("8GB", None, None)],
)
@pytest.mark.slow
def test_what_was_made_lighter_for_its_memory_gives_freed_memory_back(
    memory: str,
    said_by_user: str | None,
    kept: str | None,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UVLM_MEMORY", memory)
    monkeypatch.delenv("UVLM_KEEP_MEMORY", raising=False)
    if said_by_user:
        monkeypatch.setenv("UVLM_KEEP_MEMORY", said_by_user)
    request = Request("chest", tmp_path / "out", edge=32, train=4, test=2)
    begun = _begin(root, request, compose(root, "chest"), None)
    assert (begun.notes != []) == (memory == "1300MB")
    assert _environment(root, request, begun, "").get("UVLM_KEEP_MEMORY") == kept
    assert any("UVLM_KEEP_MEMORY=no" in note for note in begun.notes) == (kept == "no")


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("watched_without_mlflow")
@pytest.mark.parametrize("profile", ["chest", "abdomen"])
def test_a_profile_runs_through_at_a_small_size_and_leaves_a_table(
    profile: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("UVLM_ATM22_WEIGHTS", "UVLM_QWEN3", "UVLM_RADBERT_WEIGHTS", "UVLM_LLM_URL"):
        monkeypatch.delenv(name, raising=False)
    out = tmp_path / "out"
    shown = list(rehearse(root, Request(profile, out, edge=48, train=6, test=2)))
    document = json.loads((out / "rehearsal.json").read_text())
    stages = {each["stage"]: each for each in document["stages"]}
    assert "summarize" in stages
    assert all(each["seconds"] > 0 and each["together_mb"] > 20 for each in stages.values())
    assert stages["preprocess"]["cases"] == 8
    page = (out / "project" / "reports" / "summary.md").read_text()
    for part in document["stand_ins"]:
        assert any(part in line for line in shown)
        assert part in (out / "rehearsal.md").read_text()
        assert part in page


@pytest.mark.slow
@pytest.mark.usefixtures("watched_without_mlflow")
def test_a_stage_that_fails_ends_the_rehearsal_with_its_name_and_the_same_command_goes_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request("chest", tmp_path / "out", edge=32, train=4, test=2)
    monkeypatch.setenv("UVLM_WORKERS", "none")  # refused by the first stage that reads it
    with pytest.raises(SetupError, match=r"preprocess: ended with exit code 2"):
        list(rehearse(root, request))
    with pytest.raises(ConfigError, match=r"holds a rehearsal of profile chest, edge 32"):
        list(rehearse(root, replace(request, edge=48)))
    monkeypatch.delenv("UVLM_WORKERS")
    scans = {path: path.stat().st_mtime_ns for path in (request.out / "scans").rglob("*.nii.gz")}
    going_on, shown = rehearse(root, request), list[str]()
    while not (shown and shown[-1].startswith("preprocess")):
        shown.append(next(going_on))
    with pytest.raises(SetupError, match="another rehearsal runs in it"):
        list(rehearse(root, request))
    del going_on  # ends the hub
    stages = [line.split()[0] for line in shown if not line.startswith(("stand-in", "smaller"))]
    assert stages == ["download", "index", "preprocess"]
    assert [line.endswith(", before") for line in shown[-3:]] == [True, True, False]
    assert {path: path.stat().st_mtime_ns for path in scans} == scans

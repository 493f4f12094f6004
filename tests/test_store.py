"""The store keeps what it was given, notices what changed, and never shows half a file."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uvlm import store
from uvlm.errors import ConfigError, DataError, SetupError
from uvlm.files import key_of, store_root, write_text_atomic
from uvlm.store.upkeep import Loose, Part
from uvlm.text.predictions import CasePrediction, load_predictions, write_predictions
from uvlm.tracking import JsonlTracker, read_history

HU = npt.NDArray[np.int16]


@pytest.fixture
def array() -> HU:
    return np.random.default_rng(0).integers(-1000, 1000, (30, 40, 50)).astype(np.int16)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UVLM_DATA_ROOT", str(tmp_path / "store"))
    return tmp_path / "store"


def row(case: str, path: str = "a/b.b2nd", sha256: str = "0" * 64) -> store.Row:
    return store.Row(case, "k", path, sha256, "phantom:0", {"voxels": {"1": 2}, "note": "é\u2028"})


def test_an_array_comes_back_bit_for_bit_with_its_digest(tmp_path: Path, array: HU) -> None:
    sha256 = store.save_array(tmp_path / "x" / "a.b2nd", array, {"mean": 1.5})
    np.testing.assert_array_equal(store.load_array(tmp_path / "x" / "a.b2nd", sha256), array)
    assert store.read_note(tmp_path / "x" / "a.b2nd") == {"sha256": sha256, "mean": 1.5}


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float16).reshape(2, 3),
        np.zeros((1, 1, 1), np.uint8),
        np.ones((2, 3, 4, 5), np.float32),
        np.arange(7, dtype=np.int64),
    ],
)
def test_any_shape_and_type_can_be_stored(tmp_path: Path, array: npt.NDArray[np.generic]) -> None:
    store.save_array(tmp_path / "a.b2nd", array)
    loaded = store.load_array(tmp_path / "a.b2nd")
    assert loaded.dtype == array.dtype
    np.testing.assert_array_equal(loaded, array)


def test_a_region_is_the_same_as_slicing_the_whole(tmp_path: Path, array: HU) -> None:
    store.save_array(tmp_path / "a.b2nd", array)
    part = (slice(3, 29), slice(0, 33), slice(31, 50))
    np.testing.assert_array_equal(store.load_region(tmp_path / "a.b2nd", part), array[part])


def test_the_digest_follows_content_type_and_shape_but_not_memory_layout(array: HU) -> None:
    sha256 = store.array_sha256(array)
    assert store.array_sha256(np.asfortranarray(array)) == sha256
    assert store.array_sha256(array.astype(">i2")) == sha256
    others: list[npt.NDArray[np.generic]] = [
        array + 1,
        array.astype(np.int32),
        array.reshape(40, 30, 50),
    ]
    assert sha256 not in [store.array_sha256(other) for other in others]


def test_a_flipped_bit_in_a_stored_array_is_noticed(tmp_path: Path, array: HU) -> None:
    path = tmp_path / "a.b2nd"
    sha256 = store.save_array(path, array)
    payload = bytearray(path.read_bytes())
    for position in range(len(payload) // 3, len(payload), len(payload) // 7):
        damaged = payload.copy()
        damaged[position] ^= 16
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.b2nd"):
            store.load_array(path, sha256)


def test_a_cut_array_is_refused_and_has_no_note(tmp_path: Path, array: HU) -> None:
    path = tmp_path / "a.b2nd"
    store.save_array(path, array)
    path.write_bytes(path.read_bytes()[:60])
    assert store.read_note(path) is None
    with pytest.raises(DataError, match="not a readable array"):
        store.load_array(path)
    with pytest.raises(DataError, match="not in the store"):
        store.load_array(tmp_path / "none.b2nd")


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    write_text_atomic(path, "old")

    def no_space(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_text_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_manifest_is_sorted_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    store.write_manifest(path, [row("train_2"), row("train_10")])
    lines = path.read_text(encoding="utf-8").split("\n")
    assert [json.loads(line)["case"] for line in lines if line] == ["train_10", "train_2"]
    assert json.loads(lines[0])["voxels"] == {"1": 2}
    assert store.read_manifest(path) == [row("train_10"), row("train_2")]


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ('{"case": "a"}\n', "key"),
        ("not json\n", "not a manifest row"),
        ('{"case": "a", "key": "k", "path": "p", "sha256": "s", "source": "x"}', "middle of a"),
        ('{"case": "a", "key": "k", "path": "p", "sha256": "s", "source": "x"}\n' * 2, "twice"),
        ("[1]\n", "not a manifest row"),
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: str, fact: str) -> None:
    (tmp_path / "m.jsonl").write_text(text)
    with pytest.raises(DataError, match=fact):
        store.read_manifest(tmp_path / "m.jsonl")


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such manifest"):
        store.read_manifest(tmp_path / "m.jsonl")


def test_missing_bytes_name_the_stage_to_force(root: Path) -> None:
    with pytest.raises(DataError, match="dvc repro -f -s preprocess"):
        store.resolve(row("train_1"), "preprocess")
    (root / "a").mkdir(parents=True)
    (root / "a" / "b.b2nd").touch()
    assert store.resolve(row("train_1"), "preprocess") == root / "a" / "b.b2nd"


def test_the_store_is_in_the_project_unless_the_environment_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UVLM_DATA_ROOT", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert store_root() == tmp_path / "data" / "store"
    monkeypatch.delenv("DVC_ROOT")
    monkeypatch.chdir(tmp_path)
    assert store_root() == tmp_path / "data" / "store"


def test_the_quarantine_list_is_written_also_when_it_is_empty(tmp_path: Path) -> None:
    store.write_quarantine(tmp_path / "q" / "a.jsonl", [])
    assert store.read_quarantine(tmp_path / "q" / "a.jsonl") == []
    assert (tmp_path / "q" / "a.jsonl").stat().st_size > 0  # DVC warns of an empty output
    refusal = store.Refusal("c", "c.nii.gz", "non_finite", "3 voxels are NaN", "get it again")
    store.write_quarantine(tmp_path / "q" / "a.jsonl", [refusal])
    assert store.Refusal(**json.loads((tmp_path / "q" / "a.jsonl").read_text())) == refusal


@pytest.mark.parametrize("end", list("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"))
def test_a_line_end_inside_a_fact_ends_no_line(tmp_path: Path, end: str) -> None:
    path = tmp_path / "q.jsonl"
    refusals = [store.Refusal(c, f"{c}{end}.nii", "header", f"has{end}this", "") for c in "ab"]
    store.write_quarantine(path, refusals)
    assert store.read_quarantine(path) == refusals
    rows = [store.Row(c, "k", "p", "0", f"from{end}here", {"report": f"a{end}b"}) for c in "ab"]
    store.write_manifest(path, rows)
    assert store.read_manifest(path) == rows
    said = [CasePrediction(c, "", f"Findings:{end}none{end}") for c in "ab"]
    write_predictions(path, said)
    assert load_predictions(path) == said
    tracker = JsonlTracker(tmp_path / "history.jsonl")
    tracker.tags({"host": f"a{end}b"})
    tracker.log({"loss": 0.5}, 1)
    first, second = read_history(tracker.path)
    assert (first["tags"]["host"], second["step"]) == (f"a{end}b", 1)


def test_more_refusals_than_allowed_stop_the_stage() -> None:
    store.check_quarantine_share("index", 5, 100, 0.05)
    store.check_quarantine_share("index", 0, 0, 0.05)
    with pytest.raises(DataError, match="6 of 100 cases were refused, more than the 5% allowed"):
        store.check_quarantine_share("index", 6, 100, 0.05)


@settings(deadline=None)
@given(st.lists(st.one_of(st.integers(), st.text(), st.none(), st.booleans())))
def test_a_key_is_16_hex_digits_and_ignores_the_order_of_an_object(parts: list[object]) -> None:
    key = key_of(*parts)
    assert len(key) == 16
    assert int(key, 16) >= 0
    assert key_of({"a": 1, "b": parts}) == key_of({"b": parts, "a": 1})
    assert key_of(*parts, "more") != key


def square(number: int) -> int:
    return number * number


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_mapping_keeps_the_order_and_tells_how_far_it_is(workers: int) -> None:
    heard: list[tuple[str, int, int]] = []
    results = store.map_cases(
        square,
        range(100),
        workers=workers,
        description="squares",
        progress=lambda *done: heard.append(done),
    )
    assert results == [number * number for number in range(100)]
    assert heard[-1] == ("squares", 100, 100)
    assert [done for _, done, _ in heard] == sorted({done for _, done, _ in heard})


def test_mapping_nothing_gives_nothing() -> None:
    assert store.map_cases(square, [], workers=2) == []


def refuse(number: int) -> int:
    raise DataError("case", f"number {number}", "none")


def test_the_error_of_a_case_reaches_the_caller_as_it_was() -> None:
    with pytest.raises(DataError, match=r"case: number \d+; none"):
        store.map_cases(refuse, range(50), workers=2)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("UVLM_WORKERS", "many", ConfigError),
        ("UVLM_WORKERS", "0", ConfigError),
        ("UVLM_EXECUTOR", "dusk://x", ConfigError),
        ("UVLM_EXECUTOR", "ray", SetupError),
    ],
)
def test_a_bad_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, error: type[Exception]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("UVLM_WORKERS", "2")
    monkeypatch.setenv(name, value)
    with pytest.raises(error, match=name):
        store.map_cases(square, range(100))


def test_verify_lists_what_is_missing_or_damaged(root: Path, tmp_path: Path, array: HU) -> None:
    sha256 = store.save_array(root / "a/good.b2nd", array)
    store.save_array(root / "a/other.b2nd", array + 1)
    (root / "t.csv").write_text("x")
    rows = [
        row("good", "a/good.b2nd", sha256),
        row("other", "a/other.b2nd", sha256),
        row("gone", "a/gone.b2nd", sha256),
        row("table", "t.csv", hashlib.sha256(b"x").hexdigest()),
    ]
    manifest = tmp_path / "preprocess.jsonl"
    store.write_manifest(manifest, rows)
    damaged = [
        "preprocess: gone: a/gone.b2nd is missing",
        "preprocess: other: a/other.b2nd is damaged",
    ]
    assert list(store.verify(root, [manifest]).problems) == damaged
    (root / "t.csv").write_text("y")
    assert list(store.verify(root, [manifest]).problems) == [
        *damaged,
        "preprocess: table: t.csv is damaged",
    ]


@settings(max_examples=20, deadline=None)
@given(at=st.integers(0, 499), bit=st.integers(0, 7), cut=st.integers(0, 499))
def test_no_flipped_bit_and_no_cut_in_a_raw_file_is_intact(at: int, bit: int, cut: int) -> None:
    content = np.random.default_rng(0).bytes(500)
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "ct.nii.gz").write_bytes(content)
        manifest = root / "download.jsonl"
        digest = hashlib.sha256(content).hexdigest()
        store.write_manifest(manifest, [store.Row("a", "k", "ct.nii.gz", digest, "hub:a@b")])
        assert store.verify(root, [manifest]).problems == ()
        flipped = bytearray(content)
        flipped[at] ^= 1 << bit
        for damaged in (bytes(flipped), content[:cut]):
            (root / "ct.nii.gz").write_bytes(damaged)
            assert len(store.verify(root, [manifest]).problems) == 1


def test_a_share_of_the_store_is_hashed_and_the_rest_has_to_exist(
    root: Path, tmp_path: Path
) -> None:
    root.mkdir()
    names = [f"{number}.txt" for number in range(200)]
    for name in names[1:]:
        (root / name).write_text("damaged")
    manifest = tmp_path / "download.jsonl"
    store.write_manifest(manifest, [row(name, name) for name in names])
    one, other = (store.verify(root, [manifest], part=Part(0.25, seed)).problems for seed in (1, 2))
    assert "download: 0.txt: 0.txt is missing" in one
    assert 20 < len(one) < 80
    assert set(one) != set(other)
    assert len(store.verify(root, [manifest], part=Part(0.0)).problems) == 1


def everything(root: Path) -> set[str]:
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}


def test_only_arrays_are_collected_and_raw_data_on_request(root: Path, array: HU) -> None:
    for name in ("a/named.b2nd", "a/loose.b2nd", "a/.b.b2nd.host.1.abc", "raw/c/.listing.json"):
        store.save_array(root / name, array)
    for name in ("raw/revisions.json", "raw/c/ct.nii.gz", "code/a/x/y", "weights/w.safetensors"):
        write_text_atomic(root / name, name)
    write_text_atomic(root / "raw/own/series/0.dcm", "named by its folder")
    before, named = everything(root), {"a/named.b2nd", "raw/own/series"}
    assert [file.path for file in store.loose_files(root, named)] == ["a/loose.b2nd"]
    with_raw = store.loose_files(root, named, raw=True)
    assert [file.path for file in with_raw] == ["a/loose.b2nd", "raw/c/ct.nii.gz"]
    assert [f.num_bytes for f in with_raw] == [(root / f.path).stat().st_size for f in with_raw]
    store.remove(root, with_raw)
    assert before - everything(root) == {"a/loose.b2nd", "raw/c/ct.nii.gz"}


def test_an_array_that_a_living_process_is_making_is_not_collected(root: Path, array: HU) -> None:
    store.save_array(root / "a/x.b2nd", array)
    hold = (
        "import sys; from pathlib import Path; from uvlm.store.once import _locked\n"
        "with _locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(root / "a/x.b2nd")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert store.loose_files(root, set()) == []
        store.remove(root, [Loose("a/x.b2nd", 1)])
        process.kill()
    assert [file.path for file in store.loose_files(root, set())] == ["a/x.b2nd"]

"""The hub misbehaves in twelve ways: a download ends verified and complete, or clearly fails."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.data.sets.hub.server import COMMIT, FAULTS, FILES, LARGE, SMALL, FakeHub, ranges
from uvlm.data.sets.hub import Hub, Patience, Repo, Snapshot, pin
from uvlm.errors import ConfigError, DataError, SetupError, UvlmError

# What mends itself when it happens once, and what a server does for ever.
REASONS = {
    "429_retry_after": (SetupError, "429"),
    "429": (SetupError, "429"),
    "500": (SetupError, "500"),
    "503": (SetupError, "503"),
    "timeout": (SetupError, "gave up"),
    "reset": (None, ""),  # each answer brings bytes, so the file is completed by ranges
    "short_body": (None, ""),
    "wrong_etag": (None, ""),  # not believed: size and sha256 decide
    "html_body": (DataError, "a web page instead of the file"),
    "wrong_size": (DataError, "gave up"),
    "wrong_sha256": (DataError, "its (sha256|git sha1) is"),
    "missing_in_listing": (DataError, "1 wanted files are not on the hub"),
}


@pytest.fixture
def pauses() -> list[float]:
    """How long the download has waited."""
    return []


@pytest.fixture
def snapshot(fake: FakeHub, tmp_path: Path, pauses: list[float]) -> Snapshot:
    """The commit that the fake serves; waiting takes no time and is written down."""
    patience = Patience(waits=(1.0, 2.0, 4.0), timeout=0.3)
    hub = Hub(fake.endpoint, patience, sleep=pauses.append)
    return Snapshot(hub, Repo(fake.repo, COMMIT), tmp_path / "mirror")


def is_complete(snapshot: Snapshot) -> bool:
    return all((snapshot.folder / p).read_bytes() == content for p, content in FILES.items())


def test_the_list_of_faults_is_the_one_that_is_tested() -> None:
    assert tuple(REASONS) == FAULTS
    assert len(FAULTS) == 12


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_ends_verified_and_complete(
    fault: str, fake: FakeHub, snapshot: Snapshot
) -> None:
    fake.fault, fake.times = fault, 1
    if fault in ("missing_in_listing", "wrong_size"):  # the listing is believed until it fails
        with pytest.raises(DataError):
            snapshot.fetch(FILES, "files")
    snapshot.fetch(FILES, "files")
    assert is_complete(snapshot)
    assert fake.times == 0


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_is_a_clear_failure_and_a_rerun_after_it_completes(
    fault: str, fake: FakeHub, snapshot: Snapshot
) -> None:
    fake.fault, fake.times = fault, -1
    error, fact = REASONS[fault]
    if error is None:
        snapshot.fetch(FILES, "files")
    else:
        with pytest.raises(error, match=fact) as caught:
            snapshot.fetch(FILES, "files")
        assert "\n" not in str(caught.value)
        assert not is_there(snapshot, LARGE)
        fake.fault = ""
        snapshot.fetch(FILES, "files")
    assert is_complete(snapshot)
    assert not list(snapshot.folder.rglob("*.part"))


def is_there(snapshot: Snapshot, path: str) -> bool:
    return (snapshot.folder / path).exists()


@pytest.mark.slow
def test_retry_after_is_obeyed_and_waits_grow_without_it(
    fake: FakeHub, snapshot: Snapshot, pauses: list[float]
) -> None:
    fake.fault, fake.times = "429_retry_after", 1
    snapshot.fetch([SMALL], "files")
    assert pauses == [7.0]
    fake.fault, fake.times = "429", 3
    snapshot.fetch([LARGE], "files")
    assert pauses == [7.0, 1.0, 2.0, 4.0]


def test_a_hub_that_asks_for_an_hour_is_not_waited_for(fake: FakeHub, snapshot: Snapshot) -> None:
    fake.fault, fake.times = "429_retry_after", -1
    hurried = Hub(fake.endpoint, Patience(waits=(0.0,), longest_wait=5.0))
    with pytest.raises(SetupError, match="asks to wait 7 s; run the same command later"):
        Snapshot(hurried, snapshot.repo, snapshot.folder).fetch([SMALL], "files")


@pytest.mark.parametrize("fault", ["reset", "short_body"])
def test_what_arrived_before_a_break_is_not_asked_for_again(
    fault: str, fake: FakeHub, snapshot: Snapshot
) -> None:
    fake.fault, fake.times = fault, 1
    snapshot.fetch([LARGE], "files")
    assert is_there(snapshot, LARGE)
    assert sum(ranges(fake).values()) == 1
    ((asked, _),) = ranges(fake).items()
    assert 0 < int(asked[6:-1]) <= len(FILES[LARGE]) // 2


def test_a_part_left_by_a_killed_run_is_continued(fake: FakeHub, snapshot: Snapshot) -> None:
    part = snapshot.folder / Path(LARGE).parent / f".{Path(LARGE).name}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(FILES[LARGE][:150_000])
    snapshot.fetch([LARGE], "files")
    assert (snapshot.folder / LARGE).read_bytes() == FILES[LARGE]
    assert ranges(fake) == {"bytes=150000-": 1}
    assert not part.exists()


@pytest.mark.parametrize("left", [b"x" * 150_000, b"x" * 200_000, b"x" * 300_000])
def test_a_part_with_wrong_bytes_is_begun_anew(left: bytes, snapshot: Snapshot) -> None:
    part = snapshot.folder / Path(LARGE).parent / f".{Path(LARGE).name}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(left)
    snapshot.fetch([LARGE], "files")
    assert (snapshot.folder / LARGE).read_bytes() == FILES[LARGE]


def test_a_second_run_asks_the_hub_nothing(fake: FakeHub, snapshot: Snapshot) -> None:
    snapshot.fetch(FILES, "files")
    fake.requests.clear()
    files = snapshot.fetch(FILES, "files")
    assert fake.requests == []
    assert files[LARGE].sha256 is not None
    assert files[SMALL].sha256 is None
    assert is_complete(snapshot)


def test_the_repository_is_never_listed(fake: FakeHub, snapshot: Snapshot) -> None:
    snapshot.fetch(FILES, "files")
    assert fake.counted("/tree/") == 0
    assert fake.counted("paths-info") == 1


def test_every_missing_file_is_counted_and_the_first_are_named(snapshot: Snapshot) -> None:
    with pytest.raises(DataError, match=r"4 wanted files are not on the hub: a, b, c, \.\.\."):
        snapshot.fetch(["d", "c", "b", "a", SMALL], "files")


@pytest.mark.slow
def test_a_gate_is_explained(fake: FakeHub, snapshot: Snapshot) -> None:
    fake.gate = "another-token"
    with pytest.raises(SetupError, match=r"accept the terms .* and set HF_TOKEN"):
        snapshot.fetch(FILES, "files")
    fake.gate = "a-token"
    snapshot.fetch(FILES, "files")
    assert is_complete(snapshot)


def test_a_repository_or_revision_that_is_not_there_is_named(
    fake: FakeHub, snapshot: Snapshot, tmp_path: Path
) -> None:
    with pytest.raises(SetupError, match="someone/else: the hub refuses access"):
        pin(snapshot.hub, "someone/else", "main", tmp_path / "pins.json")


def test_a_branch_keeps_the_commit_of_its_first_download(
    fake: FakeHub, snapshot: Snapshot, tmp_path: Path
) -> None:
    record = tmp_path / "pins.json"
    assert pin(snapshot.hub, fake.repo, "main", record) == Repo(fake.repo, COMMIT)
    ((_, path, _),) = fake.requests
    assert path.endswith("/revision/main?expand=sha")  # without the names of 150,000 files
    fake.requests.clear()
    assert pin(snapshot.hub, fake.repo, "main", record) == Repo(fake.repo, COMMIT)
    assert pin(snapshot.hub, fake.repo, "a" * 40, record).commit == "a" * 40
    assert fake.requests == []


def test_offline_is_one_clear_line(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SetupError, match="HF_HUB_OFFLINE forbids the network; unset it"):
        snapshot.fetch(FILES, "files")


def test_a_full_disk_is_no_fault_of_the_hub_and_what_is_there_is_continued(
    fake: FakeHub, snapshot: Snapshot
) -> None:
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_fetch_with_a_full_disk, args=(snapshot,))
    process.start()
    process.join(60)
    assert process.exitcode == SetupError.exit_code
    part = snapshot.folder / Path(LARGE).parent / f".{Path(LARGE).name}.part"
    assert FILES[LARGE].startswith(part.read_bytes())
    assert not is_there(snapshot, LARGE)
    snapshot.fetch(FILES, "files")
    assert is_complete(snapshot)


def _fetch_with_a_full_disk(snapshot: Snapshot) -> None:
    """End with the exit code of what happens when no file may grow beyond 100 kB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        snapshot.fetch([LARGE], "files")
    except SetupError as error:
        os._exit(error.exit_code if "cannot be written (File too large)" in str(error) else 1)
    os._exit(0)


def test_a_bug_is_not_explained_away(snapshot: Snapshot) -> None:
    def broken() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        snapshot.hub.patiently("x", broken)


def test_a_wrong_number_of_downloads_is_a_usage_error(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVLM_DOWNLOADS", "many")
    with pytest.raises(ConfigError, match="UVLM_DOWNLOADS: is 'many'"):
        snapshot.fetch(FILES, "files")


@pytest.mark.slow
def test_one_failure_stops_the_others_and_what_is_verified_stays(
    fake: FakeHub, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVLM_DOWNLOADS", "3")
    contents = {f"volumes/{i:02}.nii.gz": bytes([i]) * 5000 for i in range(20)}
    fake.files |= contents
    del fake.files["volumes/03.nii.gz"]
    with pytest.raises(DataError, match=r"not on the hub: volumes/03\.nii\.gz"):
        snapshot.fetch(contents, "files")
    fake.files["volumes/03.nii.gz"] = contents["volumes/03.nii.gz"]
    told: list[tuple[str, int, int]] = []
    snapshot.fetch(contents, "files", lambda *facts: told.append(facts))
    assert told[0] == ("asking for sizes and digests", 1, 1)  # the others are known already
    assert told[1:] == [("files", number, 20) for number in range(1, 21)]
    assert all((snapshot.folder / p).read_bytes() == c for p, c in contents.items())


def test_four_downloads_into_one_store_fetch_every_file_once(
    fake: FakeHub, snapshot: Snapshot
) -> None:
    def one(_: int) -> None:
        hub = Hub(fake.endpoint, Patience(timeout=5.0))
        Snapshot(hub, snapshot.repo, snapshot.folder).fetch(FILES, "files")

    snapshot.folder.mkdir()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))
    assert is_complete(snapshot)
    assert fake.counted("resolve") == len(FILES)


def test_every_error_is_of_the_kind_that_has_an_exit_code() -> None:
    assert {error for error, _ in REASONS.values() if error} <= set(UvlmError.__subclasses__())


def test_a_hub_out_of_reach_is_said_at_once_with_its_host(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    said: list[str] = []

    def wait(_: float) -> None:
        said.append(capsys.readouterr().err)

    with socket.socket() as unused:  # bound, but nobody listens
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        hub = Hub(f"http://{host}", Patience(waits=(1.0, 2.0)), sleep=wait)
        with pytest.raises(SetupError, match=host):
            hub.commit_of("someone/a-set", "main")
    assert said[0].startswith(f"{host}: cannot be reached")
    assert "trying again for 3 s" in said[0]
    assert said[1:] == [""]

"""AbdomenAtlas from a hub: which archives are fetched, what comes out of them, what is indexed."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.sets.conftest import never
from tests.data.sets.hub.server import COMMIT, FakeHub, sha256
from uvlm.config import AbdomenAtlasConfig, Params
from uvlm.data import index
from uvlm.data.cases import read_index
from uvlm.data.sets.abdomen_atlas.dataset import AbdomenAtlas
from uvlm.data.sets.abdomen_atlas.layout import REPO, TABLE, TEST_IDS, TRAIN_IDS, archive
from uvlm.data.sets.hub import Hub
from uvlm.errors import DataError
from uvlm.files import store_root
from uvlm.store import read_manifest

IDS = [f"BDMAP_{n:08d}" for n in (1, 2, 3, 232, 233, 234, 9262)]
COLUMNS = (
    "BDMAP ID",
    "number of liver lesion instances",
    "number of kidney lesion instances",
    "number of pancreatic lesion instances",
    "structured report",
    "narrative report",
)
Fetch = Callable[..., None]


def tar_of(members: dict[str, bytes], *, evil: bool = False) -> bytes:
    """An archive as published; `evil` adds what must never be unpacked."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for name in ("../BDMAP_00000001/ct.nii.gz", "/tmp/BDMAP_00000001/ct.nii.gz") * evil:
            entry = tarfile.TarInfo(name)
            entry.size = 4
            tar.addfile(entry, io.BytesIO(b"evil"))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE) * evil:
            entry = tarfile.TarInfo("BDMAP_00000001/ct.nii.gz")
            entry.type, entry.linkname = kind, "/etc/passwd"
            tar.addfile(entry)
    return gzip.compress(buffer.getvalue(), mtime=0)


def published() -> dict[str, bytes]:
    """Tables and archives of seven CTs in three archives."""
    rows = [",".join(COLUMNS)]
    for number, case in enumerate(IDS):
        rows.append(f'{case},{number % 2},0.0,3,"Liver:\nnormal {number}.","Text {number}."')
    contents: dict[str, dict[str, bytes]] = {}
    for case in IDS:
        images = contents.setdefault(archive("images", case), {})
        images[f"{case}/ct.nii.gz"] = f"ct of {case}".encode()
        masks = contents.setdefault(archive("masks", case), {})
        for name in ("liver_lesion", "spleen", "liver"):  # no class of ours is called liver
            masks[f"{case}/segmentations/{name}.nii.gz"] = f"{name} of {case}".encode()
    files = {name: tar_of(members, evil=True) for name, members in contents.items()}
    lists = {TRAIN_IDS: IDS[:5], TEST_IDS: IDS[5:]}
    files |= {name: "\n".join(["BDMAP ID", *ids]).encode() for name, ids in lists.items()}
    return files | {TABLE: "\n".join(rows).encode()}


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UVLM_DATA_ROOT", str(tmp_path / "store"))
    return tmp_path / "download.jsonl"


@pytest.fixture
def fetch(fake: FakeHub, hub: Hub, manifest: Path) -> Fetch:
    fake.others = {REPO: published()}

    def run(**changed: Any) -> None:
        fake.requests.clear()
        settings: dict[str, Any] = {"revision": COMMIT, "train": None, "test": None, "exclude": ()}
        settings |= {"report": "structured", "masks": True} | changed
        AbdomenAtlas(AbdomenAtlasConfig(**settings), 0, hub).fetch(manifest, never)

    return run


def archives(fake: FakeHub) -> set[str]:
    """The archives that were asked for, by their first id."""
    return {p.rpartition("BDMAP_BDMAP_")[2][:8] for _, p, _ in fake.requests if "tar.gz" in p}


def build(params: Params, manifest: Path) -> tuple[index.IndexSummary, dict[str, str]]:
    section = AbdomenAtlasConfig(
        revision=COMMIT, train=None, test=None, exclude=(), report="structured", masks=True
    )
    changed = {"source": "abdomen_atlas", "abdomen_atlas": section}
    download = params.download.model_copy(update=changed)
    params = params.model_copy(update={"download": download})
    out, quarantine = manifest.with_name("index.jsonl"), manifest.with_name("q.jsonl")
    summary = index.build(params, manifest, out, quarantine)
    refused = [json.loads(line) for line in quarantine.read_text().splitlines() if line]
    return summary, {entry["case"]: entry["reason"] for entry in refused}


@pytest.mark.slow
def test_every_ct_with_its_masks_is_unpacked_and_indexed(
    fetch: Fetch, manifest: Path, params: Params
) -> None:
    fetch()
    summary, refused = build(params, manifest)
    assert summary.kept == {"train": 4, "val": 1, "test": 2}
    assert refused == {}
    cases = read_index(manifest.with_name("index.jsonl"))
    assert [case.case_id for case in cases] == IDS
    assert cases[1].abnormalities == (1, 0, 1)
    assert cases[1].report.text == "Findings: Liver: normal 1."
    content = (store_root() / cases[1].volume).read_bytes()
    assert content == f"ct of {IDS[1]}".encode()
    assert cases[1].sha256 == sha256(content)
    rows = read_manifest(manifest)
    masks = [row.case for row in rows if "mask_only" in row.case]
    assert len(masks) == 2 * 7
    assert all(Path(mask).name in ("liver_lesion.nii.gz", "spleen.nii.gz") for mask in masks)
    assert all((store_root() / row.path).is_file() for row in rows)
    assert all(sha256((store_root() / row.path).read_bytes()) == row.sha256 for row in rows)


@pytest.mark.slow
def test_nothing_is_written_outside_and_no_archive_stays(fetch: Fetch, manifest: Path) -> None:
    fetch()
    assert list(store_root().rglob("*.tar.gz")) == []
    assert not any(path.is_symlink() for path in store_root().rglob("*"))
    inside = store_root() / "raw" / COMMIT[:12]
    assert {path.name for path in inside.iterdir()} == {"abdomen_atlas"}
    assert b"evil" not in b"".join(p.read_bytes() for p in inside.rglob("ct.nii.gz"))
    assert not Path("/tmp/BDMAP_00000001").exists()


@pytest.mark.slow
def test_few_patients_need_few_archives_and_a_second_run_none(
    fetch: Fetch, fake: FakeHub, manifest: Path, params: Params
) -> None:
    fetch(train=2, test=1)
    assert archives(fake) == {"00000001", "00000233"}
    first = manifest.read_bytes()
    summary, refused = build(params, manifest)
    assert summary.kept == {"train": 1, "val": 1, "test": 1}
    assert summary.refused == {"not_selected": 4}
    assert refused == {}
    fetch(train=2, test=1)
    assert archives(fake) == set()
    assert manifest.read_bytes() == first
    fetch(train=2, test=2)
    assert archives(fake) == {"00009049"}


@pytest.mark.slow
def test_a_member_that_an_archive_lacks_is_named(fetch: Fetch, fake: FakeHub) -> None:
    name = archive("images", IDS[0])
    fake.others[REPO][name] = tar_of({f"{IDS[0]}/ct.nii.gz": b"ct"})
    with pytest.raises(DataError, match=f"holds no images of 3 wanted CTs, among them {IDS[1]}"):
        fetch()
    fetch(exclude=tuple(IDS[1:4]))


def test_an_archive_that_is_published_broken_is_refused(fetch: Fetch, fake: FakeHub) -> None:
    name = archive("images", IDS[0])
    fake.others[REPO][name] = b"an archive? " * 100
    with pytest.raises(DataError, match="is not a readable archive"):
        fetch()
    assert not list(store_root().rglob("ct.nii.gz"))


@pytest.mark.slow
def test_rows_without_counts_split_or_text_are_refused_by_name(
    fetch: Fetch, fake: FakeHub, manifest: Path, params: Params
) -> None:
    table = fake.others[REPO][TABLE].decode()
    table = table.replace(f"{IDS[0]},0,0.0", f"{IDS[0]},,0.0")  # unknown is not 0
    table = table.replace('"Liver:\nnormal 1."', '" "')
    table += f"\nBDMAP_1,0,0,0,a,b\n{IDS[2]},0,0,0,again,again\nBDMAP_00000005,0,0,0,a,b"
    fake.others[REPO][TABLE] = table.encode()
    fetch()
    summary, refused = build(params, manifest)
    assert refused == {
        IDS[0]: "no_labels",
        IDS[1]: "empty_report",
        IDS[2]: "duplicate_id",
        "BDMAP_1": "bad_id",
    }
    assert summary.refused["not_selected"] == 1  # in neither list of the split
    assert summary.candidates == 9 + 1 - 1


@pytest.mark.slow
def test_a_report_with_headings_of_its_own_is_taken_apart(
    fetch: Fetch, fake: FakeHub, manifest: Path, params: Params
) -> None:
    text = "CT Arterial Phase\n\nFINDINGS:\nLiver:\nnormal 1.\n\nIMPRESSION:\nNo lesion."
    files = fake.others[REPO]
    files[TABLE] = files[TABLE].replace(b"Liver:\nnormal 1.", text.encode())
    fetch()
    build(params, manifest)
    case = read_index(manifest.with_name("index.jsonl"))[1]
    assert case.findings == "CT Arterial Phase Liver: normal 1."
    assert case.impression == "No lesion."


@pytest.mark.parametrize(
    ("table", "good", "bad"),
    [
        (TABLE, b"structured report", b"report"),
        (TABLE, b"number of liver", b"liver"),
        (TABLE, b"BDMAP ID", b"ID"),
        (TRAIN_IDS, b"BDMAP_", b"case_"),
        (TEST_IDS, b"BDMAP ID", b"id"),
    ],
)
def test_a_broken_table_stops_before_any_archive_is_fetched(
    fetch: Fetch, fake: FakeHub, table: str, good: bytes, bad: bytes
) -> None:
    files = fake.others[REPO]
    assert good in files[table]
    files[table] = files[table].replace(good, bad)
    with pytest.raises(DataError, match=Path(table).name):
        fetch()
    assert archives(fake) == set()


@pytest.mark.parametrize(
    ("case", "kind", "name"),
    [
        (1, "images", "image_only/AbdomenAtlas3_images_BDMAP_BDMAP_00000001_BDMAP_00000232.tar.gz"),
        (232, "masks", "mask_only/AbdomenAtlas3_masks_BDMAP_BDMAP_00000001_BDMAP_00000232.tar.gz"),
        (233, "masks", "mask_only/AbdomenAtlas3_masks_BDMAP_BDMAP_00000233_BDMAP_00000464.tar.gz"),
        (9262, "masks", "mask_only/AbdomenAtlas3_masks_BDMAP_BDMAP_00009049_BDMAP_00009262.tar.gz"),
    ],
)
def test_archives_are_named_as_published(case: int, kind: Any, name: str) -> None:
    assert archive(kind, f"BDMAP_{case:08d}") == name
    assert len({archive("images", f"BDMAP_{n:08d}") for n in range(1, 9263)}) == 40

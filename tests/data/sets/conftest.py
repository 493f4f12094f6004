"""A hub that serves the hand-made data set of the other tests, in two repositories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import close_session, constants

from tests.data.sets.hub.server import FakeHub, serve
from tests.data.sets.own.folder import Own
from uvlm.config import Params
from uvlm.data.ct.volume import Volume
from uvlm.data.sets.hub import Hub, Patience
from uvlm.files import store_root

if TYPE_CHECKING:
    from tests.data.conftest import Dataset

METADATA = (
    "VolumeName,Manufacturer,ManufacturerModelName,ConvolutionKernel,PatientSex,PatientAge,"
    "Rows,Columns,NumberofSlices,XYSpacing,ZSpacing,RescaleIntercept,RescaleSlope\n"
)


def metadata_row(case: str, z_spacing: str = "8.0") -> str:
    return f'{case}.nii.gz,Phantom,One,B,M,036Y,12,14,10,"[7.0, 7.0]",{z_spacing},-8192,1\n'


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """An empty hub; waiting takes no time."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serve(FakeHub({})) as hub:
        yield hub
    close_session()


@pytest.fixture
def hub(fake: FakeHub) -> Hub:
    return Hub(fake.endpoint, Patience(waits=(1.0, 2.0), timeout=5.0), sleep=lambda _: None)


def never(texts: Sequence[str]) -> Sequence[Sequence[int]]:
    """The labeller of sets whose tables have labels."""
    raise AssertionError(f"asked for the labels of {len(texts)} reports")


def publish(dataset: Dataset, fake: FakeHub) -> None:
    """Put the hand-made data set on the hub as CT-RATE and ReXGroundingCT, with all tables."""
    dataset.write()
    root = store_root() / "raw/hand"
    contents = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }
    for prefix, name in (("train", "train"), ("valid", "validation")):
        cases = [case for case in dataset.reports if case.startswith(prefix)]
        table = METADATA + "".join(map(metadata_row, cases))
        contents[f"ct_rate/dataset/metadata/{name}_metadata.csv"] = table.encode()
    contents["ct_rate/dataset/metadata/no_chest_valid.txt"] = b""
    fake.others = {
        repo: {p.removeprefix(folder): c for p, c in contents.items() if p.startswith(folder)}
        for repo, folder in (
            ("ibrahimhamamci/CT-RATE", "ct_rate/"),
            ("rajpurkarlab/ReXGroundingCT", "rexgroundingct/"),
        )
    }


@pytest.fixture
def own(tmp_path: Path, volume: Volume, params: Params, monkeypatch: pytest.MonkeyPatch) -> Own:
    """Eight CTs under their ids and a table without labels."""
    monkeypatch.setenv("UVLM_DATA_ROOT", str(tmp_path / "store"))
    monkeypatch.setenv("UVLM_OWN_DATA", str(tmp_path / "mine"))
    folder = tmp_path / "mine"
    folder.mkdir()
    own = Own(folder, volume, params)
    for number in range(8):
        own.ct(f"p{number}.nii.gz", number)
    reports = [[f"p{n}", "A nodule." if n % 2 else f"Clear {n}."] for n in range(8)]
    own.table(["id", "report"], reports)
    return own

"""Edits planted in the data stages while the store is kept: each is refused with what to raise."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from uvlm.config import LABEL_KINDS, PhantomConfig
from uvlm.data.ct.volume import LabelMap
from uvlm.data.labels.pseudo.backend import Provenance
from uvlm.data.labels.pseudo.published import PublishedMasks
from uvlm.data.preprocess import Volumes
from uvlm.data.sets.phantom.dataset import write_dataset
from uvlm.errors import DataError, ReadError
from uvlm.files import store_root
from uvlm.store import Shard, every_case, read_manifest

if TYPE_CHECKING:
    from tests.data.conftest import Stages

PHANTOM = PhantomConfig(
    train_patients=4,
    test_patients=2,
    shape=(12, 18, 18),
    prevalence=0.3,
    second_scan_fraction=0.0,
    second_reconstruction_fraction=0.0,
    noise_hu=25.0,
    defects=True,
)
GROUND_GLASS, NODULE = 43, 44
SHIFT = np.array([[0, 0, 0, 7], [0, 0, 0, 7], [0, 0, 0, 7], [0, 0, 0, 0]])


@dataclass(frozen=True)
class Edit:
    """A function that decides a product, what an edit makes of its result, and its version."""

    product: str
    function: str
    edited: Callable[[Any], Any]
    version: str
    constant: str

    def plant(self, patch: pytest.MonkeyPatch, changes: bool = True) -> list[None]:
        """Edit the function, or only replace it by its like; the list grows by a None a call."""
        calls: list[None] = []
        original = resolve_name(self.function)

        def function(*args: Any, **kwargs: Any) -> Any:
            calls.append(None)
            result = original(*args, **kwargs)
            return self.edited(result) if changes else result

        patch.setattr(self.function, function)
        return calls


EDITS = [
    Edit(
        "preprocess",
        "uvlm.data.preprocess.preprocess_volume",
        lambda result: (result[0] + np.int16(100), result[1]),
        "uvlm.data.preprocess.VERSION",
        "VERSION in uvlm/data/contract.py",
    ),
    Edit(
        "preprocess",
        "uvlm.data.preprocess.likeness_of",
        lambda text: text[::-1],
        "uvlm.data.preprocess._CACHE_VERSION",
        "_CACHE_VERSION in uvlm/data/preprocess.py",
    ),
    Edit(
        "anatomy",
        "uvlm.data.labels.pseudo.published.read_label_map",
        lambda labels: LabelMap(labels.array + np.uint8(1), labels.affine),
        "uvlm.data.labels.pseudo.stage.VERSION",
        "VERSION in uvlm/data/labels/pseudo/stage.py",
    ),
    Edit(
        "label_maps",
        "uvlm.data.labels.merge.to_grid",
        lambda ids: np.where(ids == NODULE, GROUND_GLASS, ids).astype(np.uint8),
        "uvlm.data.labels.label_maps.VERSION",
        "VERSION in uvlm/data/labels/label_maps.py",
    ),
    Edit(
        "phantom",
        "uvlm.data.sets.phantom.patient.Body.draw",
        lambda body: replace(body, scale=tuple(0.9 * factor for factor in body.scale)),
        "uvlm.data.sets.phantom.dataset.FORMAT_VERSION",
        "FORMAT_VERSION in uvlm/data/sets/phantom/dataset.py",
    ),
    Edit(
        "phantom",
        "uvlm.data.sets.phantom.patient.draw_frame",  # its origin is in no record, only in files
        lambda frame: frame._replace(affine=frame.affine + SHIFT),
        "uvlm.data.sets.phantom.dataset.FORMAT_VERSION",
        "FORMAT_VERSION in uvlm/data/sets/phantom/dataset.py",
    ),
]
every_edit = pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.function)


@pytest.fixture
def stages(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> Stages:
    """Stages that stay in this process, where edits are planted."""
    monkeypatch.setenv("UVLM_WORKERS", "1")
    stages.index()
    return stages


def make(stages: Stages, product: str, code: str) -> bytes:
    """Make a product by code of a digest; what it needs is there. Gives its manifest."""
    stages.code = code
    if product == "phantom":
        write_dataset(PHANTOM, 0, stages.manifest(product), code=code)
    elif product in LABEL_KINDS:
        stages.pseudo_label(product)
    else:
        getattr(stages, product)()
    return stages.manifest(product).read_bytes()


def made_before(stages: Stages, product: str, code: str = "before") -> bytes:
    """Make a product and all that it needs."""
    if product == "label_maps":
        stages.preprocess()
        for kind in LABEL_KINDS:
            stages.pseudo_label(kind)
    return make(stages, product, code)


def files(stages: Stages) -> dict[Path, tuple[int, int]]:
    """Everything below the store and beside it, with what tells a rewritten file."""
    found = (path for path in stages.root.rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in found}


@pytest.mark.slow
@every_edit
def test_an_edit_is_refused_with_the_constant_to_raise_and_nothing_is_written(
    edit: Edit, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_before(stages, edit.product)
    before = files(stages)
    edit.plant(monkeypatch)
    with pytest.raises(DataError, match=f"raise {edit.constant} if that was meant") as error:
        make(stages, edit.product, "after")
    assert error.value.subject.startswith(("train_1", "valid_1"))
    assert files(stages) == before


@pytest.mark.slow
@every_edit
def test_with_the_constant_raised_every_case_is_made_again(
    edit: Edit, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = made_before(stages, edit.product)
    old = files(stages)
    edit.plant(monkeypatch)
    monkeypatch.setattr(edit.version, 99)
    after = make(stages, edit.product, "after")
    assert len(after.splitlines()) == len(before.splitlines())
    assert not set(after.splitlines()) & set(before.splitlines())
    assert all(path.exists() for path in old)
    calls = edit.plant(monkeypatch, changes=False)
    assert make(stages, edit.product, "after") == after
    assert not calls


@pytest.mark.slow
@every_edit
def test_an_edit_without_consequences_is_compared_once_on_at_most_three_cases(
    edit: Edit, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = made_before(stages, edit.product)
    calls = edit.plant(monkeypatch, changes=False)
    assert make(stages, edit.product, "after") == before
    assert 1 <= len(calls) <= 3
    calls.clear()
    for code in ("after", "before", "after", ""):
        assert make(stages, edit.product, code) == before
    assert not calls


@pytest.mark.slow
@every_edit
def test_a_store_from_before_digests_is_compared_too(
    edit: Edit, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = made_before(stages, edit.product, code="")
    shutil.rmtree(store_root() / "code", ignore_errors=True)
    with monkeypatch.context() as patch:
        edit.plant(patch)
        with pytest.raises(DataError, match=edit.constant):
            make(stages, edit.product, "after")
    assert make(stages, edit.product, "before") == before


@pytest.mark.slow
@every_edit
def test_a_first_run_compares_nothing_and_notes_its_code(
    edit: Edit, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = edit.plant(monkeypatch, changes=False)
    made_before(stages, edit.product)
    assert len(calls) == 11  # as many cases as there are
    make(stages, edit.product, "before")
    assert len(calls) == 11


@pytest.mark.parametrize("weights", ["", "0" * 64])
def test_one_voxel_of_a_mask_is_an_edit_and_of_a_network_another_device(
    weights: str, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def provenance(self: PublishedMasks) -> Provenance:
        return Provenance("test", "1", "MIT", weights)

    def one_voxel(label_map: LabelMap) -> LabelMap:
        array = label_map.array.copy()
        array.flat[np.flatnonzero(array)[0]] = 0
        return LabelMap(array, label_map.affine)

    monkeypatch.setattr(PublishedMasks, "provenance", provenance)
    before = made_before(stages, "anatomy")
    replace(EDITS[2], edited=one_voxel).plant(monkeypatch)
    if weights:
        assert make(stages, "anatomy", "after") == before
    else:
        with pytest.raises(DataError, match="1 of 1,680 values differ"):
            make(stages, "anatomy", "after")


def test_cases_whose_ct_is_gone_are_passed_over(
    stages: Stages, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = made_before(stages, "preprocess")
    EDITS[0].plant(monkeypatch)
    volumes = [store_root() / row.path for row in read_manifest(stages.manifest("index"))]
    for path in volumes[:4] + volumes[5:]:
        path.unlink()
    with pytest.raises(DataError, match=volumes[4].name.partition(".")[0]):
        make(stages, "preprocess", "after")
    volumes[4].unlink()
    capsys.readouterr()
    for _ in range(2):
        assert make(stages, "preprocess", "after") == before
        assert capsys.readouterr().err.count("nothing is compared\n") == 1


@pytest.mark.slow
def test_label_maps_whose_parts_are_gone_are_passed_over(
    stages: Stages, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = made_before(stages, "label_maps")
    shutil.rmtree(store_root() / "pseudo_label")
    EDITS[3].plant(monkeypatch)
    assert make(stages, "label_maps", "after") == before
    assert "label_maps: the code has changed and no stored case" in capsys.readouterr().err


def test_code_that_refuses_what_is_stored_is_refused(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_before(stages, "preprocess")

    def strict(path: Path) -> None:
        raise ReadError(path, "has a trait", "convert it", reason="trait")

    monkeypatch.setattr("uvlm.data.preprocess.read_volume", strict)
    with pytest.raises(DataError, match=r"train_1_a_1: .* it refuses .* has a trait.* raise VERS"):
        make(stages, "preprocess", "after")


def test_a_share_is_compared_with_what_others_have_stored(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes = Volumes.of(stages.params)
    every_case.run_shard(volumes, stages.cases(), Shard(1, 11), code="before")
    EDITS[0].plant(monkeypatch)
    for _ in range(2):
        with pytest.raises(DataError, match=r"train_1_a_1: .* raise VERSION"):
            every_case.run_shard(volumes, stages.cases(), Shard(2, 11), code="after")


def test_shares_of_different_code_that_started_together_are_refused_when_they_are_assembled(
    stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes, stored = Volumes.of(stages.params), store_root() / "preprocess"
    every_case.run_shard(volumes, stages.cases(), Shard(1, 2), code="before")
    stored.rename(tmp_path / "aside")  # as if neither saw what the other stores
    with monkeypatch.context() as patch:
        EDITS[0].plant(patch)
        every_case.run_shard(volumes, stages.cases(), Shard(2, 2), code="after")
        shutil.copytree(tmp_path / "aside", stored, dirs_exist_ok=True)
        with pytest.raises(DataError, match="raise VERSION"):
            make(stages, "preprocess", "after")
    with pytest.raises(DataError, match="raise VERSION"):
        make(stages, "preprocess", "before")

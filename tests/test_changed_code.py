"""Changed code and the store: which cases are compared, when, and what counts as equal."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uvlm import store
from uvlm.errors import DataError
from uvlm.files import key_of, store_root
from uvlm.store import Row, every_case
from uvlm.store.product import NETWORKS_MAY_DIFFER, Product, difference


@dataclass(frozen=True)
class Item:
    case_id: str
    number: int


ITEMS = [Item(f"case_{number}", number) for number in range(9)]


@dataclass(frozen=True)
class Squares(Product[Item]):
    """The square of a number; an edit adds something to it."""

    edit: int = 0
    made: list[int] = field(default_factory=list, compare=False)
    meanwhile: Callable[[], object] = lambda: None
    stage = "squares"
    constant = "VERSION in squares.py"

    @property
    def settings(self) -> list[int]:
        return [1]

    def key(self, item: Item) -> str:
        return key_of(self.stage, *self.settings, item.number)

    def make(self, item: Item) -> tuple[Any, dict[str, Any]]:
        self.made.append(item.number)
        if len(self.made) == 1:
            self.meanwhile()
        return np.full((2, 3), item.number**2 + self.edit), {}

    def row(self, item: Item, key: str, path: str, note: Mapping[str, Any]) -> Row:
        return Row(item.case_id, key, path, note["sha256"], "test")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UVLM_DATA_ROOT", str(tmp_path / "store"))
    monkeypatch.setenv("UVLM_WORKERS", "1")
    return tmp_path / "store"


def run(product: Squares, code: str, items: list[Item] = ITEMS) -> bytes:
    """Run the stage; gives its manifest, which is one a process."""
    out = product.root.parent / f"{code}-{os.getpid()}.jsonl"
    every_case.run(product, items, out, 0.0, code=code)
    return out.read_bytes()


def test_the_first_the_middle_and_the_last_case_are_made_again(root: Path) -> None:
    run(Squares(root), "one")
    again = Squares(root)
    run(again, "two")
    assert again.made == [0, 4, 8]


@pytest.mark.parametrize("stored", [[3], [2, 7], [0, 8]])
def test_few_stored_cases_are_made_again_once_each(root: Path, stored: list[int]) -> None:
    items = [ITEMS[number] for number in stored]
    run(Squares(root), "one", items)
    edited = Squares(root, edit=1)
    with pytest.raises(DataError, match=f"case_{stored[0]}: .* 6 of 6 values differ"):
        run(edited, "two")
    again = Squares(root)
    run(again, "two", items)
    assert again.made == stored


def test_code_that_makes_the_same_is_noted_for_everybody_and_stays_when_arrays_go(
    root: Path, tmp_path: Path
) -> None:
    first = run(Squares(root), "one")
    run(Squares(root), "two")
    for code in ("one", "two"):
        known = Squares(root)
        assert run(known, code) == first
        assert not known.made
    manifest = next(tmp_path.glob("one-*.jsonl"))
    named = {row.path for row in store.read_manifest(manifest)}
    store.remove(root, store.loose_files(root, named))
    again = Squares(root)
    assert run(again, "two") == first
    assert again.made == []


def test_code_that_went_on_while_another_stored_something_else_is_refused_without_a_manifest(
    root: Path, tmp_path: Path
) -> None:
    other = Squares(root, edit=1)
    meanwhile = partial(run, other, "other", ITEMS[5:])
    with pytest.raises(DataError, match="case_5: the changed code of squares"):
        run(Squares(root, meanwhile=meanwhile), "one")
    assert not list(tmp_path.glob("one-*.jsonl"))
    with pytest.raises(DataError, match="raise VERSION in squares"):
        run(Squares(root), "one")


def test_code_that_was_stopped_on_its_way_is_not_known(root: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Squares(root, edit=1, meanwhile=stop), "one")
    run(Squares(root), "two")
    with pytest.raises(DataError, match="case_0"):
        run(Squares(root, edit=1), "one")


def run_elsewhere(code: str, root: Path) -> tuple[int, bytes]:
    """Run in one of several processes at once."""
    os.environ["UVLM_DATA_ROOT"], os.environ["UVLM_WORKERS"] = str(root), "1"
    return os.getpid(), run(Squares(root), code)


@pytest.mark.slow
def test_processes_of_several_codes_at_once_are_all_noted(root: Path) -> None:
    codes = [f"{number % 4}" for number in range(16)]
    results = store.map_cases(partial(run_elsewhere, root=root), codes, workers=4)
    assert len({process for process, _ in results} - {os.getpid()}) > 1
    assert len({manifest for _, manifest in results}) == 1
    for code in set(codes):
        known = Squares(root)
        run(known, code)
        assert not known.made


def test_a_store_that_may_only_be_read_is_compared_every_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(Squares(root), "one")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("uvlm.store.changed_code.write_bytes_atomic", refuse)
    for _ in range(2):
        again = Squares(root)
        run(again, "two")
        assert again.made == [0, 4, 8]


def test_without_a_digest_nothing_is_compared_and_nothing_noted(root: Path) -> None:
    run(Squares(root), "")
    edited = Squares(root, edit=1)
    run(edited, "")
    assert not edited.made
    assert not (store_root() / "code").exists()


LABELS = np.random.default_rng(0).integers(0, 3, (10, 20, 30)).astype(np.uint8)


@given(st.integers(0, LABELS.size - 1))
def test_one_other_voxel_is_a_difference_unless_a_network_made_it(place: int) -> None:
    other = LABELS.copy()
    other.flat[place] += 1
    assert difference(LABELS, other, 0.0) == "1 of 6,000 values differ"
    assert difference(LABELS, other, NETWORKS_MAY_DIFFER) == ""
    assert difference(LABELS, LABELS, 0.0) == ""


def test_the_share_is_that_of_the_labelled_voxels_which_background_does_not_thin() -> None:
    airway = np.zeros((40, 40, 40), np.uint8)
    airway[10:30, 20, 20] = 1
    other = airway.copy()
    other[10, 20, 20] = 0
    assert difference(airway, other, NETWORKS_MAY_DIFFER) == "1 of 64,000 values differ"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_tokens_may_differ_by_a_part_of_their_spread(dtype: str) -> None:
    tokens = np.random.default_rng(0).normal(size=(50, 40)).astype(dtype)
    assert difference(tokens, tokens * np.array(1.004, dtype), NETWORKS_MAY_DIFFER) == ""
    assert difference(tokens, tokens + np.array(0.1, dtype), NETWORKS_MAY_DIFFER)
    assert difference(tokens, np.full_like(tokens, np.nan), NETWORKS_MAY_DIFFER)


@pytest.mark.parametrize("other", [LABELS[:5], LABELS.astype(np.int16)])
def test_another_shape_or_type_is_a_difference(other: Any) -> None:
    assert "instead of uint8 (10, 20, 30)" in difference(LABELS, other, NETWORKS_MAY_DIFFER)

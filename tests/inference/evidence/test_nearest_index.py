"""The index of training reports that a model may ship."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from uvlm.errors import DataError
from uvlm.inference.evidence.nearest import CASES, VECTORS, nearest, write_index

EMBEDDINGS = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
ROWS = [(f"train_{n}", f"Report {n}.") for n in range(20)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    write_index(tmp_path, "abc", ROWS, EMBEDDINGS)
    return tmp_path


def test_the_nearest_have_the_largest_cosines_whatever_the_lengths(folder: Path) -> None:
    query = 9 * EMBEDDINGS[4] + 0.01
    found = nearest(folder, "abc", query, 3)
    cosines = torch.nn.functional.cosine_similarity(query[None], EMBEDDINGS)
    assert [case.case_id for case in found] == [f"train_{n}" for n in cosines.topk(3).indices]
    assert found[0].report == "Report 4."
    assert [case.similarity for case in found] == pytest.approx(cosines.topk(3).values, abs=1e-4)
    assert (folder / "config.json").exists()  # other files stay


def test_a_small_index_gives_all_it_has_and_a_model_without_one_nothing(
    folder: Path, tmp_path: Path
) -> None:
    assert len(nearest(folder, "abc", EMBEDDINGS[0], 50)) == 20
    assert nearest(tmp_path / "elsewhere", "abc", EMBEDDINGS[0], 3) == []


def test_the_index_of_another_model_and_damage_are_refused_by_name(folder: Path) -> None:
    with pytest.raises(DataError, match="is the index of another model"):
        nearest(folder, "xyz", EMBEDDINGS[0], 3)
    with pytest.raises(DataError, match="not readable"):
        nearest(folder, "abc", torch.zeros(7), 3)
    write_index(folder, "abc", ROWS, EMBEDDINGS)
    (folder / VECTORS).write_bytes(b"\x00" * 40)
    with pytest.raises(DataError, match=rf"{VECTORS}: not readable"):
        nearest(folder, "abc", EMBEDDINGS[0], 3)
    (folder / VECTORS).unlink()
    with pytest.raises(DataError, match=rf"{VECTORS}: not readable"):
        nearest(folder, "abc", EMBEDDINGS[0], 3)
    (folder / CASES).unlink()
    assert nearest(folder, "abc", EMBEDDINGS[0], 3) == []

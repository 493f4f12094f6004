"""The hybrid mask against the picture in its docstring."""

from __future__ import annotations

import re

import pytest
import torch

from uvlm.model.attention import hybrid_mask


def test_hybrid_mask_matches_the_picture_in_its_docstring() -> None:
    rows = re.findall(r"^ *[vt] +((?:[01] ){3}[01])$", hybrid_mask.__doc__ or "", re.MULTILINE)
    picture = [[int(cell) for cell in row.split()] for row in rows]
    assert picture == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert hybrid_mask(2, 2).int().tolist() == picture


@pytest.mark.parametrize(("num_visual", "num_text"), [(1, 1), (5, 3), (3, 7)])
def test_hybrid_mask_follows_its_rule_cell_by_cell(num_visual: int, num_text: int) -> None:
    mask = hybrid_mask(num_visual, num_text)
    assert mask.dtype == torch.bool
    for row in range(num_visual + num_text):
        for column in range(num_visual + num_text):
            both_visual = row < num_visual and column < num_visual
            assert bool(mask[row, column]) == (both_visual or column <= row)


def test_the_last_visual_token_is_part_of_the_visual_block() -> None:
    mask = hybrid_mask(6, 4)
    assert mask[:, 5].all()
    assert mask[5, :6].all()
    assert not mask[5, 6:].any()

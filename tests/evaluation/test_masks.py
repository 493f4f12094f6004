"""Masks left out can never pay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mask_files import PARTS, MaskFiles
from uvlm.config import load_params
from uvlm.data.cases import Case, Split
from uvlm.data.label_scheme import scheme
from uvlm.evaluation.bootstrap import Resamples
from uvlm.evaluation.masks import mask_scores
from uvlm.evaluation.native_masks import MaskManifests
from uvlm.store import write_manifest

SIZES: dict[Split, int] = {"test": 8, "val": 4}


def case_of(split: Split, number: int) -> Case:
    name = f"{split}_{number}"
    return Case(name, name, name, split, "v", None, {}, (0,) * 18, "Normal.", "None.")


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(deleted=st.sets(st.integers(0, SIZES["test"] - 1), min_size=1), shift=st.integers(0, 3))
def test_deleting_masks_never_improves_a_number(
    deleted: set[int], shift: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Masks that are right, somewhat wrong and altogether wrong."""
    out = tmp_path_factory.mktemp("masks")
    config = load_params(Path(__file__).parents[2] / "params.yaml").label_maps
    names, files = scheme("chest", "fine_lesion").names, MaskFiles()
    cases: dict[Split, list[Case]] = {"test": [], "val": []}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UVLM_DATA_ROOT", str(out / "store"))
        for split, size in SIZES.items():
            for number in range(size):
                right = np.zeros((4, 6, 6), np.uint8)
                right[1:, 1:] = names.index("lung_upper_lobe_left")
                right[1:3, 2:5, 2:4] = (
                    names.index("nodule_or_mass") if number % 2 else right[1, 1, 1]
                )
                wrong = np.roll(right, shift * (number % 3), axis=1)
                cases[split].append(files.add(case_of(split, number), right, wrong))
        paths = files.write(out)
        gone = {f"test_{number}" for number in deleted}
        write_manifest(
            out / "fewer.jsonl", [row for row in files.rows["generate"] if row.case not in gone]
        )
        parts = {kind: paths[kind] for kind in PARTS}
        whole_set = MaskManifests(
            paths["preprocess"], paths["label_maps"], paths["generate"], parts
        )
        once = Resamples(np.ones((1, SIZES["test"])))
        whole, fewer = (
            mask_scores(config, cases["test"], cases["val"], manifests, once)[0]
            for manifests in (whole_set, replace(whole_set, generated=out / "fewer.jsonl"))
        )
    assert_none_better(whole, fewer)


def assert_none_better(whole: dict[str, Any], fewer: dict[str, Any]) -> None:
    for name, value in whole.items():
        if isinstance(value, dict):
            assert_none_better(value, fewer[name])
        elif isinstance(value, float) and ("distance" in name or "hausdorff" in name):
            assert fewer[name] >= value - 1e-6, name
        elif isinstance(value, float):
            assert fewer[name] <= value + 1e-6, name

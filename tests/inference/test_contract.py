"""Which preparation a command shows: the model's, the project's, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from uvlm.config import Params, params_here
from uvlm.errors import DataError
from uvlm.inference.predictor import contract_of


def test_a_model_brings_its_own_contract(report_folder: Path, params: Params) -> None:
    assert contract_of(report_folder) == params.preprocess


def test_another_kind_of_model_is_refused(seg_folder: Path) -> None:
    with pytest.raises(DataError, match="holds a seg model"):
        contract_of(seg_folder)


def test_a_project_has_the_contract_of_its_parameters(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    found = params_here()
    assert found is not None
    assert found.preprocess.orientation == "LPS"
    monkeypatch.chdir(tmp_path)
    assert params_here() is None

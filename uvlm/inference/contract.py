"""The preprocessing contract a command is to use: a model's, or that of the project it runs in."""

from __future__ import annotations

from pathlib import Path

from uvlm.config import PreprocessConfig, load_params


def contract_here(model: Path | None) -> PreprocessConfig | None:
    """Read the contract of a report model, else of params.yaml in this folder, else none."""
    if model is not None:
        from uvlm.inference.predictor import preprocess_config
        from uvlm.model.folder import read_config, read_contract
        from uvlm.model.model_config import ReportModelConfig

        config = read_config(model, ("report",))
        assert isinstance(config, ReportModelConfig)
        return preprocess_config(model, read_contract(model), config)
    params = Path("params.yaml")
    return load_params(params).preprocess if params.exists() else None

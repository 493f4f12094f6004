"""A model folder as MLflow loads and serves it: with the code that reads it, and without pickle.

    MLmodel                how to load it
    predictor_model.py     the model from code (report models only)
    artifacts/report/      the model folder, byte for byte; of the encoder, artifacts/cls/
    code/uvlm/             the library that wrote it
    requirements.txt       the packages it needs, in the versions here

`mlflow models predict -m models:/uvlm-report@champion -i cts.json --env-manager local` loads it.
"""

from __future__ import annotations

import shutil
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Final

import uvlm

_CODE: Final = Path(__file__).with_name("predictor_model.py")
_PACKAGES: Final = (
    "blosc2", "dynamic-network-architectures", "isal", "monai", "nibabel", "numpy", "pydantic",
    "pydicom", "safetensors", "scipy", "simpleitk", "tokenizers", "torch",
)  # fmt: skip


def write_served(model: Path, kind: str, folder: Path) -> None:
    """Write the folder of a LoggedModel.

    Args:
        model: a model folder, which is copied.
        kind: cls or report; only the latter can be asked to predict.
        folder: made here.
    """
    if kind != "report":
        shutil.copytree(model, folder / "artifacts" / kind)
        return
    import mlflow.pyfunc

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow, about its own interfaces
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(_CODE),
            artifacts={"report": model.resolve().as_uri()},
            code_paths=[str(Path(uvlm.__file__).parent)],
            pip_requirements=[f"{name}=={version(name)}" for name in _PACKAGES],
        )

"""The folder that MLflow serves predicts what the model folder predicts, and holds no pickle."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.runs.served import write_served
from tests.inference.conftest import body, lps
from uvlm import Predictor
from uvlm.data.ct.io import write_volume
from uvlm.files import file_sha256

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of MLflow, about itself


def test_a_served_folder_stands_alone(report_folder: Path, tmp_path: Path) -> None:
    import mlflow.pyfunc

    ct, served = tmp_path / "ein CT.nii.gz", tmp_path / "served"
    write_volume(ct, lps(body()))
    write_served(report_folder, "report", served)
    names = {path.name for path in served.rglob("*") if path.is_file()}
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".bin"))]
    for path in report_folder.iterdir():
        assert file_sha256(served / "artifacts" / "report" / path.name) == file_sha256(path)
    expected = Predictor.load(report_folder).predict(ct)
    model = mlflow.pyfunc.load_model(str(served))
    first, second = model.predict([str(ct), str(tmp_path / "nowhere.nii.gz")])
    assert first["report"] == expected.report.text
    assert first["probabilities"] == expected.probabilities
    assert "nowhere.nii.gz: no such file" in second["error"]

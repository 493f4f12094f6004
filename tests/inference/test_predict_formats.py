"""A draft does not depend on the format of the CT; a DICOM folder is an input like any file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.good_files import WRITERS
from tests.inference.conftest import body, lps
from uvlm.data.ct.io import read_label_map
from uvlm.drafts.batch import predict
from uvlm.drafts.folder import check_places
from uvlm.drafts.inputs import case_id_of, inputs_of
from uvlm.errors import ConfigError


@pytest.mark.slow
def test_every_format_gives_the_same_draft(report_folder: Path, tmp_path: Path) -> None:
    volume = lps(body())
    names = ("nii.gz, ours", "mha, zlib", "nrrd, gzip", "DICOM, jpeg_lossless")
    texts, masks = set(), []
    for number, name in enumerate(names):
        folder = tmp_path / str(number)
        folder.mkdir()
        out = folder / "out"
        predict([WRITERS[name](folder, volume)], report_folder, out)
        report = (out / "report.txt").read_text(encoding="utf-8")
        texts.add(report.partition("Read: ")[2].partition("\n")[2])
        masks.append(read_label_map(out / "segmentation.nii.gz"))
    assert len(texts) == 1
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask.array, masks[0].array)
        np.testing.assert_allclose(mask.affine, masks[0].affine, atol=1e-4)


def test_nothing_is_written_into_a_dicom_folder(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    for out in (tmp_path / "study", tmp_path / "study" / "draft"):
        with pytest.raises(ConfigError, match="inside an input"):
            check_places(inputs_of([tmp_path / "study"], out, names=False, batch=False))
    (found,) = inputs_of([tmp_path / "study"], tmp_path / "draft", names=True, batch=False)
    check_places([found])
    assert found.case_id == "study"


def test_a_folder_gives_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "study.v2").mkdir()
    monkeypatch.chdir(tmp_path / "study.v2")
    assert case_id_of(Path()) == case_id_of(tmp_path / "study.v2") == "study.v2"

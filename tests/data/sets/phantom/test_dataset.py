"""The phantom data set: the real sets' layout, from a seed, with its planted defects."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from uvlm import store
from uvlm.config import PhantomConfig
from uvlm.data.ct import io
from uvlm.data.ct.volume import ReadError, Volume, to_canonical
from uvlm.data.sets.phantom.dataset import members, write_dataset
from uvlm.evaluation.labelling.phantom import PhantomLabeller
from uvlm.files import store_root
from uvlm.text.abnormalities import ABNORMALITIES

CONFIG = PhantomConfig(
    train_patients=8,
    test_patients=4,
    shape=(36, 54, 54),
    prevalence=0.3,
    second_scan_fraction=0.3,
    second_reconstruction_fraction=0.3,
    noise_hu=25.0,
    defects=True,
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("phantom")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UVLM_DATA_ROOT", str(folder / "store"))
        patch.setenv("UVLM_WORKERS", "1")
        root = write_dataset(CONFIG, seed=5, manifest=folder / "download.jsonl")
    return root, folder / "download.jsonl"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.slow
def test_every_row_of_the_tables_has_its_volume_where_ct_rate_keeps_it(
    dataset: tuple[Path, Path],
) -> None:
    base = dataset[0] / "ct_rate/dataset"
    rows = rows_of(base / "radiology_text_reports/train_reports.csv")
    rows += rows_of(base / "radiology_text_reports/validation_reports.csv")
    assert len(rows) > len(members(CONFIG))
    for row in rows:
        name = row["VolumeName"]
        split, patient, scan, _ = name.removesuffix(".nii.gz").split("_")
        folder = f"{split}_fixed/{split}_{patient}/{split}_{patient}_{scan}"
        assert (base / folder / name).is_file()
        assert (base / "ts_seg/ts_total" / folder / name).is_file()


def test_labels_columns_are_ct_rates_eighteen_and_agree_with_the_reports(
    dataset: tuple[Path, Path],
) -> None:
    base = dataset[0] / "ct_rate/dataset"
    labels = rows_of(base / "multi_abnormality_labels/valid_predicted_labels.csv")
    reports = rows_of(base / "radiology_text_reports/validation_reports.csv")
    assert list(labels[0]) == ["VolumeName", *ABNORMALITIES]
    truth = np.array([[int(row[name]) for name in ABNORMALITIES] for row in labels])
    texts = [f"Findings: {r['Findings_EN']} Impressions: {r['Impressions_EN']}" for r in reports]
    np.testing.assert_array_equal(PhantomLabeller().label(texts), truth)


def test_grounding_masks_lie_on_their_ct_whatever_its_orientation(
    dataset: tuple[Path, Path],
) -> None:
    """A nodule's voxels are dense in the CT of the same name, read through the same axes."""
    entries = json.loads((dataset[0] / "rexgroundingct/dataset.json").read_text())
    checked = 0
    orientations = set()
    for entry in entries["train"] + entries["test"]:
        name = entry["name"]
        split, patient, scan, _ = name.removesuffix(".nii.gz").split("_")
        folder = f"{split}_fixed/{split}_{patient}/{split}_{patient}_{scan}"
        try:
            volume = io.read_volume(dataset[0] / "ct_rate/dataset" / folder / name)
        except ReadError:
            continue
        masks = io.read_findings(dataset[0] / "rexgroundingct/segmentations" / name).array
        orientations.add(volume.orientation())
        assert masks.shape[1:] == volume.array.shape
        for key, category in entry["categories"].items():
            mask = masks[int(key)] > 0
            assert mask.sum() == entry["pixels"][key]
            if category == "2d":
                assert np.median(volume.array[mask]) > 0
                checked += 1
    assert checked >= 2
    assert len(orientations) >= 3


def test_masks_of_totalsegmentator_keep_the_liver_on_the_right(dataset: tuple[Path, Path]) -> None:
    paths = sorted((dataset[0] / "ct_rate/dataset/ts_seg").rglob("valid_*.nii.gz"))
    for path in paths[:4]:
        label_map = io.read_label_map(path)
        canonical = to_canonical(Volume(label_map.array.astype(np.int16), label_map.affine))
        liver, spleen = (np.argwhere(canonical.array == i).mean(axis=0) for i in (5, 1))
        assert liver[2] < spleen[2]


def test_the_planted_defects_are_what_they_say(dataset: tuple[Path, Path]) -> None:
    by_defect = {m.defect: m.case_id for m in members(CONFIG) if m.defect}
    train = dataset[0] / "ct_rate/dataset/train_fixed"
    cut = next((train / by_defect["truncated_gzip"]).rglob("*.nii.gz"))
    with pytest.raises(EOFError):
        gzip.decompress(cut.read_bytes())
    names = [
        row["VolumeName"]
        for row in rows_of(dataset[0] / "ct_rate/dataset/radiology_text_reports/train_reports.csv")
    ]
    repeated = {name for name in names if names.count(name) == 2}
    assert {n.rsplit("_", 2)[0] for n in repeated} == {by_defect["duplicate_id"]}


def test_a_second_call_writes_nothing_and_the_manifest_is_identical(
    dataset: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root, manifest = dataset
    monkeypatch.setenv("UVLM_DATA_ROOT", str(root.parent.parent))
    monkeypatch.setenv("UVLM_WORKERS", "1")
    volume = next(root.rglob("valid_1_a_1.nii.gz"))
    before = volume.stat().st_mtime_ns
    write_dataset(CONFIG, seed=5, manifest=tmp_path / "again.jsonl")
    assert volume.stat().st_mtime_ns == before
    assert (tmp_path / "again.jsonl").read_bytes() == manifest.read_bytes()
    assert all((store_root() / row.path).exists() for row in store.read_manifest(manifest))

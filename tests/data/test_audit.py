"""Every kind of leak is planted into files and manifests and found; nothing else is found."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk

from uvlm.config import Params, load_params
from uvlm.data import index
from uvlm.data.cases import Case, Split, read_index, write_index
from uvlm.data.ct.io import read_volume, write_volume
from uvlm.data.ct.volume import Volume
from uvlm.data.leaks.fitted_on import FITTED_ON, check_fits, read_fits, write_fits
from uvlm.data.sets.ct_rate.layout import DATASET
from uvlm.data.sets.phantom.dataset import write_dataset
from uvlm.errors import DataError
from uvlm.files import store_root
from uvlm.store import Row, array_sha256, read_manifest, write_manifest
from uvlm.tables import read_table
from uvlm.text.abnormalities import ABNORMALITIES

if TYPE_CHECKING:
    from tests.data.conftest import Stages

HU = npt.NDArray[Any]
Plant = Callable[[Volume], Volume]


@pytest.fixture(scope="module")
def audited(
    root: Path, tmp_path_factory: pytest.TempPathFactory, make_stages: Callable[..., Stages]
) -> Iterator[Stages]:
    """Phantoms through every data stage, with nothing leaked."""
    folder = tmp_path_factory.mktemp("audited")
    params = load_params(root / "params.yaml")
    assert params.download.phantom is not None
    few = {"train_patients": 9, "test_patients": 3, "defects": True}
    phantom = params.download.phantom.model_copy(update=few)
    limits = {"val_fraction": 0.2, "max_quarantined_share": 0.5}
    changed = {
        "download": params.download.model_copy(update={"phantom": phantom}),
        "index": params.index.model_copy(update=limits),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UVLM_DATA_ROOT", str(folder / "store"))
        stages = make_stages(params.model_copy(update=changed), folder)
        write_dataset(phantom, 0, stages.manifest("download"))
        stages.all()
        scans = {c.scan_id for c in read_index(stages.manifest("index")) if c.split == "train"}
        write_fits(folder, {"tokenizer": {"train": scans}})
        yield stages


@pytest.fixture
def stages(audited: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stages:
    """A copy of the audited data set, to plant a leak in."""
    shutil.copytree(audited.root, tmp_path / "copy")
    monkeypatch.setenv("UVLM_DATA_ROOT", str(tmp_path / "copy" / "store"))
    return type(audited)(audited.params, tmp_path / "copy")


def cases_of(stages: Stages, split: Split) -> list[Case]:
    return [case for case in read_index(stages.manifest("index")) if case.split == split]


def change_case(stages: Stages, case_id: str, **changes: Any) -> None:
    """Change one row of the index, as a wrong adapter would."""
    cases = read_index(stages.manifest("index"))
    write_index(
        stages.manifest("index"),
        [replace(c, **changes) if c.case_id == case_id else c for c in cases],
    )


def plant_image(stages: Stages, source: Case, target: Case, change: Plant) -> None:
    """Put a changed copy of one case's CT in the place of another's, as a download would."""
    volume = change(read_volume(store_root() / source.volume))
    write_volume(store_root() / target.volume, volume)
    rows = [
        replace(row, sha256=array_sha256(volume.array)) if row.path == target.volume else row
        for row in read_manifest(stages.manifest("download"))
    ]
    write_manifest(stages.manifest("download"), rows)
    stages.index()
    stages.preprocess()


def with_other_header(volume: Volume) -> Volume:
    """Other axes, spacing and origin around the same voxels, stored as another type."""
    affine = volume.affine[:, [2, 0, 1, 3]] * [1.3, 0.9, 1.1, 1.0]
    affine[:3, 3] += 40
    return Volume(np.asarray(volume.array, np.float32), affine)


def flipped(volume: Volume) -> Volume:
    return Volume(volume.array[::-1, :, ::-1].copy(), volume.affine)


def resampled(volume: Volume) -> Volume:
    """SimpleITK's linear interpolation onto voxels a fifth smaller, over the same field of view."""
    image = sitk.GetImageFromArray(volume.array)
    size = [round(n * 1.25) for n in image.GetSize()]
    spacing = [n / m for n, m in zip(image.GetSize(), size, strict=True)]
    origin = [(s - 1) / 2 for s in spacing]
    finer = sitk.Resample(
        image, size, sitk.Transform(), sitk.sitkLinear, origin, spacing,
        image.GetDirection(), -1000, sitk.sitkInt16,
    )  # fmt: skip
    affine = volume.affine.copy()
    affine[:3, :3] *= spacing[::-1]
    return Volume(sitk.GetArrayFromImage(finer), affine)


def reconstructed(volume: Volume) -> Volume:
    """The same scan with a kernel that leaves twice the noise."""
    noise = np.random.default_rng(0).normal(0, 50, volume.array.shape)
    return Volume(np.rint(volume.array + noise).astype(np.int16), volume.affine)


@pytest.mark.slow
def test_nothing_is_found_where_nothing_leaks(audited: Stages) -> None:
    report = audited.audit()
    assert report["leaks"] == 0
    assert report["nearest"]["test"] > 1.5 * report["nearest"]["refused_below"]
    kept = {split: len(cases_of(audited, split)) for split in ("train", "val", "test")}
    refused = Counter(audited.reasons("preprocess").values())
    assert refused == {"truncated_gzip": 1, "non_finite": 1}
    volumes, maps = report["accounts"]
    assert volumes["rows"] == sum(kept.values()) == volumes["kept"] + 2
    assert maps["rows"] == maps["kept"] + sum(maps["excluded"].values())
    assert maps["excluded"]["no_volume"] == 2
    used = report["uses"]["classification, reports"]
    assert used == kept | {"train": kept["train"] - 2}  # the two that were refused
    assert json.loads((audited.root / "audit.json").read_text()) == report


@pytest.mark.parametrize("shared", ["patient_id", "scan_id"])
def test_a_patient_or_a_scan_in_two_splits_is_found(stages: Stages, shared: str) -> None:
    one, other = cases_of(stages, "val")[0], cases_of(stages, "test")[0]
    change_case(stages, one.case_id, **{shared: getattr(other, shared)})
    name = shared.removesuffix("_id")
    with pytest.raises(DataError, match=f"the same {name} of {one.case_id}.*{other.case_id}") as e:
        stages.audit()
    assert e.value.exit_code == 3


def test_an_own_patient_who_is_a_test_patient_is_found(stages: Stages) -> None:
    one, other = cases_of(stages, "val")[0], cases_of(stages, "test")[0]
    change_case(stages, one.case_id, source="folder", patient_id=other.patient_id)
    with pytest.raises(DataError, match=f"the same patient of {one.case_id}.*{other.case_id}"):
        stages.audit()


def test_a_renamed_copy_is_found_by_its_voxels_before_they_are_read(stages: Stages) -> None:
    one, other = cases_of(stages, "train")[-1], cases_of(stages, "test")[0]
    with pytest.raises(DataError, match=f"the same stored voxels of {one.case_id}"):
        plant_image(stages, other, one, lambda volume: volume)


@pytest.mark.parametrize("change", [with_other_header, flipped, resampled, reconstructed])
@pytest.mark.parametrize(("split", "other_split"), [("train", "test"), ("train", "val")])
def test_a_changed_copy_of_an_image_is_found(
    stages: Stages, change: Plant, split: Split, other_split: Split
) -> None:
    one, other = cases_of(stages, split)[-1], cases_of(stages, other_split)[0]
    plant_image(stages, other, one, change)
    pair = f"{one.case_id} .*and {other.case_id} "
    with pytest.raises(DataError, match=rf"nearly the same image \(0\.0\d+ apart\) of {pair}"):
        stages.audit()


def test_a_mask_of_a_test_patient_in_the_lesion_set_teaches_nobody(stages: Stages) -> None:
    table = next((store_root() / "raw").glob("*/rexgroundingct/dataset.json"))
    splits = json.loads(table.read_text())
    splits["train"] += splits.pop("test")
    splits["test"] = []
    splits["val"] = [splits["train"].pop(0)]
    table.write_text(json.dumps(splits))
    account = stages.index().accounts[-1]
    annotated = [case for case in cases_of(stages, "test") if case.findings_mask]
    assert account.excluded["test_patient"] == len(annotated) > 0
    assert account.excluded["its_own_val_part"] == 1
    withheld = splits["val"][0]["name"].removesuffix(".nii.gz")
    case = next(c for c in read_index(stages.manifest("index")) if c.case_id == withheld)
    assert case.findings_mask is None
    assert "findings" not in case.mask_sha256
    teaching = [c for s in ("train", "val") for c in cases_of(stages, s) if c.findings_mask]
    assert account.kept == len(teaching)


def test_a_lesion_set_that_was_learned_from_a_test_patient_is_found(stages: Stages) -> None:
    test = cases_of(stages, "test")[0]
    write_fits(stages.root, {"lesion set": {"train": [test.case_id]}})
    with pytest.raises(DataError, match=rf"of {test.case_id} \(train, lesion set\) and "):
        stages.audit()


@pytest.mark.parametrize(("objective", "split"), [("tokenizer", "train"), ("thresholds", "val")])
def test_what_was_fitted_on_the_test_split_is_found(
    stages: Stages, objective: str, split: Split
) -> None:
    cases = cases_of(stages, split)
    write_fits(stages.root, {objective: {split: [case.scan_id for case in cases]}})
    check_fits(stages.manifest("index"), [stages.root])
    test = cases_of(stages, "test")[0]
    write_fits(stages.root, {objective: {split: [cases[0].scan_id, test.scan_id]}})
    for audit in (stages.audit, lambda: check_fits(stages.manifest("index"), [stages.root])):
        with pytest.raises(DataError, match=rf"{test.case_id} \({split}, {objective}\)"):
            audit()


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (None, "no record of what it was fitted on"),
        ("{", "no record of what it was fitted on"),
        ('{"tokenizer": ["train_1_a"]}', "no record of what it was fitted on"),
        ('{"tokenizer": {"train": ["train_77_a"]}}', "1 cases that the index lacks, train_77_a"),
        ('{"tokenizer": {"all": ["train_1_a"]}}', "1 cases that the index lacks"),
    ],
)
def test_a_fit_without_a_usable_record_is_refused(
    stages: Stages, text: str | None, fact: str
) -> None:
    path = stages.root / FITTED_ON
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DataError, match=fact):
        read_fits(stages.root, cases_of(stages, "train"))


def test_a_row_that_nobody_accounts_for_is_an_error(stages: Stages) -> None:
    rows = read_manifest(stages.manifest("label_maps"))
    write_manifest(stages.manifest("label_maps"), rows[1:])
    with pytest.raises(DataError, match=r"1 of \d+ rows are neither kept nor excluded"):
        stages.audit()


def test_equal_texts_of_different_patients_are_counted_and_no_leak(stages: Stages) -> None:
    one, other = cases_of(stages, "train")[-1], cases_of(stages, "test")[0]
    change_case(stages, one.case_id, findings=other.findings, impression=other.impression)
    assert stages.audit()["leaks"] == 0


def official_split(folder: Path, root: Path) -> Path:
    """CT-RATE's validation part as its own tables say, beside as many training volumes."""
    metadata = read_table(folder / "reports/ct_rate_validation_metadata.csv", ("VolumeName",)).rows
    texts = read_table(folder / "reports/ct_rate_validation_reports.csv", ("VolumeName",)).rows
    text_by_scan = {row.values["VolumeName"]: row.values for row in texts}
    valid = [row.values["VolumeName"] for row in metadata]
    named = {"valid": valid, "train": [name.replace("valid", "train") for name in valid]}
    rows = []
    for prefix, name in (("train", "train"), ("valid", "validation")):
        reports = [["VolumeName", "Findings_EN", "Impressions_EN"]]
        labels = [["VolumeName", *ABNORMALITIES]]
        for volume in named[prefix]:
            scan = volume.rpartition("_")[0]
            text = text_by_scan[scan.replace("train", "valid")]
            reports.append([volume, text["Findings_EN"], text["Impressions_EN"]])
            labels.append([volume, *"0" * len(ABNORMALITIES)])
            place = f"{DATASET}/{prefix}_fixed/{scan.rpartition('_')[0]}/{scan}/{volume}"
            rows.append(Row(place, "k", place, f"voxels of {volume}", "ct_rate"))
        for path, table in (
            (f"{DATASET}/radiology_text_reports/{name}_reports.csv", reports),
            (f"{DATASET}/multi_abnormality_labels/{prefix}_predicted_labels.csv", labels),
        ):
            (store_root() / path).parent.mkdir(parents=True, exist_ok=True)
            with (store_root() / path).open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows(table)
            rows.append(Row(path, "k", path, "", "ct_rate"))
    write_manifest(root / "download.jsonl", rows)
    return root / "download.jsonl"


@pytest.mark.slow
def test_the_official_split_of_ct_rate_raises_no_alarm_and_loses_no_row(
    real_data: Path, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVLM_DATA_ROOT", str(tmp_path / "store"))
    manifest = official_split(real_data, tmp_path)
    summary = index.build(params, manifest, tmp_path / "index.jsonl", tmp_path / "q.jsonl")
    test = [case for case in read_index(tmp_path / "index.jsonl") if case.split == "test"]
    counts = [len({getattr(c, k) for c in test}) for k in ("case_id", "scan_id", "patient_id")]
    assert counts == [3039, 1564, 1304]
    assert summary.refused == {}
    assert [account.rows for account in summary.accounts] == [6078, 6078, 3039, 3039, 3039, 3039]
    texts: dict[str, set[str]] = {}
    for case in test:
        texts.setdefault(case.report.text, set()).add(case.patient_id)
    assert sum(len(patients) > 1 for patients in texts.values()) == 14  # counted, no leak

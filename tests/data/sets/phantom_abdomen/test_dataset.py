"""Abdominal phantoms: AbdomenAtlas' layout, lesions in their organs, reports that say so."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.profiles import compose
from tests.data.conftest import Stages
from tests.data.sets.conftest import never
from uvlm.config import AbdomenPhantomConfig, Params, parse_params
from uvlm.data.ct.io import read_label_map
from uvlm.data.ct.volume import LabelMap, Volume, to_canonical
from uvlm.data.label_scheme import scheme
from uvlm.data.sets.abdomen_atlas import layout
from uvlm.data.sets.catalogue import choose_set
from uvlm.data.sets.phantom_abdomen.anatomy import ID, KIDNEYS, LIVER, PANCREAS
from uvlm.data.sets.phantom_abdomen.dataset import AbdomenPhantoms
from uvlm.data.sets.phantom_abdomen.reports import Measured, write_report
from uvlm.data.sets.phantom_abdomen.scan import AbdomenScan, Lesion, draw_scan
from uvlm.errors import ConfigError
from uvlm.evaluation.labelling.rules import RulesLabeller
from uvlm.files import store_root
from uvlm.store import load_array, read_manifest, resolve
from uvlm.text.abnormalities import ABDOMEN_LESIONS
from uvlm.text.report import Report
from uvlm.text.sections import split_sections

SMALL = (20, 28, 28)
ORGANS = dict(zip(ABDOMEN_LESIONS, (LIVER, KIDNEYS, PANCREAS), strict=True))
RULES = RulesLabeller(ABDOMEN_LESIONS)


@pytest.fixture(scope="module")
def params(root: Path) -> Params:
    document = compose(root, "phantom_abdomen")
    document["download"]["phantom_abdomen"] |= {"train_patients": 5, "test_patients": 3}
    document["index"]["val_fraction"] = 0.3
    return parse_params(document, "phantom_abdomen")


@pytest.fixture(scope="module")
def config(params: Params) -> AbdomenPhantomConfig:
    assert params.download.phantom_abdomen is not None
    return params.download.phantom_abdomen


@pytest.fixture(scope="module")
def made(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """Every data stage over a few patients."""
    stages = Stages(params, tmp_path_factory.mktemp("abdomen"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UVLM_DATA_ROOT", str(stages.root / "store"))
        patch.setenv("UVLM_WORKERS", "1")
        choose_set(params).fetch(stages.manifest("download"), never)
        stages.all()
    return stages


@pytest.fixture
def stages(made: Stages, monkeypatch: pytest.MonkeyPatch) -> Stages:
    monkeypatch.setenv("UVLM_DATA_ROOT", str(made.root / "store"))
    return made


def table_of(stages: Stages) -> list[dict[str, str]]:
    [row] = [r for r in read_manifest(stages.manifest("download")) if r.case.endswith("Meta.csv")]
    with resolve(row, "download").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def canonical(path: Path) -> np.ndarray:
    found: LabelMap = read_label_map(path)
    return to_canonical(Volume(found.array.astype(np.int16), found.affine)).array


@pytest.mark.slow
def test_files_are_named_as_published(stages: Stages) -> None:
    paths = [row.case for row in read_manifest(stages.manifest("download"))]
    masks = [path.partition("/mask_only/")[2] for path in paths if "/mask_only/" in path]
    assert all(layout.member("masks", path) for path in masks)
    names = {path.rpartition("/")[2].removesuffix(".nii.gz") for path in masks}
    assert {"liver", "pancreas"} == names - set(ID)  # published whole as well, and not read
    assert len(names & set(ID)) > 30
    cts = {f"abdomen_atlas/{layout.image(f'BDMAP_{n:08d}')}" for n in range(1, 9)}
    assert cts == {path for path in paths if path.endswith("ct.nii.gz")}


def test_all_cases_are_kept_and_split_as_the_lists_say(stages: Stages) -> None:
    splits = {case.case_id: case.split for case in stages.cases()}
    assert len(splits) == 8
    assert [case for case, split in splits.items() if split == "test"] == [
        f"BDMAP_{n:08d}" for n in (6, 7, 8)
    ]
    for stage in ("index", "preprocess", "label_maps"):
        assert stages.reasons(stage) == {}


def test_counts_masks_report_and_label_map_tell_of_the_same_lesions(stages: Stages) -> None:
    rows = {row["BDMAP ID"]: row for row in table_of(stages)}
    names = scheme("abdomen", "coarse_lesion").names
    maps = {r.case: r for r in read_manifest(stages.manifest("label_maps"))}
    agree = []
    for case in stages.cases():
        above = store_root() / case.volume.removesuffix(layout.image(case.case_id))
        drawn = load_array(resolve(maps[case.case_id], "label_maps"))
        for kind, flag in zip(ABDOMEN_LESIONS, case.abnormalities, strict=True):
            name = kind.lower().replace(" ", "_")
            mask = read_label_map(above / layout.mask(case.case_id, name)).array
            count = int(rows[case.case_id][f"number of {kind.lower()} instances"])
            said = re.findall(rf"{kind} \d+:", rows[case.case_id]["structured report"])
            assert (len(said), int(mask.any())) == (count, flag) == (count, int(count > 0))
            agree.append((names.index(name) in drawn) == flag)
    assert np.mean(agree) > 0.9  # a single voxel may be lost to the network's grid


def test_the_rules_read_from_every_report_what_was_planted(stages: Stages) -> None:
    cases = stages.cases()
    texts = [Report(case.findings, case.impression).text for case in cases]
    assert RULES.label(texts).tolist() == [list(case.abnormalities) for case in cases]


def test_the_liver_is_on_the_right_in_every_orientation(stages: Stages) -> None:
    for case in stages.cases():
        above = store_root() / case.volume.removesuffix(layout.image(case.case_id))
        liver, spleen = (
            np.argwhere(canonical(above / layout.mask(case.case_id, name))).mean(axis=0)
            for name in ("liver", "spleen")
        )
        assert liver[2] < spleen[2]  # x grows to the patient's left


def test_lesions_lie_in_their_organ_and_the_smallest_is_one_voxel(
    config: AbdomenPhantomConfig,
) -> None:
    everywhere = {"present": dict.fromkeys(ABDOMEN_LESIONS, 0.999), "sizes": (0.0, 0.0)}
    for seed in range(3):
        smallest = config.model_copy(update=everywhere)
        scan = draw_scan(smallest, SMALL, np.random.default_rng(seed))
        assert {lesion.kind for lesion in scan.lesions} == set(ABDOMEN_LESIONS)
        for lesion in scan.lesions:
            assert np.isin(scan.organs[lesion.mask], ORGANS[lesion.kind]).all()
            assert lesion.mask.sum() == 1


def test_a_report_is_measured_from_the_masks() -> None:
    organs = np.full((4, 6, 6), ID["liver_segment_4"], np.uint8)
    organs[0] = ID["spleen"]
    organs[1, 0], organs[1, 1] = ID["kidney_left"], ID["pancreas_tail"]
    mask = np.zeros(organs.shape, np.bool_)
    mask[2:4, 3, 2:4] = True
    mask[3, 4, 2] = True
    lesion = Lesion("Liver lesion", mask, ID["liver_segment_4"], is_dark=True)
    hu = np.full(organs.shape, 100, np.int16)
    hu[mask] = 20
    scan = AbdomenScan(hu.astype(float), organs, (lesion,))
    text = write_report(Measured(scan, hu, (5.0, 10.0, 20.0)))
    # Slice 4 of 4 has three voxels: 2 x 10 mm along y, 2 x 20 mm along x. A voxel is 1 cc.
    assert "Location: hepatic segment 4. " in text
    assert "Size: 4.0 x 2.0 cm (image 4). Volume: 5.0 cc. " in text
    assert "Hypoattenuating (HU value is 20.0 +/- 0.0). " in text
    assert "Spleen: \nNormal size (volume: 36.0 cc). " in text
    assert "Hypoattenuating liver lesion of 4.0 cm, hepatic segment 4." in text
    report = split_sections(text).report
    assert report.impression.startswith("Hypoattenuating liver lesion")
    assert RULES.label([report.text]).tolist() == [[1, 0, 0]]


def test_wrong_names_of_lesions_are_refused(config: AbdomenPhantomConfig) -> None:
    wrong = config.model_copy(update={"present": {"Liver lesion": 0.5}})
    with pytest.raises(ConfigError) as caught:
        AbdomenPhantoms(wrong, 0)
    assert str(caught.value) == (
        "download.phantom_abdomen.present: names Liver lesion; "
        "name Liver lesion, Kidney lesion, Pancreatic lesion"
    )

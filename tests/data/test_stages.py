"""Index to label maps over a hand-made data set: what is kept, refused, skipped and painted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from uvlm.config import LABEL_KINDS, BackendConfig, LabelKind
from uvlm.data.cases import read_index
from uvlm.data.contract import contract_sha256
from uvlm.data.ct.grid import Geometry, preprocess_volume
from uvlm.data.ct.io import read_volume
from uvlm.data.label_scheme import scheme
from uvlm.data.labels.label_maps import native_label_map
from uvlm.data.leaks.fitted_on import write_fits
from uvlm.errors import ConfigError, DataError
from uvlm.files import store_root
from uvlm.store import Row, load_array, read_manifest, resolve, rows_by_case, save_array

if TYPE_CHECKING:
    from tests.data.conftest import Dataset, Stages

GROUND_GLASS, NODULE, LUNG, HEART, ARTERY = 43, 44, 10, 21, 34


def volume_path(stages: Stages, case: str) -> Path:
    row = next(row for row in read_manifest(stages.manifest("index")) if row.case == case)
    return store_root() / row.path


def test_preprocessing_keeps_good_cases_and_names_bad_ones(stages: Stages) -> None:
    stages.index()
    cut = volume_path(stages, "train_1_a_1")
    cut.write_bytes(cut.read_bytes()[:-20])
    gone = volume_path(stages, "train_2_a_1")
    gone.unlink()
    assert stages.preprocess() == {"kept": 9, "truncated_gzip": 1, "missing_file": 1}
    assert stages.reasons("preprocess") == {
        "train_1_a_1": "truncated_gzip",
        "train_2_a_1": "missing_file",
    }
    config = stages.params.preprocess
    for row in read_manifest(stages.manifest("preprocess")):
        array, geometry = preprocess_volume(read_volume(volume_path(stages, row.case)), config)
        np.testing.assert_array_equal(load_array(resolve(row, "preprocess"), row.sha256), array)
        assert row.extra["shape"] == [8, 10, 12]
        assert row.extra["contract_sha256"] == contract_sha256(config)
        assert row.extra["mean"] == pytest.approx(array.mean(), abs=1e-5)
        again = Geometry.from_json(row.extra["native"])
        np.testing.assert_array_equal(again.grid_affine, geometry.grid_affine)


def test_nothing_of_the_users_is_changed_or_deleted(stages: Stages, dataset: Dataset) -> None:
    stages.index()
    for case, damage in (("train_1_a_1", b""), ("train_2_a_1", b"<html>"), ("train_3_a_1", b"PK")):
        volume_path(stages, case).write_bytes(damage)
    dataset.raw("phantom_masks/airway/train_4_a_1.nii.gz").write_bytes(b"\x1f\x8b")

    def files() -> dict[Path, tuple[bytes, int]]:
        raw = (path for path in (store_root() / "raw").rglob("*") if path.is_file())
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in raw}

    before = files()
    assert stages.preprocess()["kept"] == 8
    for kind in LABEL_KINDS:
        stages.pseudo_label(kind)
    stages.label_maps()
    limit = stages.params.index.model_copy(update={"max_quarantined_share": 0.0})
    stages.params = stages.params.model_copy(update={"index": limit})
    for stage in (stages.preprocess, lambda: stages.pseudo_label("airway")):
        with pytest.raises(DataError, match="cases were refused, more than the 0% allowed"):
            stage()
    assert files() == before


def test_too_many_bad_volumes_stop_preprocessing(stages: Stages) -> None:
    limit = stages.params.index.model_copy(update={"max_quarantined_share": 0.05})
    stages.index()
    stages.params = stages.params.model_copy(update={"index": limit})
    volume_path(stages, "train_1_a_1").write_bytes(b"")
    with pytest.raises(DataError, match="1 of 11 cases were refused"):
        stages.preprocess()
    assert stages.reasons("preprocess") == {"train_1_a_1": "empty_file"}
    assert not stages.manifest("preprocess").exists()


def test_a_second_run_makes_nothing_and_gives_the_same_bytes(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.all()
    names = ("index", "preprocess", *LABEL_KINDS, "label_maps")
    first = {name: stages.manifest(name).read_bytes() for name in names}

    def never(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr("uvlm.store.once.save_array", never)
    stages.all()
    assert {name: stages.manifest(name).read_bytes() for name in names} == first


@pytest.mark.slow
def test_one_changed_volume_costs_one_case(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    stages.all()
    lines = stages.manifest("index").read_text().splitlines()
    changed = json.loads(lines[0])
    lines[0] = json.dumps(changed | {"sha256": "1" * 64})
    stages.manifest("index").write_text("\n".join(lines) + "\n")
    made: list[Path] = []

    def count(path: Path, *args: Any) -> str:
        made.append(path)
        return save_array(path, *args)

    monkeypatch.setattr("uvlm.store.once.save_array", count)
    stages.preprocess()
    assert len(made) == 1


def test_pseudo_labels_are_canonical_whatever_the_layout_of_the_file(stages: Stages) -> None:
    stages.index()
    assert stages.pseudo_label("anatomy") == {"kept": 11}
    for row in read_manifest(stages.manifest("anatomy")):
        labels = load_array(resolve(row, "pseudo_label@anatomy"), row.sha256)
        assert labels.shape == (10, 12, 14)
        assert (labels[5:9, 3:9, 3:11] == 10).all()
        assert (labels[2:5, 3:9, 3:11] == 51).all()
        assert np.count_nonzero(labels) == 7 * 6 * 8
        assert row.extra["backend"] == "phantom"


def test_a_case_without_a_mask_is_refused_by_name(stages: Stages, dataset: Dataset) -> None:
    stages.index()
    path = dataset.raw("phantom_masks/airway/train_3_a_1.nii.gz")
    path.unlink()
    assert stages.pseudo_label("airway") == {"kept": 10, "missing_file": 1}
    assert stages.reasons("pseudo_label_airway") == {"train_3_a_1": "missing_file"}


@pytest.mark.parametrize(("kind", "name"), [("vessel", "ct_rate_masks"), ("anatomy", "magic")])
def test_a_backend_that_is_not_there_is_named(stages: Stages, kind: LabelKind, name: str) -> None:
    labellers = stages.params.pseudo_label.model_copy(update={kind: BackendConfig(backend=name)})
    stages.params = stages.params.model_copy(update={"pseudo_label": labellers})
    with pytest.raises(ConfigError, match=f"{kind}.backend: there is no backend {name}; use"):
        stages.pseudo_label(kind)


def test_a_label_map_holds_anatomy_vessels_and_lesions_on_the_grid_of_the_image(
    stages: Stages,
) -> None:
    stages.all()
    expected = np.zeros((10, 12, 14), np.uint8)
    expected[5:9, 3:9, 3:11] = ARTERY  # the vessel mask covers the whole lung
    expected[2:5, 3:9, 3:11] = HEART
    expected[6:8, 4:8, 4:8] = GROUND_GLASS
    expected[7, 5, 5] = NODULE
    rows = read_manifest(stages.manifest("label_maps"))
    assert len(rows) == 11
    volumes = rows_by_case(stages.manifest("preprocess"))
    for row in rows:
        geometry = Geometry.from_json(volumes[row.case].extra["native"])
        grid = load_array(resolve(row, "label_maps"), row.sha256)
        sampled = geometry.labels_to_grid(expected)
        np.testing.assert_array_equal(
            grid[sampled != NODULE], np.where(grid == NODULE, NODULE, sampled)[sampled != NODULE]
        )
        assert np.count_nonzero(grid == NODULE) == 1
        ids, counts = np.unique(grid, return_counts=True)
        assert row.extra["voxels"] == {str(i): int(n) for i, n in zip(ids, counts, strict=True)}
        assert row.extra["annotated"] is True


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coarse", "coarse_lesion"])
def test_other_schemes_are_the_fine_map_folded(stages: Stages, name: str) -> None:
    stages.all()
    fine = rows_by_case(stages.manifest("label_maps"))
    section = stages.params.label_maps.model_copy(update={"scheme": name})
    stages.params = stages.params.model_copy(update={"label_maps": section})
    stages.label_maps()
    lut = scheme("chest", section.scheme).lut
    for row in read_manifest(stages.manifest("label_maps")):
        folded = lut[load_array(resolve(fine[row.case], "label_maps"))]
        np.testing.assert_array_equal(load_array(resolve(row, "label_maps")), folded)


def test_the_native_label_map_lies_on_the_ct_and_is_what_the_grid_samples(stages: Stages) -> None:
    stages.all()
    config = stages.params.label_maps
    volumes, grids, *parts = (
        rows_by_case(stages.manifest(name)) for name in ("preprocess", "label_maps", *LABEL_KINDS)
    )
    for case in read_index(stages.manifest("index")):
        geometry = Geometry.from_json(volumes[case.case_id].extra["native"])
        of_case = [rows[case.case_id] for rows in parts]
        kinds: dict[str, Row] = dict(zip(LABEL_KINDS, of_case, strict=True))
        native = native_label_map(case, kinds, config, geometry, store_root())
        ct = read_volume(store_root() / case.volume)
        assert native.array.shape == ct.array.shape
        np.testing.assert_allclose(native.affine, ct.affine, atol=1e-4)
        sampled = geometry.labels_to_grid(geometry.order.forward(native.array))
        grid = load_array(resolve(grids[case.case_id], "label_maps"))
        put_back = sampled != grid
        assert put_back.mean() < 0.01
        assert np.isin(grid[put_back], sorted(scheme("chest", "fine_lesion").lesion_ids)).all()


def test_lesions_that_nobody_drew_are_not_taught_as_background(
    stages: Stages, dataset: Dataset
) -> None:
    patients = ("train_1", "train_2")
    dataset.without_findings_mask |= set(patients)
    only_cardiomegaly = [str(int(k == 2)) for k in range(18)]
    dataset.labels["train_1_a_1"] = [only_cardiomegaly]
    stages.all()
    assert stages.label_maps() == {"kept": 10, "unannotated": 1}
    rows = rows_by_case(stages.manifest("label_maps"))
    assert "train_2_a_1" not in rows
    assert rows["train_1_a_1"].extra["annotated"] is False


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coarse", "coarse_lesion", "fine_lesion"])
@pytest.mark.parametrize(
    ("cases", "left_out"),
    [
        ("annotated", {"train_1_a_1": "not_annotated", "train_2_a_1": "lesions_not_drawn"}),
        ("annotated_and_normal", {"train_2_a_1": "lesions_not_drawn"}),
        ("all", {}),
    ],
)
def test_every_scheme_learns_from_the_same_cases_and_only_those_are_labelled(
    cases: str, left_out: dict[str, str], name: str, stages: Stages, dataset: Dataset
) -> None:
    dataset.without_findings_mask |= {"train_1", "train_2"}
    dataset.labels["train_1_a_1"] = [["0"] * 18]
    dataset.labels["train_2_a_1"] = [["0"] * 17 + ["1"]]
    section = stages.params.label_maps.model_copy(update={"scheme": name, "cases": cases})
    audit = stages.params.audit.model_copy(update={"near_duplicate": 1e-9})  # they are all alike
    stages.params = stages.params.model_copy(update={"label_maps": section, "audit": audit})
    if cases == "all" and name != "coarse":
        with pytest.raises(ConfigError, match=r"label_maps\.cases: all would teach .*coarse"):
            stages.all()
        return
    stages.all()
    every = {case.case_id for case in stages.cases()}
    made = {frozenset(rows_by_case(stages.manifest(m))) for m in (*LABEL_KINDS, "label_maps")}
    assert made == {frozenset(every - left_out.keys())}
    write_fits(stages.root, {"tokenizer": {"train": ["train_3_a"]}})
    report = stages.audit()
    (account,) = (a for a in report["accounts"] if a["name"] == "label maps")
    assert account["excluded"] == dict(Counter(left_out.values()))
    counts = report["stage_1"]
    assert counts["train"] + counts["val"] == 8 - len(left_out)
    assert (counts["cases"], counts["in_the_paper"]) == (cases, None)


def test_masks_of_the_abdomen_are_its_classes_and_bring_their_lesions(
    stages: Stages, dataset: Dataset
) -> None:
    """Id 10 is the colon there, and nobody needs a findings mask; 51 is no class of it."""
    dataset.without_findings_mask |= set(dataset.patients)
    update = {"dataset": "abdomen", "scheme": "fine_lesion", "priority": ("anatomy", "lesion")}
    section = stages.params.label_maps.model_copy(update=update)
    stages.params = stages.params.model_copy(update={"label_maps": section})
    stages.all()
    assert stages.label_maps() == {"kept": 11, "unannotated": 0}
    for row in read_manifest(stages.manifest("label_maps")):
        assert set(row.extra["voxels"]) == {"0", "10"}
        assert row.extra["annotated"] is True


def test_labels_on_another_grid_are_brought_onto_the_ct_and_those_beside_it_refused(
    stages: Stages,
) -> None:
    """One case's anatomy is said to lie one voxel to the left, another's half a metre away."""
    stages.all()
    before = rows_by_case(stages.manifest("label_maps"))
    lines = [json.loads(line) for line in stages.manifest("anatomy").read_text().splitlines()]
    lines[0]["affine"][0][3] += 7.0
    lines[1]["affine"][0][3] += 500.0
    text = "".join(json.dumps(line) + "\n" for line in lines)
    stages.manifest("anatomy").write_text(text)
    assert stages.label_maps() == {"kept": 10, "unannotated": 0, "no_overlap": 1}
    assert stages.reasons("label_maps") == {lines[1]["case"]: "no_overlap"}
    moved = rows_by_case(stages.manifest("label_maps"))
    case = lines[0]["case"]
    hearts = [
        load_array(resolve(rows[case], "label_maps"), rows[case].sha256) == HEART
        for rows in (before, moved)
    ]
    centres = [np.argwhere(heart)[:, 2].mean() * 14 / 12 for heart in hearts]  # voxels of the CT
    assert centres[1] - centres[0] == pytest.approx(1.0, abs=0.6)


def test_lesion_has_to_be_painted_last(stages: Stages) -> None:
    section = stages.params.label_maps.model_copy(update={"priority": ("lesion", "anatomy")})
    stages.params = stages.params.model_copy(update={"label_maps": section})
    with pytest.raises(ConfigError, match="lesions always survive"):
        stages.label_maps()

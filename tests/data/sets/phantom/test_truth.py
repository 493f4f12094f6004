"""What merging and resizing cost: label maps of phantoms against the bodies they were drawn from.

The truth is put together here, voxel class by voxel class, from the published masks in the CT's
own grid; the label map went through pseudo-labels, merging and the network's grid.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.data.conftest import Stages
from uvlm import store
from uvlm.arrays import Ids
from uvlm.config import Params, load_params
from uvlm.data.cases import read_index
from uvlm.data.ct.grid import Geometry
from uvlm.data.ct.io import read_findings, read_label_map
from uvlm.data.label_scheme import fine_classes
from uvlm.data.sets.ct_rate.cases import mask_path
from uvlm.data.sets.phantom.dataset import write_dataset
from uvlm.files import store_root

FINE = fine_classes("chest")
ORGANS = {1: 1, 5: 5, 6: 6, 10: 10, 11: 11, 12: 12, 13: 13, 14: 14, 16: 16, 51: 21, 52: 22}
FIRST_LESION = 35
Maps = dict[str, tuple[Ids, Ids, Geometry]]


@pytest.fixture(scope="module")
def phantom_params() -> Params:
    """The phantom profile with fewer patients and no defects."""
    params = load_params(Path(__file__).parents[4] / "params.yaml")
    phantom = params.download.phantom
    assert phantom is not None
    few = phantom.model_copy(update={"train_patients": 36, "test_patients": 6, "defects": False})
    download = params.download.model_copy(update={"phantom": few})
    return params.model_copy(update={"download": download, "seed": 3})


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory, phantom_params: Params) -> Maps:
    """By case: the truth in the CT's own grid, the label map on the network's, the geometry."""
    folder = tmp_path_factory.mktemp("truth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UVLM_DATA_ROOT", str(folder / "store"))
        assert phantom_params.download.phantom is not None
        write_dataset(phantom_params.download.phantom, 3, folder / "download.jsonl")
        stages = Stages(phantom_params, folder)
        stages.all()
        volumes = {r.case: r for r in store.read_manifest(stages.manifest("preprocess"))}
        rows = {r.case: r for r in store.read_manifest(stages.manifest("label_maps"))}
        found = {}
        for case in read_index(stages.manifest("index")):
            if case.case_id in rows:
                row = rows[case.case_id]
                grid = store.load_array(store.resolve(row, "label_maps"), row.sha256)
                geometry = Geometry.from_json(volumes[case.case_id].extra["native"])
                root = store_root()
                truth = true_map(
                    *(read_label_map(root / mask_path(case, k)).array for k in KINDS),
                )
                if case.findings_mask:
                    mask = read_findings(root / case.findings_mask).array
                    for channel, code in case.finding_categories.items():
                        truth[mask[int(channel)] > 0] = FINE.lesion_id_by_category[code]
                found[case.case_id] = truth, grid, geometry
    return found


KINDS = ("total", "airway", "vessel")


def true_map(total: Ids, airway: Ids, vessel: Ids) -> Ids:
    truth = np.zeros_like(total)
    for published, class_id in ORGANS.items():
        truth[total == published] = class_id
    truth[(total >= 25) & (total <= 50)] = 20
    free = np.isin(truth, [0, 10, 11, 12, 13, 14, 16])
    truth[free & (airway == 1)] = 16
    truth[free & (vessel == 3)] = 34
    truth[free & (vessel == 4)] = 23
    return truth


def dice(one: Ids, other: Ids, class_id: int) -> float:
    a, b = one == class_id, other == class_id
    return float(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))


def mean_by_class(pairs: list[tuple[Ids, Ids]], first: int, last: int) -> dict[str, float]:
    """Mean Dice over cases of every class that is in the second of a pair."""
    scores: dict[int, list[float]] = {}
    for found, truth in pairs:
        for number in map(int, np.unique(truth)):
            if first <= number <= last:
                scores.setdefault(number, []).append(dice(found, truth, number))
    return {FINE.names[number]: float(np.mean(values)) for number, values in scores.items()}


@pytest.mark.slow
def test_on_the_network_grid_the_label_map_is_the_truth(maps: Maps) -> None:
    """Merging loses nothing: all that may differ is what was put back, a voxel an instance."""
    assert len(maps) > 25
    pairs = [(g, geo.labels_to_grid(geo.order.forward(t))) for t, g, geo in maps.values()]
    for name, value in mean_by_class(pairs, 1, 48).items():
        assert value > 0.999, name


@pytest.mark.slow
def test_what_resizing_costs_every_structure(maps: Maps) -> None:
    """From the CT's grid to the network's and back, by nearest voxel, with up to a ninth more."""
    pairs = [(geo.labels_to_native(grid).array, truth) for truth, grid, geo in maps.values()]
    anatomy, lesions = mean_by_class(pairs, 1, 34), mean_by_class(pairs, FIRST_LESION, 48)
    costs = {name: round(value, 3) for name, value in (anatomy | lesions).items()}
    sys.stdout.write(f"{json.dumps(costs)}\n")
    assert set(anatomy) >= {FINE.names[i] for i in (*ORGANS.values(), 20, 23, 34)}
    assert np.mean(list(anatomy.values())) > 0.97
    assert np.mean(list(lesions.values())) > 0.96
    assert min((anatomy | lesions).values()) > 0.92


def test_a_segmentation_scores_the_same_against_the_label_map_and_the_exact_anatomy(
    maps: Maps,
) -> None:
    """Masks as good as a network's, here the label map moved by a voxel: Dice on either grid."""
    on_grid, exact = [], []
    for truth, grid, geometry in maps.values():
        predicted = np.roll(grid, 1, axis=1)
        on_grid.append((predicted, grid))
        exact.append((geometry.labels_to_native(predicted).array, truth))
    for first, last in ((1, 34), (FIRST_LESION, 48)):
        one, other = (list(mean_by_class(p, first, last).values()) for p in (on_grid, exact))
        sys.stdout.write(f"Dice on the grid {np.mean(one):.4f}, exact {np.mean(other):.4f}\n")
        assert 0.7 < np.mean(one) < 0.9
        assert abs(np.mean(one) - np.mean(other)) < 0.01

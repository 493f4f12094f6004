"""Who is ill: prevalences and pairs as measured; how it looks: from one voxel to a lobe."""

from __future__ import annotations

import csv
from itertools import combinations
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from uvlm.config import LongtailConfig
from uvlm.data.sets.catalogue import SETS
from uvlm.data.sets.longtail.disease import Longtail, correlations
from uvlm.data.sets.longtail.grammar import LOBAR
from uvlm.data.sets.phantom.anatomy import Body
from uvlm.data.sets.phantom.canvas import LOBES
from uvlm.data.sets.phantom.scan import Scan
from uvlm.errors import ConfigError
from uvlm.evaluation.labelling.rules import RulesLabeller
from uvlm.text.abnormalities import ABNORMALITIES

SHAPE = (32, 48, 48)
NUM_DRAWS = 4000
COLUMN = {name: number for number, name in enumerate(ABNORMALITIES)}
# Of a lobe, without a limit to their size.
CLOUDS = ("Emphysema", "Lung opacity", "Consolidation", "Bronchiectasis")
LOBAR_ABNORMALITIES = (
    *CLOUDS,
    "Atelectasis",
    "Interlobular septal thickening",
    "Lung nodule",
    "Peribronchial thickening",
    "Pulmonary fibrotic sequela",
)


def drawn(config: LongtailConfig, num: int = NUM_DRAWS) -> np.ndarray:
    disease, generator = Longtail(config), np.random.default_rng(0)
    found = (disease.draw(generator) for _ in range(num))
    return np.array([[name in names for name in ABNORMALITIES] for names in found], np.int64)


def scan_of(config: LongtailConfig, *names: str, seed: int = 0) -> Scan:
    generator = np.random.default_rng(seed)
    return Longtail(config).paint(Body.draw(generator), names, SHAPE, generator)


def test_each_abnormality_is_as_frequent_as_the_profile_says(config: LongtailConfig) -> None:
    wanted = np.array([config.present[name] for name in ABNORMALITIES])
    deviation = np.sqrt(wanted * (1 - wanted) / NUM_DRAWS)
    np.testing.assert_array_less(np.abs(drawn(config).mean(axis=0) - wanted), 4 * deviation)
    assert (min(wanted), max(wanted)) == (0.07, 0.438)


def test_pairs_are_as_frequent_as_two_correlated_normal_numbers_beyond_their_thresholds(
    config: LongtailConfig,
) -> None:
    flags, latent = drawn(config), np.array(correlations())
    thresholds = [NormalDist().inv_cdf(config.present[name]) for name in ABNORMALITIES]
    for i, j in combinations(range(len(ABNORMALITIES)), 2):
        pair = stats.multivariate_normal([0, 0], [[1, latent[i, j]], [latent[i, j], 1]])
        wanted = float(pair.cdf([thresholds[i], thresholds[j]]))
        found = float((flags[:, i] & flags[:, j]).mean())
        assert abs(found - wanted) < 4.5 * np.sqrt(wanted * (1 - wanted) / NUM_DRAWS)


def test_without_co_occurrence_abnormalities_are_independent(config: LongtailConfig) -> None:
    alone = drawn(config.model_copy(update={"co_occurrence": 0.0}))
    together = drawn(config)
    i, j = COLUMN["Coronary artery wall calcification"], COLUMN["Arterial wall calcification"]
    assert abs(np.corrcoef(alone.T)[i, j]) < 0.07
    assert np.corrcoef(together.T)[i, j] > 0.6


@pytest.mark.slow
def test_prevalences_and_pairs_are_those_of_the_published_reports(
    config: LongtailConfig, real_data: Path
) -> None:
    with (real_data / "reports/ct_rate_validation_reports.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    texts = [f"Findings: {r['Findings_EN']} Impressions: {r['Impressions_EN']}" for r in rows]
    published, flags = RulesLabeller().label(texts), drawn(config)
    np.testing.assert_allclose(
        [config.present[name] for name in ABNORMALITIES], published.mean(axis=0), atol=0.01
    )
    together, there = flags.T @ flags / len(flags), published.T @ published / len(published)
    # Both are samples: 4,000 drawn and 1,564 published.
    bound = 4.5 * np.sqrt(there * (1 - there) * (1 / len(flags) + 1 / len(published))) + 0.004
    assert (np.abs(together - there) < bound).all()


def test_the_smallest_finding_of_every_kind_is_one_voxel(config: LongtailConfig) -> None:
    smallest = config.model_copy(update={"sizes": (0.0, 0.0)})
    for name in set(ABNORMALITIES) - {"Cardiomegaly"}:
        for lesion in scan_of(smallest, name).lesions:
            numbers, voxels = np.unique(lesion.instances, return_counts=True)
            assert set(voxels[numbers > 0]) == {1}, name


@pytest.mark.parametrize("name", CLOUDS)
def test_the_largest_fills_its_lobes(name: str, config: LongtailConfig) -> None:
    largest = config.model_copy(update={"sizes": (1.0, 1.0)})
    scan = scan_of(largest, name)
    covered = scan.lesions[0].instances > 0
    lobes = {int(organ) for organ in np.unique(scan.organs[covered])}
    assert lobes <= set(LOBES)
    np.testing.assert_array_equal(covered, np.isin(scan.organs, list(lobes)) & (scan.tubes == 0))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", LOBAR_ABNORMALITIES)
def test_side_and_lobe_in_words_are_those_of_the_mask(
    name: str, seed: int, config: LongtailConfig
) -> None:
    scan = scan_of(config, name, seed=seed)
    finding, mask = scan.findings[0], scan.lesions[0].instances > 0
    places = {LOBES[int(organ)][:2] for organ in np.unique(scan.organs[mask])}
    sides, lobes = ({place[axis] for place in places} for axis in (0, 1))
    assert (finding.side, finding.lobe) in LOBAR
    assert sides == ({"right", "left"} if finding.side == "bilateral" else {finding.side})
    assert finding.lobe == (lobes.pop() if len(lobes) == 1 else None)


@pytest.mark.slow
def test_neither_side_is_a_good_guess(config: LongtailConfig) -> None:
    sides = [scan_of(config, "Lung opacity", seed=n).findings[0].side for n in range(60)]
    right, left = sides.count("right"), sides.count("left")
    assert 0.25 < right / (right + left) < 0.75
    assert right + left < len(sides)


def test_every_finding_can_be_seen_though_many_share_a_body(config: LongtailConfig) -> None:
    scan = scan_of(config, *ABNORMALITIES, seed=2)
    assert {f.abnormality for f in scan.findings} == set(ABNORMALITIES)
    assert len(scan.lesions) == len(ABNORMALITIES) - 1
    assert all((lesion.instances > 0).any() for lesion in scan.lesions)
    assert np.stack([m.instances > 0 for m in scan.lesions]).sum(axis=0).max() == 1


def test_a_large_heart_is_larger_than_any_normal_one(config: LongtailConfig) -> None:
    smallest = config.model_copy(update={"sizes": (0.0, 0.0)})
    generator = np.random.default_rng(0)
    body = Body.draw(generator)
    ill, healthy = (
        Longtail(smallest).paint(body, names, SHAPE, np.random.default_rng(1))
        for names in (["Cardiomegaly"], [])
    )
    assert (ill.organs == 21).sum() > 1.2 * (healthy.organs == 21).sum()


@pytest.mark.parametrize("table", ["present", "denied"])
def test_a_mistyped_abnormality_is_named_with_the_right_one(
    table: str, config: LongtailConfig
) -> None:
    shares = dict(getattr(config, table))
    shares["Emphysem"] = shares.pop("Emphysema")
    changed = config.model_copy(update={table: shares})
    with pytest.raises(ConfigError) as caught:
        SETS["longtail"](changed, 0)
    assert str(caught.value) == (
        f"download.longtail.{table}: Emphysem is no abnormality; did you mean Emphysema?"
    )
    del shares["Emphysem"]
    with pytest.raises(ConfigError, match="lacks Emphysema"):
        SETS["longtail"](config.model_copy(update={table: shares}), 0)

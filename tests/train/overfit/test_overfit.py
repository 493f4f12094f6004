"""`uvlm overfit` on a small made-up CT, and plumbing on the real one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from uvlm.config import EncoderConfig
from uvlm.data.ct.io import read_label_map, read_volume, write_label_map, write_volume
from uvlm.data.ct.volume import LabelMap, Volume
from uvlm.data.label_scheme import scheme
from uvlm.errors import ConfigError, DataError
from uvlm.inference.draft_folder import SEGMENTATION
from uvlm.train.overfit.config import OverfitConfig
from uvlm.train.overfit.overfit import METRICS, PICTURE, overfit, read_subject
from uvlm.train.overfit.picture import busiest_slices

SPLEEN, LIVER, VERTEBRA_L1 = 1, 5, 31  # ids of TotalSegmentator's task `total`
SHAPE = (12, 20, 24)
TINY = OverfitConfig(
    grid=(8, 16, 16),
    patch=(8, 16, 16),
    encoder=EncoderConfig(
        channels=(6, 8, 12, 12), strides=(1, 2, 2, 1), blocks=(1, 1, 1, 1), decoder_convs=1
    ),
    steps=110,
    batch_size=1,
    deep_supervision=(1.0, 0.5, 0.25),
    window_hu=(-200, 600),
    optim=OverfitConfig().optim.model_copy(update={"warmup_steps": 5}),
)
SMALL_PATCHES = TINY.model_copy(update={"patch": (8, 8, 8), "batch_size": 2})


def affine() -> npt.NDArray[np.float64]:
    """RAS: x to the right, y to the front; 3 mm."""
    matrix = np.zeros((4, 4))
    matrix[2, 0], matrix[1, 1], matrix[0, 2], matrix[3, 3] = 3.0, -3.0, -3.0, 1.0
    return matrix


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A CT whose liver, spleen and vertebra differ in Hounsfield units, and its labels."""
    folder = tmp_path_factory.mktemp("ct")
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[1:8, 4:14, 13:22] = LIVER
    labels[5:11, 5:13, 3:10] = SPLEEN
    labels[:, 14:19, 10:14] = VERTEBRA_L1
    hu = np.select([labels == i for i in (LIVER, SPLEEN, VERTEBRA_L1)], [60, 250, 550], -60)
    hu[:, :2] = -1000
    hu = hu + np.random.default_rng(0).normal(0, 8, SHAPE)
    write_volume(folder / "ct.nii.gz", Volume(hu.round().astype(np.int16), affine()))
    write_label_map(folder / "labels.nii.gz", LabelMap(labels, affine()))
    return folder / "ct.nii.gz", folder / "labels.nii.gz"


class Bar:
    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.losses: list[float] = []

    def update(self, step: int, total: int, loss: float | None = None) -> None:
        assert loss is not None
        self.seen.append((step, total))
        self.losses.append(loss)


@pytest.fixture(scope="module")
def trained(
    files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], Bar]:
    """The folder of one training, its numbers and what its progress bar was told."""
    out, bar = tmp_path_factory.mktemp("trained") / "new" / "out", Bar()
    return out, overfit(*files, out, config=TINY, progress=bar), bar


@pytest.mark.slow
def test_dice_rises_and_everything_is_written(trained: tuple[Path, dict[str, Any], Bar]) -> None:
    out, metrics, bar = trained
    assert metrics["dice_before"] < 0.4
    assert metrics["dice"] > 0.75
    by_class = metrics["dice_by_class"]
    assert list(by_class) == ["spleen", "liver", "spine"]
    assert metrics["dice"] == pytest.approx(np.mean(list(by_class.values())), abs=1e-4)
    assert metrics["steps"] == metrics["planned_steps"] == TINY.steps
    assert metrics["loss"] == pytest.approx(bar.losses[-1], abs=1e-4)
    assert bar.seen == [(step, TINY.steps) for step in range(1, TINY.steps + 1)]
    assert np.mean(bar.losses[-10:]) < 0.5 * np.mean(bar.losses[:10])
    assert json.loads((out / METRICS).read_text(encoding="utf-8")) == metrics
    assert (out / PICTURE).read_bytes().startswith(b"\x89PNG")
    names = {METRICS, PICTURE, SEGMENTATION, "segmentation.json"}
    assert {path.name for path in out.iterdir()} == names


@pytest.mark.slow
def test_the_segmentation_lies_on_the_ct_and_agrees_with_its_labels(
    files: tuple[Path, Path], trained: tuple[Path, dict[str, Any], Bar]
) -> None:
    out = trained[0]
    found, truth = read_label_map(out / SEGMENTATION), read_label_map(files[1])
    np.testing.assert_allclose(found.affine, truth.affine, atol=1e-4)
    names = json.loads((out / "segmentation.json").read_text(encoding="utf-8"))
    coarse = {name: int(number) for number, name in names.items()}
    for source, name in ((SPLEEN, "spleen"), (LIVER, "liver"), (VERTEBRA_L1, "spine")):
        true, predicted = truth.array == source, found.array == coarse[name]
        assert 2 * (true & predicted).sum() / (true.sum() + predicted.sum()) > 0.5


@pytest.mark.slow
def test_the_clock_ends_a_training_whose_steps_take_longer(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    long = SMALL_PATCHES.model_copy(update={"steps": 100_000})
    metrics = overfit(*files, tmp_path / "out", minutes=1 / 60, config=long)
    assert 0 < metrics["steps"] < 1000
    assert metrics["planned_steps"] == 100_000
    assert metrics["loss"] > 0
    assert metrics["seconds"] < 30


def test_without_time_for_a_step_nothing_is_written(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="minutes: is used up before"):
        overfit(*files, tmp_path / "out", minutes=1e-5, config=TINY)
    assert not (tmp_path / "out").exists()


def test_the_place_is_tried_before_the_training(files: tuple[Path, Path], tmp_path: Path) -> None:
    """These files do not belong together, which would be said first if they were read."""
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        overfit(files[0], files[0], tmp_path / "out", config=TINY)


@pytest.mark.slow
def test_a_seed_gives_the_same_training_again(files: tuple[Path, Path], tmp_path: Path) -> None:
    short = SMALL_PATCHES.model_copy(update={"steps": 6})
    first, second = (overfit(*files, tmp_path / name, config=short) for name in "ab")
    assert first["dice_by_class"] == second["dice_by_class"]
    subject = read_subject(*files, short)
    rarity = np.ones(subject.scheme.num_classes)
    one, again, other = (subject.batch(index, rarity).x for index in (3, 3, 4))
    assert one.equal(again)
    assert not one.equal(other)


def test_patches_and_their_classes_belong_together(files: tuple[Path, Path]) -> None:
    """Where the CT shows 550 HU there is spine, and air is never an organ."""
    subject = read_subject(*files, SMALL_PATCHES)
    spine = subject.scheme.names.index("spine")
    for index in range(1, 20):
        batch = subject.batch(index, np.ones(subject.scheme.num_classes))
        x, target = batch.x[:, 0].numpy(), batch.target.numpy()
        assert x.shape == target.shape == (2, 8, 8, 8)
        assert set(target[x > 0.8]) <= {spine}
        assert set(target[x < -0.9]) <= {0}


def test_files_that_do_not_belong_together_are_refused_in_one_line(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    ct, labels = files
    array = read_label_map(labels).array
    moved = affine()
    moved[:3, 3] += 3.0
    write_label_map(tmp_path / "moved.nii.gz", LabelMap(array, moved))
    write_label_map(tmp_path / "smaller.nii.gz", LabelMap(array[:-1], affine()))
    write_label_map(tmp_path / "empty.nii.gz", LabelMap(np.zeros_like(array), affine()))
    wrong: list[tuple[Path, Path, str]] = [
        (ct, tmp_path / "moved.nii.gz", "another grid"),
        (ct, tmp_path / "smaller.nii.gz", "another grid"),
        (ct, tmp_path / "empty.nii.gz", "none of the classes"),
        (ct, tmp_path / "none.nii.gz", "no such file"),
        (tmp_path / "none.nii.gz", labels, "no such file"),
    ]
    for first, second, words in wrong:
        with pytest.raises(DataError, match=words) as error:
            overfit(first, second, tmp_path / "out", config=TINY)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "minutes", "words"),
    [
        ({"patch": (16, 8, 8)}, 1, "exceeds"),
        ({"patch": (6, 8, 8)}, 1, "not a multiple of 4"),
        ({}, 0, "minutes: is 0"),
        ({}, float("nan"), "minutes: is nan"),
    ],
)
def test_impossible_numbers_are_refused(
    changes: dict[str, Any], minutes: float, words: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    config = TINY.model_copy(update=changes)
    with pytest.raises(ConfigError, match=words):
        overfit(*files, tmp_path / "out", minutes=minutes, config=config)


def test_the_picture_shows_the_slices_with_most_classes() -> None:
    labels = np.zeros((5, 6, 7), dtype=np.uint8)
    labels[3, 1, 2], labels[3, 4, 2], labels[0, 1, 6] = 1, 2, 3
    assert busiest_slices(labels) == [3, 1, 2]


def test_the_real_ct_folds_into_eleven_coarse_classes(real_data: Path) -> None:
    ct = real_data / "ct" / "chest_abdomen_3mm.nii.gz"
    labels = real_data / "ct" / "chest_abdomen_3mm_totalsegmentator.nii.gz"
    subject = read_subject(ct, labels, OverfitConfig())
    assert subject.truth.shape == subject.hu.shape == (48, 64, 64)
    present = {subject.scheme.names[c] for c in np.flatnonzero(subject.counts)} - {"background"}
    assert present == {
        "spleen", "kidney", "liver", "stomach", "pancreas", "lung", "aorta", "vena_cava", "spine",
        "ribs", "muscles",
    }  # fmt: skip
    assert set(subject.dice(subject.truth).values()) == {1.0}
    mean_hu = {name: subject.hu[subject.truth == subject.scheme.names.index(name)].mean()
               for name in ("lung", "liver", "spine")}  # fmt: skip
    assert mean_hu["lung"] < -300 < 0 < mean_hu["liver"] < mean_hu["spine"]
    native = scheme("chest", "coarse").fold_total(read_label_map(labels).array)
    ratio = read_volume(ct).array.size / subject.truth.size
    for class_id in np.unique(native):
        share = (native == class_id).sum() / ratio / subject.counts[class_id]
        assert share == pytest.approx(1, abs=0.35)

"""What a loader hands over for a GPU, and what finishing it there does; all of it on the CPU."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.train.test_batches import seg_source
from uvlm.config import AugmentConfig, Chance, IntensityConfig, Params, SpatialConfig
from uvlm.data.contract import normalise
from uvlm.data.examples import Example, read_examples
from uvlm.read_ahead import read_ahead
from uvlm.seeding import generator
from uvlm.store import load_array, load_region
from uvlm.train import batches
from uvlm.train.augmentation.augment import augment_intensity, roll
from uvlm.train.batches import Arrays, UnfinishedBatch
from uvlm.train.loop.faults import tensors_of
from uvlm.train.report_batches import StoredTokens, TokenInputs
from uvlm.train.volume_batches import ClsBatches, SegBatches, VolumeInputs, case_sampler

ALWAYS = SpatialConfig(
    rotation_deg=Chance(probability=1.0, between=(-30, 30)),
    scaling=Chance(probability=1.0, between=(0.7, 1.4)),
)
EVERYTHING = AugmentConfig(
    noise_std=0.02,
    shift_std=0.05,
    scale_std=0.1,
    gamma_std=0.1,
    roll_voxels=(1, 2, 2),
    spatial=ALWAYS,
    intensity=IntensityConfig(
        noise=Chance(probability=1.0, between=(0, 0.1)),
        blur=Chance(probability=1.0, between=(0.5, 1)),
        brightness=Chance(probability=1.0, between=(0.75, 1.25)),
        contrast=Chance(probability=1.0, between=(0.75, 1.25)),
        low_resolution=Chance(probability=1.0, between=(0.5, 1)),
        inverted_gamma=Chance(probability=1.0, between=(0.7, 1.5)),
        gamma=Chance(probability=1.0, between=(0.7, 1.5)),
    ),
)
NEVER = Chance(probability=0.0, between=(1.0, 1.0))
PLACED = EVERYTHING.model_copy(
    update=dict.fromkeys(("noise_std", "shift_std", "scale_std", "gamma_std"), 0.0)
    | {"intensity": IntensityConfig(**dict.fromkeys(IntensityConfig.model_fields, NEVER))}
)


@pytest.fixture
def examples(project: Any, params: Params) -> list[Example]:
    return read_examples(
        project.index, project.preprocess, params.preprocess, "train", project.label_maps
    )


def on_gpu(examples: list[Example], params: Params, **changes: Any) -> SegBatches:
    source = seg_source(examples, params, **changes)
    return SegBatches(**{**vars(source), "on_device": True})


def volumes(
    examples: list[Example], params: Params, augment: AugmentConfig, *, on_device: bool
) -> ClsBatches:
    inputs = VolumeInputs(examples, Arrays(keep=True), params.preprocess, augment, on_device)
    return ClsBatches("cls", examples, inputs, case_sampler(examples, 0.5), 2, seed=3)


@pytest.mark.parametrize("augment", [PLACED, EVERYTHING])
def test_a_patch_for_a_gpu_is_the_one_for_a_cpu_but_for_what_is_drawn_there(
    augment: AugmentConfig, examples: list[Example], params: Params
) -> None:
    here = seg_source(examples, params, augment=augment, batch_size=1)
    there = on_gpu(examples, params, augment=augment, batch_size=1)
    for index in range(6):
        read, expected = there.read(index), here(index)
        assert isinstance(read, UnfinishedBatch)
        assert {item.voxels.dtype for item in read.items} == {torch.int16}
        found = there.finish(read)
        assert found.case_ids == expected.case_ids
        assert torch.equal(found.target, expected.target)
        assert found.x.shape == expected.x.shape
        assert torch.equal(found.x, expected.x) == (augment is PLACED)


def test_a_volume_for_a_gpu_travels_in_two_bytes_a_voxel(
    examples: list[Example], params: Params
) -> None:
    still = PLACED.model_copy(update={"spatial": SpatialConfig(rotation_deg=NEVER, scaling=NEVER)})
    read = volumes(examples, params, still, on_device=True).read(0)
    sizes = {name: t.nbytes for name, t in tensors_of(read, "").items() if "abnorm" not in name}
    assert sum(sizes.values()) == 2 * 2 * prod(params.preprocess.grid)


def test_a_finished_volume_is_the_stored_one_moved_and_varied_from_its_key(
    examples: list[Example], params: Params
) -> None:
    augment = EVERYTHING.model_copy(
        update={"spatial": SpatialConfig(rotation_deg=NEVER, scaling=NEVER)}
    )
    source = volumes(examples, params, augment, on_device=True)
    read = source.read(4)
    finished = source.finish(read)
    by_id = {example.case_id: example for example in examples}
    assert len({item.key for item in read.x}) == 2
    for case_id, item, x in zip(read.case_ids, read.x, finished.x, strict=True):
        stored = normalise(load_array(by_id[case_id].volume), params.preprocess)
        rng = np.random.Generator(np.random.PCG64(item.key))
        moved = roll(torch.from_numpy(stored), item.shift)
        assert torch.equal(x[0], augment_intensity(moved, augment, rng))


@pytest.mark.slow
@pytest.mark.parametrize("loaders", ["0", "2"])
def test_finishing_depends_on_the_number_of_the_batch_alone(
    loaders: str, examples: list[Example], params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVLM_LOADERS", loaders)
    for source in (
        on_gpu(examples, params, augment=EVERYTHING, batch_size=2),
        volumes(examples, params, EVERYTHING, on_device=True),
    ):
        ahead = read_ahead(source.read, [5, 3], torch.device("cpu"))
        found = [source.finish(read).x for read in ahead]
        assert torch.equal(found[0], source(5).x)
        assert torch.equal(found[1], source(3).x)
        assert not torch.equal(found[0], found[1])


class Operations(TorchDispatchMode):
    """Collects the names of what torch runs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        self.names.append(function.__name__)
        return function(*arguments, **(keywords or {}))


def test_finishing_never_waits_for_the_device(examples: list[Example], params: Params) -> None:
    for source in (
        on_gpu(examples, params, augment=EVERYTHING, batch_size=2),
        volumes(examples, params, EVERYTHING, on_device=True),
    ):
        read: Any = source.read(0)
        with Operations() as run:
            source.finish(read)
        assert len(run.names) > 50
        waits = [n for n in run.names if n.startswith(("_local_scalar_dense", "nonzero", "item"))]
        assert waits == []


def test_a_forced_patch_reads_its_label_map_once(
    examples: list[Example], params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    monkeypatch.setattr(batches, "load_array", counted(load_array, reads))
    monkeypatch.setattr(batches, "load_region", counted(load_region, reads))
    source = seg_source(examples, params, foreground_fraction=1.0, batch_size=4)
    source = SegBatches(**{**vars(source), "arrays": Arrays(keep=False)})
    source(0)
    assert len(reads) == 4 * 2  # a volume and a label map each


def counted(read: Any, reads: list[Path]) -> Any:
    def counting(path: Path, *rest: Any) -> Any:
        reads.append(path)
        return read(path, *rest)

    return counting


def test_tokens_for_a_gpu_travel_as_they_are_stored_and_get_their_noise_there() -> None:
    stored = generator(1).normal(size=(50, 40)).astype(np.float16)
    arrays = Arrays(keep=True, kept={Path("a"): stored, Path("b"): 2 * stored})
    noise = np.repeat([0.0, 0.5], [10, 30]).astype(np.float32)
    paths = [Path("a"), Path("b")]
    inputs = TokenInputs(paths, [1, 1], arrays, [10, 30], noise, on_device=True)
    read = inputs([1, 0], generator(0))
    assert isinstance(read, StoredTokens)
    assert read.tokens.dtype == torch.float16
    first, again = inputs.finish(read), inputs.finish(read)
    assert all(map(torch.equal, first, again))
    expected = torch.from_numpy(np.stack([2 * stored, stored])).float()
    assert torch.equal(first[0], expected[..., :10])
    added = first[1] - expected[..., 10:]
    assert float(added.std()) == pytest.approx(0.5, rel=0.05)
    clean = inputs.finish(inputs([1, 0], None))
    assert torch.equal(torch.cat(clean, dim=-1), expected)

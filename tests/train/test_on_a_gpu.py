"""On a CUDA device: what it computes is what the CPU computes, and what the docs say of it holds.

The other tests run there too: `UVLM_DEVICE=cuda pytest tests/train tests/model tests/inference`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import gpu_steps, sizes
from benchmarks.feeding import readers
from tests.inference.tiny_writer import endless, greedy, tiny_visual, tiny_writer
from tests.train.loop.test_fit import batch, network, six_steps, terminate_at, train, weight_norm
from uvlm.config import Params
from uvlm.errors import Interrupted, SetupError
from uvlm.inference.encode import encode_volumes
from uvlm.inference.sliding_window import predict_labels
from uvlm.model.build import build_encoder, build_unet
from uvlm.model.fast_norm import ready, use_channels_last_norms
from uvlm.tracking import NullTracker
from uvlm.train.loop.fit import Task, Watch, fit
from uvlm.train.loop.launch import launch
from uvlm.train.loop.optim import build_optimizer
from uvlm.train.loop.resume import ResumeFolder
from uvlm.train.losses.losses import deep_supervision_loss
from uvlm.train.losses.objectives import ClsObjective

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def _on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVLM_DEVICE", "cuda")


@contextmanager
def no_waiting() -> Iterator[None]:
    """An error for everything that makes the CPU wait for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """fp32 without TF32, to compare with a CPU."""
    monkeypatch.setenv("UVLM_PRECISION", "32-true")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def segmentation(device: torch.device) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Terms of the loss of stage 1 and the gradients of the logits."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(16, 16, 16), (8, 8, 8), (4, 4, 4)]
    logits = [
        torch.randn(2, 5, *shape, generator=generator).to(device).requires_grad_()
        for shape in shapes
    ]
    target = torch.randint(5, (2, *shapes[0]), generator=generator).to(device, torch.uint8)
    weights = torch.tensor([0.5, 1.0, 2.0, 1.0, 1.5]).to(device)
    if device == CPU:
        terms = deep_supervision_loss(logits, target, weights, (1.0, 0.5, 0.25), "all")
    else:
        with no_waiting():
            terms = deep_supervision_loss(logits, target, weights, (1.0, 0.5, 0.25), "all")
    torch.stack(list(terms.values())).sum().backward()
    return terms, [each.grad for each in logits if each.grad is not None]


def test_the_segmentation_loss_is_the_cpus_and_never_waits() -> None:
    (here, gradients), (there, others) = segmentation(CPU), segmentation(GPU)
    for name, term in here.items():
        torch.testing.assert_close(there[name].cpu(), term, rtol=1e-5, atol=1e-6)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other.cpu(), one, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("stage", ["stage 1", "stage 2", "stage 3"])
def test_batches_are_finished_on_the_gpu_without_waiting(stage: str, tmp_path: Path) -> None:
    batches, _ = readers(sizes.tiny(), tmp_path, on_device=True)[stage]
    read: Any = batches.read(1)
    on_gpu = moved(read, GPU)
    batches.finish(on_gpu)  # kernels are loaded, and constants copied, once
    with no_waiting():
        finished: Any = batches.finish(on_gpu)
    again: Any = batches.finish(on_gpu)
    for found, same in zip(flat(finished.x), flat(again.x), strict=True):
        assert found.device.type == "cuda"
        assert torch.isfinite(found).all()
        assert torch.equal(found, same)


def moved(value: Any, device: torch.device) -> Any:
    """Move all tensors of a batch."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(moved(each, device) for each in value))
    return [moved(each, device) for each in value] if isinstance(value, list) else value


def flat(x: Tensor | list[Tensor]) -> list[Tensor]:
    return x if isinstance(x, list) else [x]


STEPS: dict[str, Callable[..., Any]] = {
    "stage 1": gpu_steps.stage_1,
    "stage 2": gpu_steps.stage_2,
    "stage 3": gpu_steps.stage_3_cached,
    "stage 3 with the encoder": gpu_steps.stage_3_unfrozen,
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_of_every_training_runs(name: str) -> None:
    torch.manual_seed(0)
    work = STEPS[name](sizes.tiny(), GPU)
    for _ in range(2):
        work()


@pytest.mark.usefixtures("exact")
def test_encoding_and_masks_are_the_cpus() -> None:
    size = sizes.tiny()
    torch.manual_seed(0)
    encoder = build_encoder(size.params.encoder).eval()
    unet = build_unet(size.params.encoder, size.num_classes, False).eval()
    x = torch.randn(1, 1, *size.grid)
    found = []
    for device in (CPU, GPU):
        ready(encoder, device)
        ready(unet, device)
        tokens = encode_volumes(encoder, x.to(device), size.params.injection).cpu()
        with torch.no_grad():
            labels = predict_labels(unet, x.to(device), size.patch).cpu().numpy()
        found.append((tokens, labels))
    (here, labels), (there, others) = found
    torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-4)
    assert np.mean(labels == others) > 0.999


@pytest.mark.usefixtures("exact")
def test_reports_are_the_cpus_word_for_word() -> None:
    model, visual = endless(tiny_writer()), tiny_visual()
    expected = greedy(model, visual, 20)
    found = greedy(model.to(GPU), [tokens.to(GPU) for tokens in visual], 20)
    assert found == expected


def test_norms_that_keep_channels_last_are_torchs() -> None:
    torch.manual_seed(0)
    norm = nn.Sequential(nn.InstanceNorm3d(6, affine=True)).to(GPU)
    x = torch.randn(2, 6, 5, 6, 7, device=GPU).to(memory_format=torch.channels_last_3d)
    expected = norm(x)
    use_channels_last_norms(norm)
    found = norm(x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last_3d)


def test_a_stopped_training_ends_with_the_same_weights(params: Params) -> None:
    config = six_steps(params, "adamw")
    whole = train(config)
    with pytest.raises(Interrupted):
        train(config, progress=terminate_at(4))
    continued = train(config)
    assert whole.metrics == continued.metrics
    for name, weight in whole.weights.items():
        assert torch.equal(weight, continued.weights[name]), name


def test_a_full_gpu_is_explained(params: Params) -> None:
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.02)
    big = batch(0)._replace(x=torch.zeros(2**21, 2, 4, 4, 4), abnormalities=torch.zeros(2**21, 3))
    config = params.train_cls.model_copy(update={"steps": 1, "val_every": 1})
    model = network(0)
    task = Task(ClsObjective(), lambda _: big, weight_norm, seed=7)
    optimizer = build_optimizer(model, config.optim)
    with ResumeFolder("train_cls", "full") as state:
        watch = Watch(NullTracker(), None, state)
        try:
            with pytest.raises(SetupError) as caught:
                fit(launch(), model, optimizer, task, config, watch)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    assert caught.value.exit_code == 4
    assert "train_cls.batch_size" in str(caught.value)
    assert "activations" in caught.value.details

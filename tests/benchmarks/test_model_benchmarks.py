"""Every row of the table runs at a tiny size, and both sides of a row do the same work."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import (
    augmentation,
    decoding,
    dice,
    gpu,
    gpu_training,
    gpu_tuning,
    released,
    report_step,
    runner,
    sizes,
    windows,
)
from benchmarks.attention import saved
from benchmarks.measure import peak_growth_mb
from benchmarks.ratios import Ratio, ratio_table
from benchmarks.sizes import SPECIALS, Size
from uvlm.device import is_tuned
from uvlm.inference.decoding import Decoding
from uvlm.inference.writing import write_reports
from uvlm.seeding import generator


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def size() -> Size:
    return sizes.tiny()


ROWS_BY_FAMILY = {
    "decoding": 5, "report_step": 2, "attention": 2, "token_loss": 2, "dice": 2,
    "augmentation": 1, "encoder": 1, "windows": 2, "cues": 2,
}  # fmt: skip


def test_the_families_are_those_of_the_runner() -> None:
    assert set(ROWS_BY_FAMILY) == set(runner.FAMILIES)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "count"), ROWS_BY_FAMILY.items())
@pytest.mark.filterwarnings("default")  # other people's packages warn while they are imported
def test_a_family_gives_its_rows(family: str, count: int, size: Size) -> None:
    rows: list[Ratio] = importlib.import_module(f"benchmarks.{family}").measure(size)
    assert len(rows) == count
    for row in rows:
        assert row.theirs > 0
        assert math.isfinite(row.times)
    table = runner.page(rows, failed=["other"])
    assert "other failed" in table
    assert all(f"| {row.what} |" in table for row in rows)


def test_a_row_says_whether_its_bar_is_met_or_not_judged() -> None:
    seconds = Ratio("a", "b", 9.0, 3.0, "s", 3.0, "so.")
    memory = Ratio("c", "d", 100.0, 40.0, "MB", 5.0, "so.")
    assert seconds.times == 3.0
    assert [seconds.verdict(True), replace(seconds, ours=3.1).verdict(True)] == ["met", "missed"]
    assert [seconds.verdict(False), memory.verdict(False)] == ["not judged", "missed"]
    first, _, third, fourth, *notes = ratio_table([seconds, memory], True).splitlines()
    assert first == "| what | against | theirs | ours | ratio | at least | bar |"
    assert third == "| a | b | 9.00 s | 3.00 s | 3.00 x | 3 x | met |"
    assert fourth == "| c | d | 100 MB | 40.0 MB | 2.50 x | 5 x | missed |"
    assert notes == ["", "- a: so.", "- c: so."]


def test_the_paper_size_is_the_papers() -> None:
    paper = sizes.paper()
    assert paper.grid == (192, 256, 256)
    assert paper.patch == (96, 128, 128)
    assert (paper.vocabulary, paper.compact_vocabulary) == (151_669, 16_384)
    assert [tuple(tokens.shape) for tokens in paper.visual()][-1] == (1, 384, 320)
    decoder = paper.params.decoder
    assert (decoder.layers, decoder.width, decoder.heads, decoder.ffn) == (8, 512, 8, 2048)


def test_the_releases_way_writes_the_same_tokens(size: Size) -> None:
    model, visual = size.uvlm(size.vocabulary), size.visual(2)
    for weight in model.parameters():
        weight.data.add_(0.3 * torch.randn_like(weight))
    theirs = released.write(model, visual, 12)
    model.specials = replace(SPECIALS, eos=decoding.NEVER)
    ours = write_reports(model, visual, Decoding(12))
    assert theirs.tolist() == [report.ids for report in ours]
    assert len(theirs.unique()) > 2


def test_the_releases_loss_is_ours(size: Size) -> None:
    model, visual = size.uvlm(size.vocabulary), size.visual()
    token_ids = torch.randint(5, size.vocabulary, (1, 9))
    ours = report_step.ReportLoss(size, model, visual, token_ids)()
    theirs = released.token_loss(model, visual, token_ids)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_both_segmentation_losses_are_one_number(size: Size) -> None:
    inputs = dice.draw(size.num_classes, size.patch, True)
    assert dice.ours(inputs) == pytest.approx(dice.monai(inputs), abs=1e-5)


def test_both_windows_give_the_same_labels(size: Size) -> None:
    inputs = windows.draw(size.num_classes, (64, 96, 64), (32, 64, 64))
    ours = windows.ours(inputs)
    assert (ours == windows.monai(inputs)).float().mean() > 0.9999
    assert len(ours.unique()) == size.num_classes


@pytest.mark.filterwarnings("default")
def test_both_augmentations_get_the_same_patch(size: Size) -> None:
    x, labels = augmentation.volume(size.grid, size.num_labels)
    place = (slice(16, 48), slice(0, 64), slice(0, 64))
    config = size.params.train_seg.augment
    image, ids = augmentation.ours(x, labels, place, config, generator(0))
    theirs = augmentation.nnunet_default(size.patch)(x[place], labels[place])
    assert tuple(theirs["image"].shape) == (1, *image.shape)
    assert set(np.unique(theirs["segmentation"])) <= set(np.unique(labels))
    assert set(np.unique(ids)) <= set(range(size.num_labels))


@pytest.mark.slow
def test_growth_leaves_out_what_was_prepared() -> None:
    assert peak_growth_mb(torch.ones, 8 * 2**20) == pytest.approx(32, abs=8)
    assert peak_growth_mb(torch.sum, 8 * 2**20, prepare=torch.ones) < 16


def test_saved_memory_is_counted_once() -> None:
    x = torch.randn(8, requires_grad=True)
    assert [tuple(tensor.shape) for tensor in saved(lambda: (x * x).exp())] == [(8,), (8,)]


@pytest.mark.slow
def test_the_steps_of_a_gpu_run_on_a_cpu_too(size: Size) -> None:
    measured = list(gpu.steps(size, torch.device("cpu")))
    assert len(measured) == 9
    assert all(step.milliseconds > 0 for step in measured)
    # What a loop of 512 words multiplies is not counted.
    assert [step.what for step in measured if not step.tflop] == [m.what for m in measured[-2:]]
    assert all(step.peak_mb is None for step in measured)
    assert "| stage 3, batch 2, cached features |" in gpu.page(measured, "no chip")


@pytest.mark.slow
def test_trainings_of_a_gpu_run_on_a_cpu_too(size: Size, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVLM_DEVICE", "cpu")
    rows = gpu_training.page(size, dict.fromkeys(gpu_training.STEPS, 3)).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| stage 1", "| stage 2", "| stage 3"]
    assert all(" ms (" in row for row in rows)


def test_tuning_is_set_for_one_measurement_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVLM_TUNING", "norms")
    with gpu_tuning.tuned("cudnn"):
        assert (is_tuned("cudnn"), torch.backends.cudnn.benchmark) == (True, True)
    assert (is_tuned("norms"), torch.backends.cudnn.benchmark) == (True, False)


def test_a_share_is_of_the_chips_peak() -> None:
    step = gpu.Step("a", milliseconds=10.0, tflop=1.56, busy=0.9, kernels=1234, peak_mb=2048.0)
    told = ["a", "10.0 ms", "5.0 ms", "50 %", "90 %", "1,234", "2.0 GB", "1.56"]
    assert step.cells(312.0) == told
    named = replace(step, longest=(("gemm" * 40, 0.75), ("copy", 0.2)))
    page = gpu.page([named], "NVIDIA A100-SXM4-80GB")
    assert page.count("50 %") == 1
    assert f"- a: `{('gemm' * 40)[:90]}` 75 %, `copy` 20 %\n" in page

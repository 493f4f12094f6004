"""Every objective drives its model to certainty on one batch, through the same loop."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uvlm.config import Params, TrainConfig
from uvlm.data.cases import Case, read_index
from uvlm.inference.decoding import Decoding
from uvlm.inference.encode import split_stages
from uvlm.inference.writing import write_reports
from uvlm.model.build import build_classifier, build_encoder, build_unet, build_uvlm
from uvlm.model.uvlm import SpecialIds
from uvlm.text.tokenizer import Tokenizer
from uvlm.tracking import NullTracker
from uvlm.train.batches import ClsBatch, ReportBatch, SegBatch
from uvlm.train.cls import ClassifierNet
from uvlm.train.loop.fit import Scores, Task, Watch, fit
from uvlm.train.loop.launch import launch
from uvlm.train.loop.optim import build_optimizer
from uvlm.train.loop.resume import ResumeFolder
from uvlm.train.losses.objectives import ClsObjective, Objective, ReportObjective, SegObjective
from uvlm.train.report_batches import pad, report_ids, token_weights
from uvlm.train.report_net import ReportNet


def overfit(
    model: nn.Module, objective: Objective, batch: Any, config: TrainConfig, steps: int
) -> dict[str, float]:
    """The terms of the loss after training on nothing but `batch`."""
    fast = {"optimizer": "adamw", "lr": 2e-2, "weight_decay": 0.0, "warmup_steps": 3}
    config = config.model_copy(
        update={"steps": steps, "val_every": steps, "optim": config.optim.model_copy(update=fast)}
    )

    def validate(trained: nn.Module) -> Scores:
        terms = {name: float(term) for name, term in objective.loss(trained, batch).items()}
        return Scores(0.0, terms)

    same: Callable[[int], Any] = lambda index: batch  # noqa: E731
    task = Task(objective, same, validate, seed=0)
    with ResumeFolder("overfit", "one") as state:
        watch = Watch(NullTracker(), None, state)
        return fit(
            launch(), model, build_optimizer(model, config.optim), task, config, watch
        ).metrics


def two_boxes() -> tuple[Tensor, Tensor]:
    """Bright and grey boxes (classes 2 and 1) on noise; the sides are swapped in the second."""
    target = torch.zeros(2, 8, 8, 8, dtype=torch.uint8)
    target[0, 2:6, 1:7, 0:3], target[0, 2:6, 1:7, 5:8] = 1, 2
    target[1, 2:6, 1:7, 0:3], target[1, 2:6, 1:7, 5:8] = 2, 1
    torch.manual_seed(0)
    return target.float()[:, None] - 1 + 0.1 * torch.randn(2, 1, 8, 8, 8), target


@pytest.mark.slow
def test_segmentation_overfits_one_batch(params: Params) -> None:
    torch.manual_seed(0)
    x, target = two_boxes()
    unet = build_unet(params.encoder, 3).to(memory_format=torch.channels_last_3d)
    objective = SegObjective(torch.ones(3))
    terms = overfit(unet, objective, SegBatch(["a", "b"], x, target), params.train_seg, 80)
    assert terms["dice"] < 0.2  # with the coarse resolutions
    outputs = unet(x)
    assert (outputs[0].argmax(dim=1) == target).float().mean() > 0.99


@pytest.mark.slow
def test_classification_overfits_one_batch(params: Params) -> None:
    torch.manual_seed(0)
    x, _ = two_boxes()
    truth = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    grid = (8, 8, 8)
    net = ClassifierNet(
        build_encoder(params.encoder), build_classifier(params.encoder, params.classifier, grid, 3)
    )
    terms = overfit(net, ClsObjective(), ClsBatch(["a", "b"], x, truth), params.train_cls, 40)
    assert terms["bce"] < 0.02


def test_positive_weights_multiply_the_loss_of_positives_only() -> None:
    logits = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    truth = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    weight = torch.tensor([3.0, 7.0])
    batch = ClsBatch(["a", "b"], logits, truth)
    loss = ClsObjective(pos_weight=weight).loss(nn.Identity(), batch)["bce"]
    p = logits.sigmoid()
    terms = [-3 * p[0, 0].log(), -(1 - p[0, 1]).log(), -(1 - p[1, 0]).log(), -7 * p[1, 1].log()]
    assert loss.item() == pytest.approx(float(sum(terms)) / 4, rel=1e-6)
    plain = ClsObjective().loss(nn.Identity(), batch)["bce"]
    assert torch.equal(plain, F.binary_cross_entropy_with_logits(logits, truth))


@pytest.mark.slow
def test_report_generation_overfits_one_batch_and_writes_it_back(
    params: Params, project: Any
) -> None:
    torch.manual_seed(0)
    tokenizer = Tokenizer.load(project.tokenizer)
    cases: list[Case] = read_index(project.index)[:2]
    ids = [report_ids(case, tokenizer, params.decoder.max_report_tokens) for case in cases]
    specials = SpecialIds(pad=0, start_of_image=1, end_of_image=2, bos=3, eos=4)
    uvlm = build_uvlm(
        params.encoder,
        params.decoder.model_copy(update={"dropout": 0.0, "layers": 2}),
        params.injection.model_copy(update={"layer_by_stage": {6: 1, 5: 2}}),
        params.preprocess.grid,
        tokenizer.vocabulary_size,
        specials,
    )
    channels = params.encoder.channels
    tokens = torch.from_numpy(
        np.random.default_rng(0).normal(size=(2, 32, sum(channels))).astype(np.float32)
    )
    visual = split_stages(tokens, channels)
    batch = ReportBatch(["a", "b"], visual, pad(ids, 0))
    net = ReportNet(uvlm, params.injection, encoder=None)
    terms = overfit(net, ReportObjective(), batch, params.train_report, 100)
    assert terms["ce"] < 0.05
    written = write_reports(uvlm, visual, Decoding(40))
    assert [tokenizer.decode(row.ids) for row in written] == [case.report.text for case in cases]


@torch.no_grad()
def test_the_loss_of_reports_is_the_mean_over_their_tokens_and_ends(params: Params) -> None:
    """Eq. 3: each report alone, without padding, one -log p(token | before, image) at a time."""
    torch.manual_seed(0)
    uvlm = build_uvlm(
        params.encoder,
        params.decoder,
        params.injection,
        params.preprocess.grid,
        50,
        SpecialIds(pad=0, start_of_image=1, end_of_image=2, bos=3, eos=4),
    ).eval()
    for weight in uvlm.parameters():
        weight.data.add_(0.1 * torch.randn_like(weight))
    visual = [torch.randn(2, 32, channels) for channels in params.encoder.channels]
    ids = [[3, 9, 17, 30, 12, 8, 4], [3, 25, 11, 4]]
    batch = ReportBatch(["a", "b"], visual, pad(ids, 0))
    net = ReportNet(uvlm, params.injection, encoder=None)
    terms = []
    for case, report in enumerate(ids):
        image = [tokens[case : case + 1] for tokens in visual]
        for end in range(1, len(report)):
            logits = uvlm(image, torch.tensor([report[:end]]))[0, -1]
            terms.append(-float(logits.log_softmax(dim=0)[report[end]]))
    assert len(terms) == 9
    loss = ReportObjective().loss(net, batch)
    assert list(loss) == ["ce"]
    assert loss["ce"].item() == pytest.approx(sum(terms) / 9, rel=1e-5)
    weights = [[1.0, 1.0, 3.0, 1.0, 3.0, 1.0, 1.0], [1.0, 3.0, 1.0, 1.0]]
    own = [*weights[0][1:], *weights[1][1:]]
    weighted = ReportObjective().loss(net, batch._replace(weights=pad(weights, 0.0)))
    expected = sum(w * term for w, term in zip(own, terms, strict=True)) / sum(own)
    assert weighted["ce"].item() == pytest.approx(expected, rel=1e-5)


def test_a_report_that_is_cut_has_no_end_to_learn(project: Any) -> None:
    tokenizer = Tokenizer.load(project.tokenizer)
    case = read_index(project.index)[0]
    whole = tokenizer.encode(case.report.text)
    assert report_ids(case, tokenizer, len(whole)) == [3, *whole, 4]
    assert report_ids(case, tokenizer, len(whole) - 1) == [3, *whole[:-1]]


def test_tokens_of_a_word_weigh_what_the_word_weighs(project: Any) -> None:
    tokenizer = Tokenizer.load(project.tokenizer)
    case = read_index(project.index)[0]
    text = case.report.text
    words = [(m.start(), m.end()) for m in re.finditer(r"\w+", text)]
    chosen = [words[0], words[3], words[-1]]
    limit = len(tokenizer.encode(text))
    weights = token_weights(case, tokenizer, limit, lambda text: chosen, 3.0)
    ids = report_ids(case, tokenizer, limit)
    assert len(weights) == len(ids)
    assert (weights[0], weights[-1]) == (1.0, 1.0)
    heavy, letters = "", ""
    for token, weight in zip(ids[1:-1], weights[1:-1], strict=True):
        heavy += tokenizer.decode([token]) if weight == 3.0 else ""
        letters += tokenizer.decode([token])
    assert letters == text
    assert heavy.replace(" ", "") == "".join(text[a:b] for a, b in chosen)
    cut = token_weights(case, tokenizer, limit - 2, lambda text: chosen, 3.0)
    assert cut == weights[: limit - 1]


def test_reports_are_padded_to_the_longest() -> None:
    assert pad([[3, 9, 4], [3, 4]], 0).tolist() == [[3, 9, 4], [3, 4, 0]]

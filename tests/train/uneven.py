"""Trains each objective on 7 cases, two at a time, so that every fourth batch has only one.

python -m tests.train.uneven OUT ACCUMULATE    with params.yaml in the current folder
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from uvlm.config import OptimConfig, Params, TrainConfig, load_params
from uvlm.model.align import num_visual_tokens
from uvlm.model.build import build_classifier, build_encoder, build_unet, build_uvlm
from uvlm.model.uvlm import SpecialIds
from uvlm.processes import place
from uvlm.seeding import torch_generator
from uvlm.tracking import NullTracker
from uvlm.train.batches import ClsBatch, ReportBatch, SegBatch
from uvlm.train.cls import ClassifierNet
from uvlm.train.loop.fit import Scores, Task, Watch, fit
from uvlm.train.loop.launch import launch
from uvlm.train.loop.optim import build_optimizer
from uvlm.train.loop.resume import ResumeFolder
from uvlm.train.losses.objectives import ClsObjective, Objective, ReportObjective, SegObjective
from uvlm.train.report_net import ReportNet

CASES, BATCH, CLASSES, VOCABULARY = 7, 2, 4, 50
PER_EPOCH = -(-CASES // BATCH)
OPTIM = OptimConfig(
    optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=0.01, warmup_steps=2, schedule="cosine",
    clip_norm=1.0,
)  # fmt: skip


class Learnable(NamedTuple):
    """An objective with a network and batches of given cases."""

    objective: Objective
    network: nn.Module
    batch: Callable[[list[int]], Any]

    def number(self, index: int) -> Any:
        """Batch `index` of one epoch after the other; the last one of an epoch is short."""
        first = index % PER_EPOCH * BATCH
        return self.batch(list(range(first, min(first + BATCH, CASES))))


def learnables(params: Params) -> Iterator[Learnable]:
    """Yield the three objectives."""
    grid, encoder = params.preprocess.grid, params.encoder

    def draw(kind: str, chosen: list[int], *shape: int) -> Tensor:
        rows = [torch.randn(shape, generator=torch_generator(0, kind, i)) for i in chosen]
        return torch.stack(rows)

    def names(chosen: list[int]) -> list[str]:
        return [f"case_{i}" for i in chosen]

    def seg(chosen: list[int]) -> SegBatch:
        target = draw("target", chosen, *grid).argsort(dim=-1) % CLASSES
        return SegBatch(names(chosen), draw("x", chosen, 1, *grid), target.to(torch.uint8))

    def cls(chosen: list[int]) -> ClsBatch:
        return ClsBatch(
            names(chosen), draw("x", chosen, 1, *grid), (draw("y", chosen, CLASSES) > 0).float()
        )

    def report(chosen: list[int]) -> ReportBatch:
        reference = params.injection.reference_stage
        tokens = num_visual_tokens(grid, encoder.strides, reference)
        x = [draw(f"stage {c}", chosen, tokens, c) for c in encoder.channels]
        length = 5 + chosen[-1]  # reports of different batches differ in length
        ids = 5 + draw("ids", chosen, length).argsort(dim=-1) % (VOCABULARY - 5)
        return ReportBatch(names(chosen), x, ids)

    torch.manual_seed(0)
    unet = build_unet(encoder, CLASSES, deep_supervision=True)
    yield Learnable(SegObjective(torch.ones(CLASSES), [1.0, 0.5, 0.25, 0.25, 0.25]), unet, seg)
    torch.manual_seed(0)
    classifier = build_classifier(encoder, params.classifier, grid, CLASSES)
    yield Learnable(ClsObjective(), ClassifierNet(build_encoder(encoder), classifier), cls)
    torch.manual_seed(0)
    specials = SpecialIds(0, 1, 2, 3, 4)
    uvlm = build_uvlm(encoder, params.decoder, params.injection, grid, VOCABULARY, specials)
    yield Learnable(ReportObjective(), ReportNet(uvlm, params.injection, None), report)


def train(params: Params, accumulate: int) -> dict[str, dict[str, Tensor]]:
    """Train all three for 12 steps; weights by objective."""
    config: TrainConfig = params.train_cls.model_copy(
        update={"steps": 12, "accumulate": accumulate, "val_every": 12, "optim": OPTIM}
    )
    weights = {}
    for learnable in learnables(params):
        name = learnable.objective.name
        task = Task(learnable.objective, learnable.number, lambda model: Scores(0.0, {}), seed=3)
        with ResumeFolder(name, "uneven") as state:
            watch = Watch(NullTracker(), None, state)
            optimizer = build_optimizer(learnable.network, OPTIM)
            best = fit(launch(), learnable.network, optimizer, task, config, watch)
        weights[name] = best.weights
    return weights


if __name__ == "__main__":
    for objective, tensors in train(load_params(Path("params.yaml")), int(sys.argv[2])).items():
        if place().is_first:
            save_file(tensors, Path(sys.argv[1]) / f"{objective}.safetensors")

"""Training a classifier alone, on cached features f_N of an encoder that stays as it is.

Stage 2 begins so (the warm-up), and ends so where stage 3 wants evidence: further heads, each
trained without some of the patients, say of these what a classifier says of CTs it has never met.

N cases, A abnormalities, V values of attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from uvlm.config import TrainClsConfig
from uvlm.data.examples import Example
from uvlm.errors import DataError
from uvlm.model.classifier import Classifier
from uvlm.seeding import generator
from uvlm.tracking import Training
from uvlm.train.batches import CaseSampler
from uvlm.train.heads.features import ClsValidation, FeatureInputs
from uvlm.train.loop.fit import Task, Watch, fit
from uvlm.train.loop.optim import build_optimizer
from uvlm.train.loop.resume import Best, ResumeFolder
from uvlm.train.losses.objectives import ClsObjective
from uvlm.train.volume_batches import ClsBatches

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_AT_ONCE = 64  # cases whose evidence is computed together


@dataclass(frozen=True, eq=False)
class HeadTraining:
    """What a head learns from: as in the joint training, but its inputs are features.

    Args:
        fabric: of the joint training.
        config: the numbers of the warm-up.
        objective: of the joint training.
        batches: of the joint training; its inputs are features.
        validate: likewise.
        training: fingerprint and observers.
    """

    fabric: Fabric
    config: TrainClsConfig
    objective: ClsObjective
    batches: ClsBatches
    validate: ClsValidation
    training: Training

    def fit(self, head: Classifier, name: str, prefix: str, fingerprint: str) -> Best:
        """Train `head` and leave its best weights in it; `prefix` begins the names of numbers."""
        with ResumeFolder("train_cls_head", fingerprint) as state:
            batches = replace(self.batches, name=name, batch_size=self.config.batch_size)
            objective = replace(self.objective, name=name)
            task = Task(objective, batches, self.validate, batches.seed)
            fused = self.fabric.device.type == "cuda"
            optimizer = build_optimizer(head, self.config.optim, fused=fused)
            watch = Watch(self.training.tracker, self.training.progress, state, prefix=prefix)
            best = fit(self.fabric, head, optimizer, task, self.config, watch)
        best.put_into(head)
        return best

    def without(self, left_out: Sequence[bool]) -> HeadTraining:
        """Return the same training without some of its cases."""
        kept = [number for number, out in enumerate(left_out) if not out]
        batches, sampler = self.batches, self.batches.sampler
        assert isinstance(batches.inputs, FeatureInputs)
        fewer = replace(
            batches,
            examples=[batches.examples[number] for number in kept],
            inputs=FeatureInputs(batches.inputs.features[kept]),
            sampler=CaseSampler(sampler.abnormalities[kept], sampler.balanced_fraction),
            attributes=None if batches.attributes is None else batches.attributes[kept],
        )
        return replace(self, batches=fewer)


def warm_up_config(config: TrainClsConfig) -> TrainClsConfig:
    """Replace the numbers of joint training by those of the warm-up."""
    steps, size = config.head_warmup_steps, config.head_warmup_batch_size
    warmup_steps = min(config.optim.warmup_steps, steps // 10)
    adamw = {"optimizer": "adamw", "lr": config.head_warmup_lr, "warmup_steps": warmup_steps}
    optim = config.optim.model_copy(update=adamw)
    often = {"steps": steps, "val_every": max(1, steps // 3)}
    return config.model_copy(update=often | {"batch_size": size, "optim": optim})


def unmet_evidence(
    heads: HeadTraining, build: Callable[[], Classifier], folds: int
) -> dict[str, Tensor]:
    """Evidence (A, 1 + V) of every training case, of a head that met none of its patient's CTs.

    Args:
        heads: trains a head on all training cases.
        build: makes a new head, seeded by torch's global stream.
        folds: how many heads share the patients among them.

    Raises:
        DataError: there are fewer patients than folds.
    """
    examples, seed = heads.batches.examples, heads.batches.seed
    fold_of = _folds(examples, folds, seed)
    found: dict[str, Tensor] = {}
    for fold in range(folds):
        torch.manual_seed(int(generator(seed, "fold", fold).integers(2**63 - 1)))
        head, own = build(), [fold_of[e.case.patient_id] == fold for e in examples]
        name, fingerprint = f"cls_fold_{fold}", f"{heads.training.fingerprint}-fold{fold}"
        heads.without(own).fit(head, name, f"fold_{fold}_", fingerprint)
        assert isinstance(heads.batches.inputs, FeatureInputs)
        met_never = [number for number, is_own in enumerate(own) if is_own]
        evidence = evidence_of(head, heads.batches.inputs.features[met_never], heads.fabric)
        ids = (examples[number].case_id for number in met_never)
        found |= {case: row.clone() for case, row in zip(ids, evidence, strict=True)}
    return found


@torch.no_grad()
def evidence_of(head: Classifier, features: Tensor, fabric: Fabric) -> Tensor:
    """Read (N, ...) features of cases, some at a time: evidence (N, A, 1 + V) on the CPU."""
    head.eval()
    parts = [fabric.to_device(part.float()) for part in features.split(_AT_ONCE)]
    with fabric.autocast():
        return torch.cat([head.evidence(part).float().cpu() for part in parts])


def _folds(examples: Sequence[Example], folds: int, seed: int) -> dict[str, int]:
    """Deal the patients out in random order, always the same for a seed."""
    patients = sorted({example.case.patient_id for example in examples})
    if len(patients) < folds:
        fact = f"{folds} folds are more than the {len(patients)} training patients"
        raise DataError("train_cls.evidence_folds", fact, "use fewer")
    order = generator(seed, "folds").permutation(len(patients))
    return {patients[number]: place % folds for place, number in enumerate(order)}

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

from uvlm.arrays import Floats
from uvlm.config import TrainClsConfig
from uvlm.data.examples import Example
from uvlm.errors import DataError
from uvlm.model.classifier import Classifier
from uvlm.seeding import generator
from uvlm.tracking import Training
from uvlm.train.batches import CaseSampler
from uvlm.train.heads.attributes import attribute_shares, of_mirrored
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
        said: what reports say of the training cases, (N, A, V), for a second head.
        mirrored: what that head pools of their mirrored CTs, (N, F).
    """

    fabric: Fabric
    config: TrainClsConfig
    objective: ClsObjective
    batches: ClsBatches
    validate: ClsValidation
    training: Training
    said: Tensor | None = None
    mirrored: Tensor | None = None

    def fit(self, head: Classifier, name: str, prefix: str, fingerprint: str) -> Best:
        """Train `head` and leave its best weights in it; `prefix` begins the names of numbers."""
        with ResumeFolder("train_cls_head", fingerprint) as state:
            batches = replace(self.batches, name=name, batch_size=self.config.batch_size)
            objective = replace(self.objective, name=name)
            task = Task(objective, batches, self.validate, batches.seed)
            optimizer = build_optimizer(head, self.config.optim)
            watch = Watch(self.training.tracker, self.training.progress, state, prefix=prefix)
            best = fit(self.fabric, head, optimizer, task, self.config, watch)
        best.put_into(head)
        return best

    def fit_attributes(self, head: Classifier, left_out: Sequence[bool] = ()) -> None:
        """Fit the second head of `head` on the training cases, without those left out.

        It learns from their CTs and from the mirrored ones, which have the other side: where the
        heart lies, say, must not decide on which side a lesion is.
        """
        assert head.attributes is not None
        assert self.said is not None
        assert self.mirrored is not None
        kept = [n for n in range(len(self.said)) if not left_out or not left_out[n]]
        said = self.said[kept]
        pooled = torch.cat([self._pooled(head, self.features[kept]), self.mirrored[kept]])
        both = torch.cat([said, of_mirrored(said)])
        head.attributes.fit(pooled, both.to(pooled.device))

    def attribute_shares(self, head: Classifier, said: Floats) -> dict[str, float]:
        """Say which share of the attributes of validation cases is right, (N, A, V) `said`."""
        features = torch.cat([*self.validate.inputs])
        values = self._evidence(head, features)[..., 1:]
        return attribute_shares(torch.sigmoid(values).double().numpy(), said)

    def unmet_evidence(self, build: Callable[[], Classifier]) -> dict[str, Tensor]:
        """Evidence (A, 1 + V) of every training case, of a head that met none of its patient's CTs.

        Args:
            build: makes a new head, seeded by torch's global stream.

        Raises:
            DataError: there are fewer patients than folds.
        """
        examples, seed = self.batches.examples, self.batches.seed
        fold_of = _folds(examples, self.config.evidence_folds, seed)
        found: dict[str, Tensor] = {}
        for fold in range(self.config.evidence_folds):
            torch.manual_seed(int(generator(seed, "fold", fold).integers(2**63 - 1)))
            head, own = build(), [fold_of[e.case.patient_id] == fold for e in examples]
            name, fingerprint = f"cls_fold_{fold}", f"{self.training.fingerprint}-fold{fold}"
            self._without(own).fit(head, name, f"fold_{fold}_", fingerprint)
            if head.attributes is not None:
                self.fit_attributes(head, own)
            met_never = [number for number, is_own in enumerate(own) if is_own]
            evidence = self._evidence(head, self.features[met_never])
            ids = (examples[number].case_id for number in met_never)
            found |= {case: row.clone() for case, row in zip(ids, evidence, strict=True)}
        return found

    @property
    def features(self) -> Tensor:
        """Features (N, C, D, H, W) of the training cases."""
        assert isinstance(self.batches.inputs, FeatureInputs)
        return self.batches.inputs.features

    def _without(self, left_out: Sequence[bool]) -> HeadTraining:
        """Return the same training without some of its cases."""
        kept = [number for number, out in enumerate(left_out) if not out]
        batches, sampler = self.batches, self.batches.sampler
        fewer = replace(
            batches,
            examples=[batches.examples[number] for number in kept],
            inputs=FeatureInputs(self.features[kept]),
            sampler=CaseSampler(sampler.abnormalities[kept], sampler.balanced_fraction),
        )
        return replace(self, batches=fewer)

    @torch.no_grad()
    def _pooled(self, head: Classifier, features: Tensor) -> Tensor:
        """Pool features of cases as the second head does, some at a time: (N, F)."""
        own = head.attributes
        assert own is not None
        parts = [self.fabric.to_device(part.float()) for part in features.split(_AT_ONCE)]
        return torch.cat([own.pooled(part.flatten(2).transpose(1, 2)) for part in parts])

    @torch.no_grad()
    def _evidence(self, head: Classifier, features: Tensor) -> Tensor:
        """Read features of cases, some at a time: evidence (N, A, 1 + V) on the CPU."""
        head.eval()
        parts = [self.fabric.to_device(part.float()) for part in features.split(_AT_ONCE)]
        with self.fabric.autocast():
            return torch.cat([head.evidence(part).float().cpu() for part in parts])


def warm_up_config(config: TrainClsConfig) -> TrainClsConfig:
    """Replace the numbers of joint training by those of the warm-up."""
    steps, size = config.head_warmup_steps, config.head_warmup_batch_size
    warmup_steps = min(config.optim.warmup_steps, steps // 10)
    adamw = {"optimizer": "adamw", "lr": config.head_warmup_lr, "warmup_steps": warmup_steps}
    optim = config.optim.model_copy(update=adamw)
    often = {"steps": steps, "val_every": max(1, steps // 3)}
    return config.model_copy(update=often | {"batch_size": size, "optim": optim})


def _folds(examples: Sequence[Example], folds: int, seed: int) -> dict[str, int]:
    """Deal the patients out in random order, always the same for a seed."""
    patients = sorted({example.case.patient_id for example in examples})
    if len(patients) < folds:
        fact = f"{folds} folds are more than the {len(patients)} training patients"
        raise DataError("train_cls.evidence_folds", fact, "use fewer")
    order = generator(seed, "folds").permutation(len(patients))
    return {patients[number]: place % folds for place, number in enumerate(order)}

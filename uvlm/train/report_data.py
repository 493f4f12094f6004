"""What stage 3 reads: cases with reports, their cached tokens or volumes, token statistics.

N cases, K visual tokens, C_i channels of encoder stage i, A abnormalities, V values of attributes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from uvlm.arrays import Floats
from uvlm.config import Params
from uvlm.data.cases import Case, Split, read_index
from uvlm.data.examples import choose_cases, of_other_patients, read_examples
from uvlm.errors import ConfigError, DataError
from uvlm.inference.cue_controls import oracle
from uvlm.inference.encode import read_encodings
from uvlm.model.align import deepest_tokens, feature_grids, num_visual_tokens, token_counts
from uvlm.model.classifier import Classifier
from uvlm.model.cues import cuts_of
from uvlm.model.effective_rank import effective_rank
from uvlm.model.folder import read_config, read_weights
from uvlm.model.model_config import EVIDENCE
from uvlm.model.pooled import Pooler
from uvlm.store import Row, resolve
from uvlm.text.abnormalities import abnormality_names
from uvlm.text.attributes import AttributeReader
from uvlm.text.tokenizer import Tokenizer
from uvlm.train.batches import Arrays, CaseSampler, Inputs
from uvlm.train.heads.attributes import told_evidence, told_presence
from uvlm.train.report_batches import (
    CuedInputs,
    FindPlaces,
    PooledInputs,
    ReportBatches,
    TokenInputs,
    report_ids,
    token_statistics,
    token_weights,
)
from uvlm.train.volume_batches import VolumeInputs

MAX_STATISTICS_CASES = 2000
RANK_CASES = 32


@dataclass(frozen=True)
class ReportPaths:
    """Manifests of `index` and `encode`, the folders of the tokenizer and of stages 1 and 2.

    The manifest of `preprocess` is needed if the encoder trains too; without it the model folder
    does not say what its CTs have in common (uvlm/inference/population.py).
    """

    index: Path
    encodings: Path
    tokenizer: Path
    seg: Path
    cls: Path
    preprocess: Path | None = None


class Readers(NamedTuple):
    """What reads training reports: words to be weighed, and what true cues say of attributes."""

    decide: FindPlaces | None = None
    attributes: AttributeReader | None = None


NO_READERS: Final = Readers()


class TunedClassifier(NamedTuple):
    """A classifier, and the probabilities (A,) from which it claims an abnormality."""

    classifier: Classifier
    thresholds: Tensor


@dataclass(frozen=True, eq=False)
class ReportData:
    """Batches to train on, cases to validate on, and mean and deviation of the tokens' channels."""

    train: ReportBatches
    val: ReportBatches
    mean: Floats  # (sum C_i,)
    std: Floats

    def pooled(self) -> Tensor:
        """Pool the first training cases, without noise: (N, P, C)."""
        inputs = self.train.inputs
        inputs = inputs.inputs if isinstance(inputs, CuedInputs) else inputs
        assert isinstance(inputs, PooledInputs)
        tokens = inputs.inputs
        assert isinstance(tokens, TokenInputs)
        count = min(len(self.train.cases), MAX_STATISTICS_CASES)
        quiet = replace(tokens, noise=np.zeros_like(tokens.noise), on_device=False)
        return torch.cat([inputs.pool(quiet.finish(quiet([n], None))) for n in range(count)])


def visual_rank(data: ReportData, stage: int, seed: int) -> float | None:
    """Compute the effective rank of the cached tokens of some validation cases.

    Args:
        data: its validation cases are drawn from.
        stage: the reference stage, from 1, whose tokens are not padded.
        seed: of the draw.

    Returns:
        None if the encoder trains too, as nothing is cached then.
    """
    inputs = data.val.inputs
    while isinstance(inputs, CuedInputs | PooledInputs):
        inputs = inputs.inputs
    if not isinstance(inputs, TokenInputs):
        return None
    quiet = replace(inputs, on_device=False)
    chosen = choose_cases(range(len(data.val.cases)), RANK_CASES, seed)
    tokens = [quiet.finish(quiet([number], None))[stage - 1][0] for number in chosen]
    return effective_rank(torch.cat(tokens))


def read_report_data(
    params: Params,
    paths: ReportPaths,
    tokenizer: Tokenizer,
    encoder_sha256: str,
    *,
    on_device: bool = False,
    tuned: TunedClassifier | None = None,
    readers: Readers = NO_READERS,
) -> ReportData:
    """Join cases, reports and encodings; refuse those of another encoder.

    For cues, the classifier says what it believes of validation cases; of training
    cases that is stored beside it, as others say that have not met them.
    """
    config = params.train_report
    rows = read_encodings(paths.encodings, params.injection, encoder_sha256)
    train, val = (_cases(paths, rows, split) for split in ("train", "val"))
    if config.shuffle_reports:
        train, val = (_with_reports_of_others(cases, params.seed) for cases in (train, val))
    val = choose_cases(val, config.val_cases, params.seed)
    tokens = _token_inputs(params, train, rows)
    grid, plan = params.preprocess.grid, params.injection
    counts = token_counts(grid, params.encoder.strides, plan.reference_stage, plan.deeper)
    mean, std = token_statistics(tokens, min(len(train), MAX_STATISTICS_CASES), counts)
    noise = (config.feature_noise_std * std).astype(np.float32)
    noisy: Inputs = replace(tokens, noise=noise, on_device=on_device)
    clean: Inputs = replace(_token_inputs(params, val, rows), on_device=on_device)
    if config.encoder_lr_scale > 0:
        noisy, clean = (_volume_inputs(params, paths, c, on_device) for c in (train, val))
    if params.injection.pooled != "none":
        assert tuned is not None
        pool = _pooler(params, tuned.classifier)
        noisy, clean = (PooledInputs(part, pool) for part in (noisy, clean))
    if params.injection.cues != "none":
        assert tuned is not None
        noisy = _cued(params, noisy, train, stored_evidence(paths.cls, train), tuned, readers)
        evidence = _evidence(params, tuned.classifier, _token_inputs(params, val, rows))
        clean = CuedInputs(clean, evidence)
    batches = _batches(params, train, noisy, tokenizer)
    if config.deciding_weight > 1:
        batches = replace(batches, weights=_weights(params, train, tokenizer, readers.decide))
    return ReportData(batches, _batches(params, val, clean, tokenizer), mean, std)


def _weights(
    params: Params, cases: Sequence[Case], tokenizer: Tokenizer, decide: FindPlaces | None
) -> list[list[float]]:
    """Weigh the tokens of every report."""
    if decide is None:
        raise ConfigError("train_report.deciding_weight", "nothing finds words to be weighed")
    limit, weight = params.decoder.max_report_tokens, params.train_report.deciding_weight
    return [token_weights(case, tokenizer, limit, decide, weight) for case in cases]


def stored_evidence(folder: Path, cases: Sequence[Case]) -> Tensor:
    """Read evidence (N, A, 1 + V) of training cases out of a classifier's folder."""
    config = read_config(folder, ("cls",))
    remedy = "run `dvc repro train_cls`"
    if EVIDENCE not in config.weights:
        raise DataError(folder, "holds no evidence of training cases", remedy)
    rows = read_weights(folder, EVIDENCE, config)
    if missing := [case.case_id for case in cases if case.case_id not in rows]:
        fact = f"says nothing of {len(missing)} training cases, {missing[0]} the first"
        raise DataError(folder / f"{EVIDENCE}.safetensors", fact, remedy)
    return torch.stack([rows[case.case_id] for case in cases])


def _cued(
    params: Params,
    inputs: Inputs,
    cases: Sequence[Case],
    evidence: Tensor,
    tuned: TunedClassifier,
    readers: Readers,
) -> CuedInputs:
    """Put the evidence of training cases behind their tokens, some of it as reports say it."""
    config, told = params.train_report, None
    if config.cue_truth > 0:
        names, read = abnormality_names(params), readers.attributes
        if evidence.shape[2] == 1:  # of presence alone
            truth = told_presence(cases)
        elif read is None:
            raise ConfigError("train_report.cue_truth", "nothing reads attributes out of reports")
        else:
            truth = told_evidence(cases, names, read)
        told = oracle(evidence, torch.from_numpy(truth).float(), cuts_of(tuned.thresholds))
    return CuedInputs(
        inputs, evidence, config.cue_dropout, config.cue_case_dropout, told, config.cue_truth
    )


@torch.no_grad()
def _evidence(params: Params, classifier: Classifier, tokens: TokenInputs) -> Tensor:
    """Ask the classifier about cases with cached tokens: (N, A, 1 + V)."""
    each = (tokens.finish(tokens([number], None)) for number in range(len(tokens.paths)))
    return torch.cat([classifier.evidence(_deepest(params, stages)) for stages in each])


def _pooler(params: Params, classifier: Classifier) -> Pooler:
    plan = params.injection
    grids = feature_grids(params.preprocess.grid, params.encoder.strides)
    own = deepcopy(classifier).eval()  # it moves to the device of the tokens
    return Pooler(plan.pooled, own, grids, plan.reference_stage, plan.deeper)


def _deepest(params: Params, stages: Sequence[Tensor]) -> Tensor:
    """Recover f_N from the aligned tokens."""
    plan, grid = params.injection, params.preprocess.grid
    grids = feature_grids(grid, params.encoder.strides)
    return deepest_tokens(stages[-1], grids, plan.reference_stage, plan.deeper)


def _cases(paths: ReportPaths, rows: Mapping[str, Row], split: Split) -> list[Case]:
    cases = [c for c in read_index(paths.index) if c.split == split and c.case_id in rows]
    if not cases:
        remedy = "check data/manifests/quarantine and the split sizes of the profile"
        raise DataError(paths.encodings, f"no case of split {split} is encoded", remedy)
    return cases


def _with_reports_of_others(cases: Sequence[Case], seed: int) -> list[Case]:
    others = of_other_patients(cases, seed)
    return [case.with_report_of(other) for case, other in zip(cases, others, strict=True)]


def _batches(
    params: Params, cases: Sequence[Case], inputs: Inputs, tokenizer: Tokenizer
) -> ReportBatches:
    """Tokenise the reports of these cases and pair them with their images."""
    config, limit = params.train_report, params.decoder.max_report_tokens
    reports = [report_ids(case, tokenizer, limit) for case in cases]
    table = np.array([case.abnormalities for case in cases], dtype=np.int64)
    sampler = CaseSampler(table, config.balanced_fraction)
    return ReportBatches(cases, reports, inputs, config, sampler, params.seed, tokenizer.pad_id)


def _token_inputs(params: Params, cases: Sequence[Case], rows: Mapping[str, Row]) -> TokenInputs:
    """Find the cached tokens of these cases; no noise yet."""
    grid, channels = params.preprocess.grid, params.encoder.channels
    stage = params.injection.reference_stage
    num_tokens = num_visual_tokens(grid, params.encoder.strides, stage)
    size = num_tokens * sum(channels) * np.dtype(params.encode.dtype).itemsize
    chosen = [rows[case.case_id] for case in cases]
    paths = [resolve(row, "encode") for row in chosen]
    views = [int(row.extra.get("views", 1)) for row in chosen]
    silence = np.zeros(sum(channels), dtype=np.float32)
    return TokenInputs(paths, views, Arrays.sized(size * sum(views)), channels, silence)


def _volume_inputs(
    params: Params, paths: ReportPaths, cases: Sequence[Case], on_device: bool
) -> VolumeInputs:
    """Find the volumes of these cases, in the same order."""
    if paths.preprocess is None:
        fact, remedy = "above 0 needs volumes", "pass the preprocess manifest"
        raise ConfigError("train_report.encoder_lr_scale", fact, remedy)
    examples = read_examples(paths.index, paths.preprocess, params.preprocess)
    by_id = {example.case_id: example for example in examples}
    chosen = [by_id[case.case_id] for case in cases]
    arrays = Arrays.sized(sum(2 * prod(example.shape) for example in chosen))
    return VolumeInputs(chosen, arrays, params.preprocess, params.train_report.augment, on_device)

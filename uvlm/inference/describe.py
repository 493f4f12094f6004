"""Reports and probabilities of cases that a finished model has never met, for `uvlm evaluate`.

Volumes are read one at a time and nothing is cached, so this is what `predict` says of the same
CTs, written as the section `generate` decodes.

B batch, K visual tokens, C_i channels of encoder stage i, (D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from uvlm.config import GenerateConfig, PreprocessConfig
from uvlm.data.examples import Example
from uvlm.device import set_threads
from uvlm.inference.decoding import Decoding
from uvlm.inference.encode import encode_volumes
from uvlm.inference.held import Spans
from uvlm.inference.report_writer import ReportWriter
from uvlm.model.fast_norm import ready
from uvlm.model.load import ReportModel
from uvlm.seeding import torch_generator
from uvlm.text.predictions import CasePrediction


def describe(
    writer: ReportWriter,
    examples: Sequence[Example],
    preprocess: PreprocessConfig,
    config: GenerateConfig,
    seed: int,
    done: Callable[[int], object] = lambda count: None,
    *,
    mirrored: bool = False,
    evidence: Tensor | None = None,
) -> list[CasePrediction]:
    """Describe cases; parts of the model that never learned leave their place empty.

    Args:
        writer: from `ready_writer`.
        examples: cases prepared as the model's contract says.
        preprocess: that contract.
        config: how to decode; never longer than the model's training reports.
        seed: of reports that are drawn.
        done: told how many cases are described.
        mirrored: exchanges left and right of every CT.
        evidence: of all cases, in place of the classifier's, (N, A, 1 + V); see cue_controls.py.
    """
    model = writer.model
    decoding = Decoding.of(config, model.config.decoder.max_report_tokens)
    found: list[CasePrediction] = []
    encoded = _encoded(writer, examples, preprocess, config.batch_size, mirrored=mirrored)
    for batch, visual in encoded:
        given = None if evidence is None else evidence[len(found) : len(found) + len(batch)]
        seen = writer.seen(visual, visual, config.cue_shift, given)
        reports = writer.write(seen, decoding, _randomness(decoding, writer, seed, batch[0]))
        found += [
            CasePrediction(e.case_id, e.case.patient_id, report.text, row, model=model.sha256[:12])
            for e, report, row in zip(batch, reports, writer.probabilities(visual), strict=True)
        ]
        done(len(found))
    return found


def read_evidence(
    model: ReportModel, examples: Sequence[Example], preprocess: PreprocessConfig, batch_size: int
) -> Tensor:
    """Ask the classifier about all cases: logits (N, A, 1 + V), for cue_controls.py."""
    writer = ready_writer(model)
    encoded = _encoded(writer, examples, preprocess, batch_size)
    return torch.cat([writer.evidence(visual).cpu() for _, visual in encoded])


def ready_writer(model: ReportModel, spans: Spans | None = None) -> ReportWriter:
    """Make a model ready to read CTs, and to hold impressions to findings if `spans` read both."""
    set_threads()
    writer = ReportWriter.of(model, spans)
    ready(model.encoder, writer.device)
    return writer


def _encoded(
    writer: ReportWriter,
    examples: Sequence[Example],
    preprocess: PreprocessConfig,
    batch_size: int,
    *,
    mirrored: bool = False,
) -> Iterator[tuple[Sequence[Example], list[Tensor]]]:
    """Yield batches of cases with their tokens of every stage, (B, K, C_i)."""
    model = writer.model
    for start in range(0, len(examples), batch_size):
        batch, tokens = examples[start : start + batch_size], []
        for example in batch:  # (1, 1, D, H, W) -> (1, K, sum C_i)
            x = torch.from_numpy(example.voxels(preprocess))[None, None].to(writer.device)
            x = x.flip(-1) if mirrored else x
            tokens.append(encode_volumes(model.encoder, x, model.config.injection))
        yield batch, writer.visual(torch.cat(tokens))


def _randomness(
    decoding: Decoding, writer: ReportWriter, seed: int, first: Example
) -> torch.Generator | None:
    """Seed a batch by its first case, as the stage `generate` does; greedy writing needs none."""
    if decoding.temperature == 0:
        return None
    drawn = torch_generator(seed, "generate", first.case_id).initial_seed()
    return torch.Generator(writer.device).manual_seed(drawn)

"""Stage `generate`: a report, probabilities and a label map for every scan of the test split.

data/generated/predictions.jsonl    case_id, patient_id, report, probabilities, model, seconds
data/manifests/generate.jsonl       label maps on the network's grid, in the store

A scan is read once, from its first reconstruction: reports and labels belong to scans.

B batch, K visual tokens, C_i channels of encoder stage i.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor

from uvlm.config import Params, PreprocessConfig
from uvlm.data.cases import read_index, scored_cases
from uvlm.data.examples import Example, read_examples
from uvlm.data.preprocess import contract, normalise
from uvlm.errors import DataError
from uvlm.inference.decoding import Decoding, Ended
from uvlm.inference.device import set_threads
from uvlm.inference.encode import encode_volumes, read_encodings
from uvlm.inference.report_writer import ReportWriter
from uvlm.inference.segment import Segmenter, segment_cases
from uvlm.model.checkpoint import check_contract, load_report_model, load_segmenter
from uvlm.seeding import torch_generator
from uvlm.store import Row, load_array, resolve, write_manifest
from uvlm.text.predictions import CasePrediction, write_predictions
from uvlm.tracking import Progress

Tokens = Callable[[Example], Tensor]


class GeneratePaths(TypedDict):
    """Manifests of `index`, `encode` and `preprocess`, model folders, and the two outputs."""

    index: Path
    encodings: Path
    preprocess: Path
    model: Path
    seg: Path
    predictions: Path
    masks: Path


def generate_reports(
    params: Params, *, progress: Progress | None = None, **paths: Unpack[GeneratePaths]
) -> dict[str, float]:
    """Write predictions and label maps of the test split.

    Args:
        params: reads `seed` and the sections preprocess, encoder, injection, train_seg (patch),
            train_report (whether the encoder trained along) and generate.
        progress: shows the cases done, each counted for its report and for its label map.
        **paths: see GeneratePaths; `model` is data/models/report, `seg` is data/models/seg.

    Returns:
        How many cases, how many different reports, how many of them did not end by themselves,
        seconds per report.
    """
    set_threads()
    for folder in (paths["model"], paths["seg"]):
        check_contract(folder, contract(params.preprocess))
    examples = first_reconstructions(paths["index"], paths["preprocess"], params.preprocess)
    steps = _Steps(progress, 2 * len(examples))
    writer = ReportWriter.of(load_report_model(paths["model"]))
    tokens = _token_source(params, writer, paths["encodings"])
    predictions: list[CasePrediction] = []
    ended: Counter[Ended] = Counter()
    for batch in _batches(examples, params.generate.batch_size):
        predictions += _predict(params, writer, batch, tokens, ended)
        steps.done(len(predictions))
    loaded = load_segmenter(paths["seg"])
    segmenter = Segmenter.of(loaded.unet, params.train_seg.patch)
    rows = segment_cases(
        segmenter,
        examples,
        params.preprocess,
        loaded.config.weights["unet"],
        lambda count: steps.done(len(examples) + count),
    )
    write_predictions(paths["predictions"], predictions)
    write_manifest(paths["masks"], rows)
    return {
        "cases": float(len(predictions)),
        "distinct_reports": float(len({prediction.report for prediction in predictions})),
        "reports_cut_at_max_tokens": float(ended["limit"]),
        "reports_stopped_in_a_loop": float(ended["loop"]),
        "seconds_per_report": sum(p.seconds for p in predictions) / len(predictions),
    }


def first_reconstructions(index: Path, preprocess: Path, config: PreprocessConfig) -> list[Example]:
    """Read the first case of every test scan; one that was refused later stays out."""
    chosen = {case.case_id for case in scored_cases(read_index(index))}
    examples = read_examples(index, preprocess, config, "test")
    kept = [example for example in examples if example.case.case_id in chosen]
    if not kept:
        raise DataError(preprocess, "has no first reconstruction of a test scan", "see quarantine")
    return kept


@dataclass(frozen=True)
class _Steps:
    progress: Progress | None
    total: int

    def done(self, count: int) -> None:
        """Show that so many steps are done."""
        if self.progress is not None:
            self.progress.update(count, self.total)


def _batches(examples: Sequence[Example], size: int) -> Iterator[Sequence[Example]]:
    return (examples[start : start + size] for start in range(0, len(examples), size))


def _predict(
    params: Params,
    writer: ReportWriter,
    batch: Sequence[Example],
    tokens: Tokens,
    ended: Counter[Ended],
) -> list[CasePrediction]:
    """Classify and describe one batch; every case gets an equal share of the seconds.

    `ended` counts why reports ended.
    """
    start = time.perf_counter()
    visual = writer.visual(torch.stack([tokens(example) for example in batch]))
    decoding = Decoding.of(params.generate, writer.model.config.decoder.max_report_tokens)
    randomness = None
    if decoding.temperature > 0:
        seed = torch_generator(params.seed, "generate", batch[0].case.case_id).initial_seed()
        randomness = torch.Generator(writer.device).manual_seed(seed)
    reports = writer.write(visual, decoding, randomness)
    ended.update(report.ended for report in reports)
    probabilities = writer.probabilities(visual)
    seconds = round((time.perf_counter() - start) / len(batch), 4)
    cases = [example.case for example in batch]
    return [
        CasePrediction(
            case.case_id, case.patient_id, report.text, row, writer.model.sha256[:12], seconds
        )
        for case, report, row in zip(cases, reports, probabilities, strict=True)
    ]


def _token_source(params: Params, writer: ReportWriter, encodings: Path) -> Tokens:
    """Read cached tokens (K, sum C_i); an encoder that trained along reads volumes again."""
    model = writer.model
    if params.train_report.encoder_lr_scale > 0:
        encoder = model.encoder.to(writer.device, memory_format=torch.channels_last_3d)

        def encoded(example: Example) -> Tensor:
            array = load_array(example.volume, example.volume_sha256)
            voxels = normalise(array, params.preprocess, example.statistics)
            x = torch.from_numpy(voxels)[None, None].to(writer.device)
            return encode_volumes(encoder, x, params.injection)[0]

        return encoded
    rows = read_encodings(encodings, params.injection, model.config.weights["encoder"])
    return lambda example: _cached(rows, example, encodings)


def _cached(rows: dict[str, Row], example: Example, encodings: Path) -> Tensor:
    case_id = example.case.case_id
    if case_id not in rows:
        raise DataError(encodings, f"case {case_id} is not encoded", "run `dvc repro encode`")
    array = load_array(resolve(rows[case_id], "encode"), rows[case_id].sha256)
    return torch.from_numpy(array.astype(np.float32))

"""Stage `generate`: a report, probabilities and a label map for every scan of the test split.

data/generated/predictions.jsonl    one line per scan; see text/predictions.py for its keys
data/generated/trained.json         the parts of the model that have learned
data/generated/shifted_reports.json reports of validation at `generate.cue_shifts`, if there are any
data/manifests/generate.jsonl       label maps on the network's grid, in the store

What a part has to say that was never trained is left out: masks, probabilities, reports.

A scan is read once, from its first reconstruction, because reports and labels belong to scans.
Validation scans with a reference label map are segmented too; `evaluate` sets thresholds on them.

B batch, K visual tokens, C_i channels of encoder stage i, E numbers of the classifier's embedding.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, TypedDict, Unpack

import torch
from torch import Tensor

from uvlm.config import Params
from uvlm.data.cases import Split, read_index, scored_cases
from uvlm.data.contract import contract
from uvlm.data.examples import Example, read_examples
from uvlm.device import set_threads
from uvlm.errors import DataError, SetupError
from uvlm.inference.decoding import Decoding, Ended
from uvlm.inference.held import Spans
from uvlm.inference.kept_reports import KeptReports, Written
from uvlm.inference.reading import Cached, Tokens, cached_tokens, read_batches, reading
from uvlm.inference.report_writer import ReportWriter, nearest_cases
from uvlm.inference.segment import Segmenter, segment_cases
from uvlm.model.folder import check_contract
from uvlm.model.load import load_report_model, load_segmenter
from uvlm.model.trained import in_order
from uvlm.seeding import torch_generator
from uvlm.store import Shard, read_manifest, write_manifest
from uvlm.store.fanout import in_batches
from uvlm.text.predictions import CasePrediction, write_predictions, write_trained
from uvlm.text.shifted_reports import write_shifted
from uvlm.tracking import Progress

_CODE_FIRST: Final = "run `dvc repro -s code` once, then every share"
_SPLITS: Final[tuple[Split, ...]] = ("test", "train", "val")


class GeneratePaths(TypedDict):
    """Manifests of earlier stages, model folders, and the two outputs."""

    index: Path
    encodings: Path
    preprocess: Path
    label_maps: Path
    model: Path
    seg: Path
    predictions: Path
    masks: Path


def generate_reports(
    params: Params,
    *,
    progress: Progress | None = None,
    code: str = "",
    shard: Shard | None = None,
    spans: Spans | None = None,
    **paths: Unpack[GeneratePaths],
) -> dict[str, float]:
    """Write predictions of the test split, and label maps of it and of validation.

    Args:
        params: reads `seed` and the sections preprocess, encoder, injection, train_seg (patch),
            train_report (whether the encoder was trained too) and generate.
        progress: shows how many cases were segmented, described and compared with.
        code: digest of the stage's code; see `every_case.run`.
        shard: store only this share of masks and reports, and write nothing else.
        spans: hold impressions to their findings, as these read both.
        **paths: see GeneratePaths; `model` is data/models/report, `seg` is data/models/seg.

    Returns:
        How many cases, how many distinct reports, how many that did not end by themselves, and
        seconds per report; nothing of a share.
    """
    if shard is not None and not code:
        raise SetupError("--shard", "reports are kept by a digest of the code", _CODE_FIRST)
    set_threads()
    for folder in (paths["model"], paths["seg"]):
        check_contract(folder, contract(params.preprocess))
    test, training, masked, validation = _chosen(params, paths)
    loaded = load_segmenter(paths["seg"])
    masked = masked if "segmentation" in loaded.trained else []
    batches = in_batches(test, params.generate.batch_size)
    total = len(test) + len(training) + len(masked)
    if shard is not None:
        batches, total = list(shard.of(batches)), (len(test) + len(masked)) // shard.count

    def done(before: int, count: int) -> None:
        if progress is not None:
            progress.update(before + count, total)

    segmenter = Segmenter.of(loaded.unet, params.train_seg.patch)
    sha256, shown = loaded.config.weights["unet"], partial(done, 0)
    # Masks come first: changed code is refused there before reports take hours.
    rows = segment_cases(segmenter, masked, params.preprocess, sha256, shown, code, shard)
    writer = ReportWriter.of(load_report_model(paths["model"]), spans)
    cached = cached_tokens(params, writer, paths["encodings"])
    described = _described(params, writer, cached, batches, code)
    predictions, ended = _collected(described, partial(done, len(rows)))
    if shard is not None:
        return {}
    shown = partial(done, len(masked) + len(test))
    predictions = _nearest(params, writer, cached, test, training, predictions, shown)
    write_predictions(paths["predictions"], predictions)
    write_trained(paths["predictions"], in_order(writer.trained))
    write_manifest(paths["masks"], rows)
    _write_shifted(params, writer, cached, validation, paths["predictions"])
    return _numbers(predictions, ended)


def _nearest(
    params: Params,
    writer: ReportWriter,
    cached: Cached,
    test: Sequence[Example],
    training: Sequence[Example],
    predictions: Sequence[CasePrediction],
    done: Callable[[int], None],
) -> list[CasePrediction]:
    """Name beside each prediction the training case that the classifier takes for it."""
    queries = torch.cat([rows for _, rows in _embedded(params, writer, test, cached)])
    names = nearest_cases(queries, _embedded(params, writer, training, cached, done))
    return [replace(p, nearest=name) for p, name in zip(predictions, names, strict=True)]


def _write_shifted(
    params: Params,
    writer: ReportWriter,
    cached: Cached,
    validation: Sequence[Example],
    predictions: Path,
) -> None:
    """Write the reports of validation at every shift of the cues; shares leave that to the end."""
    batches = in_batches(validation, params.generate.batch_size)
    found: dict[float, dict[str, str]] = {}
    for shift in params.generate.cue_shifts:
        section = params.generate.model_copy(update={"cue_shift": shift})
        how = params.model_copy(update={"generate": section}), writer
        read = read_batches(reading(params, writer, cached), batches, writer.device)
        written = [p for batch, tokens in read for p in _predict(*how, batch, tokens)[0]]
        found[shift] = {prediction.case_id: prediction.report for prediction in written}
    if found:
        write_shifted(predictions, found)


def _numbers(predictions: Sequence[CasePrediction], ended: Counter[Ended]) -> dict[str, float]:
    return {
        "cases": float(len(predictions)),
        "distinct_reports": float(len({prediction.report for prediction in predictions})),
        "reports_cut_at_max_tokens": float(ended["limit"]),
        "reports_stopped_in_a_loop": float(ended["loop"]),
        "impressions_written_again": float(ended["held"]),
        "seconds_per_report": sum(p.seconds for p in predictions) / len(predictions),
    }


def _chosen(
    params: Params, paths: GeneratePaths
) -> tuple[list[Example], list[Example], list[Example], list[Example]]:
    """Read the first case of every scan: to describe, to compare with, to segment; validation.

    A case that was refused later is left out, and no other replaces it.

    Raises:
        DataError: there is no test case.
    """
    read = read_examples(paths["index"], paths["preprocess"], params.preprocess)
    examples = {example.case_id: example for example in read}
    index = read_index(paths["index"])
    test, training, validation = (
        [examples[c.case_id] for c in scored_cases(index, split) if c.case_id in examples]
        for split in _SPLITS
    )
    if not test:
        fact = "has no first reconstruction of a test scan"
        raise DataError(paths["preprocess"], fact, "see quarantine")
    known = {row.case for row in read_manifest(paths["label_maps"])}
    masked = [*test, *(e for e in validation if e.case_id in known)]
    return test, training, masked, validation


def _described(
    params: Params,
    writer: ReportWriter,
    cached: Cached,
    batches: Sequence[Sequence[Example]],
    code: str,
) -> Iterator[Written]:
    """Find or write the reports of every batch, reading ahead of those to be written."""
    source = reading(params, writer, cached)
    kept = KeptReports(params, writer, source, code)
    found = [kept.find(batch) for batch in batches]
    missing = [batch for batch, written in zip(batches, found, strict=True) if written is None]
    ahead = read_batches(source, missing, writer.device)
    for batch, written in zip(batches, found, strict=True):
        if written is None:
            written = _predict(params, writer, *next(ahead))
            kept.keep(batch, written)
        yield written


def _collected(
    described: Iterable[Written], done: Callable[[int], None]
) -> tuple[list[CasePrediction], Counter[Ended]]:
    """Put batches together, and count why their reports ended."""
    predictions: list[CasePrediction] = []
    ended: Counter[Ended] = Counter()
    for written, ends in described:
        predictions += written
        ended.update(ends)
        done(len(predictions))
    return predictions, ended


def _predict(
    params: Params, writer: ReportWriter, batch: Sequence[Example], tokens: Tokens
) -> Written:
    """Classify and describe one batch; the seconds are divided equally among its cases."""
    start = time.perf_counter()
    own = writer.visual(tokens.classifier)
    visual = writer.seen(writer.visual(tokens.decoder), own, params.generate.cue_shift)
    decoding = Decoding.of(params.generate, writer.model.config.decoder.max_report_tokens)
    randomness = None
    if decoding.temperature > 0:
        seed = torch_generator(params.seed, "generate", batch[0].case_id).initial_seed()
        randomness = torch.Generator(writer.device).manual_seed(seed)
    reports = writer.write(visual, decoding, randomness)
    probabilities = writer.probabilities(own)
    seconds = round((time.perf_counter() - start) / len(batch), 4)
    model = writer.model.sha256[:12]
    predictions = [
        CasePrediction(e.case_id, e.case.patient_id, report.text, row, model=model, seconds=seconds)
        for e, report, row in zip(batch, reports, probabilities, strict=True)
    ]
    return predictions, [report.ended for report in reports]


def _embedded(
    params: Params,
    writer: ReportWriter,
    examples: Sequence[Example],
    cached: Cached,
    done: Callable[[int], None] = lambda count: None,
) -> Iterator[tuple[list[str], Tensor]]:
    """Embed cases as the classifier sees them, a batch at a time: ids and (B, E)."""
    count, batches = 0, in_batches(examples, params.generate.batch_size)
    for batch, tokens in read_batches(cached, batches, writer.device):
        visual = writer.visual(tokens.classifier)
        yield [example.case_id for example in batch], writer.embeddings(visual)
        count += len(batch)
        done(count)

"""Writing the index of nearest training cases: their reports beside a model, if somebody asks.

B batch, N cases, E numbers of the classifier's embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch

from uvlm.config import Params
from uvlm.data.cases import read_index, scored_cases
from uvlm.data.ct.origin import salted_id
from uvlm.data.examples import read_examples
from uvlm.errors import DataError
from uvlm.inference.evidence.nearest import write_index
from uvlm.inference.reading import cached_tokens, read_batches
from uvlm.inference.report_writer import ReportWriter
from uvlm.model.load import load_report_model
from uvlm.store.fanout import in_batches
from uvlm.tracking import Progress

_DIGITS: Final = 12


def index_training(
    params: Params,
    model: Path,
    *,
    index: Path,
    preprocess: Path,
    encodings: Path,
    names: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write the index of every training scan beside a model; returns how many there are.

    Args:
        params: reads the sections preprocess, injection and generate (batch_size).
        model: a report folder, whose classifier was trained.
        index: manifest of the stage `index`.
        preprocess: manifest of the stage `preprocess`.
        encodings: manifest of the stage `encode`, of the same encoder.
        names: whether cases keep their ids; else they get salted ones.
        progress: shows the cases done.

    Raises:
        DataError: the classifier was not trained, or there is no training case.
    """
    writer = ReportWriter.of(load_report_model(model))
    if "classifier" not in writer.trained:
        raise DataError(model, "has no trained classifier, so nothing is near", "train stage 2")
    cached = cached_tokens(params, writer, encodings)
    read = {each.case_id: each for each in read_examples(index, preprocess, params.preprocess)}
    scans = scored_cases(read_index(index), "train")
    chosen = [read[case.case_id] for case in scans if case.case_id in read]
    if not chosen:
        raise DataError(index, "has no training case that was prepared", "see quarantine")
    called: Callable[[str], str] = str if names else _pseudonym
    cases, embeddings = list[tuple[str, str]](), []
    for batch, tokens in read_batches(
        cached, in_batches(chosen, params.generate.batch_size), writer.device
    ):
        embeddings.append(writer.embeddings(writer.visual(tokens.classifier)).cpu())
        cases += [(called(each.case_id), each.case.report.text) for each in batch]
        if progress is not None:
            progress.update(len(cases), len(chosen))
    write_index(model, writer.model.sha256, cases, torch.cat(embeddings))
    return len(cases)


def _pseudonym(case_id: str) -> str:
    return f"train-{salted_id(case_id, digits=_DIGITS)}"

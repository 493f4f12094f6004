"""Stage `classify`: the probabilities of stage 2 for every scan of the test split.

    predictions.jsonl    one line per scan, without a report; see text/predictions.py for its keys
    trained.json         the parts of the model that have learned

No language decoder is needed, so a training that ends after stage 2 can be scored. Probabilities of
a classifier that was never trained are left out. A scan is read once, from its first
reconstruction, and one that was refused before is left out.

B batch, A abnormalities, (D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from uvlm.config import Params
from uvlm.data.cases import read_index, scored_cases
from uvlm.data.contract import contract
from uvlm.data.examples import Example, read_examples
from uvlm.device import autocast, choose_device, set_threads
from uvlm.errors import DataError
from uvlm.inference.encode import BATCH_VOXELS
from uvlm.model.fast_norm import ready
from uvlm.model.folder import check_contract
from uvlm.model.load import ClassifierModel, load_classifier
from uvlm.model.trained import in_order
from uvlm.text.predictions import CasePrediction, write_predictions, write_trained
from uvlm.tracking import Progress


def classify_cases(
    params: Params,
    *,
    index: Path,
    preprocess: Path,
    model: Path,
    predictions: Path,
    progress: Progress | None = None,
) -> list[CasePrediction]:
    """Write the probabilities of the test split.

    Args:
        params: reads the section preprocess.
        index: manifest of the stage `index`.
        preprocess: manifest of the stage `preprocess`.
        model: model folder of stage 2, data/models/cls.
        predictions: JSON lines to write, and trained.json beside them.
        progress: shows the scans done.

    Raises:
        DataError: there is no test scan, or the model was trained on another kind of volumes.
    """
    check_contract(model, contract(params.preprocess))
    loaded = load_classifier(model)
    device = choose_device()
    set_threads()
    ready(loaded.encoder, device)
    loaded.classifier.to(device)
    examples = _test_scans(params, index, preprocess)
    size = max(1, BATCH_VOXELS // prod(params.preprocess.grid))
    made: list[CasePrediction] = []
    for start in range(0, len(examples), size):
        made += _classify(params, loaded, examples[start : start + size], device)
        if progress is not None:
            progress.update(len(made), len(examples))
    write_predictions(predictions, made)
    write_trained(predictions, in_order(loaded.trained))
    return made


def _test_scans(params: Params, index: Path, preprocess: Path) -> list[Example]:
    by_case = {e.case_id: e for e in read_examples(index, preprocess, params.preprocess)}
    scored = scored_cases(read_index(index), "test")
    if examples := [by_case[case.case_id] for case in scored if case.case_id in by_case]:
        return examples
    fact = "has no first reconstruction of a test scan"
    raise DataError(preprocess, fact, "see quarantine")


@torch.no_grad()
def _classify(
    params: Params, model: ClassifierModel, batch: Sequence[Example], device: torch.device
) -> list[CasePrediction]:
    rows: list[dict[str, float]] = [{} for _ in batch]
    if "classifier" in model.trained:
        voxels = np.stack([example.voxels(params.preprocess) for example in batch])
        x = torch.from_numpy(voxels)[:, None].to(device)  # (B, 1, D, H, W)
        with autocast(device):
            logits: Tensor = model.classifier(model.encoder(x)[-1])  # (B, A)
        names, values = model.config.abnormalities, torch.sigmoid(logits.float()).tolist()
        rows = [{n: round(p, 6) for n, p in zip(names, row, strict=True)} for row in values]
    model_id = model.sha256[:12]
    return [
        CasePrediction(e.case_id, e.case.patient_id, "", row, model=model_id)
        for e, row in zip(batch, rows, strict=True)
    ]

"""The evidence page of one CT: maps of what its sentences may rest on, and the page itself.

(D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from uvlm.arrays import Floats, Voxels
from uvlm.data.ct.resample import Axis, resample_image
from uvlm.data.ct.volume import Affine
from uvlm.device import autocast
from uvlm.drafts.case_result import CaseResult
from uvlm.files import write_text_atomic
from uvlm.inference.evidence.contributions import contributions
from uvlm.inference.evidence.nearest import nearest
from uvlm.inference.evidence.occlusion import MOST_VOXELS, occlusion
from uvlm.inference.predictor import Predictor
from uvlm.model.align import feature_grids
from uvlm.pages.evidence.map_trust import MapTrust
from uvlm.pages.evidence.page import EvidencePage, Near
from uvlm.pages.evidence.places import PlaceMap

FILE_NAME: Final = "evidence.html"
MEASURED: Final = Path("reports", "evidence")  # where a project keeps the test of its maps
NUM_NEAR: Final = 3
_FINE: Final = 48  # voxels of a shown map along its longest axis
_STEPS: Final = 16384  # whole numbers that a map is resampled in


def write_evidence(result: CaseResult, folder: Path) -> None:
    """Write evidence.html; maps only of what the report says is there.

    Raises:
        DataError: a file beside the model is damaged.
    """
    model, draft = result.predictor.model, result.draft
    home = model.tokenizer.parent
    deepest = deepest_of(result.predictor, result.voxels[None])
    cases = []
    if draft.report is not None and "classifier" in result.predictor.trained:
        embedding = model.classifier.embed(deepest)[0]
        cases = nearest(home, model.sha256, embedding, NUM_NEAR)
    page = EvidencePage(
        draft,
        result.volume,
        result.label_map,
        result.class_names,
        maps=_maps(result, deepest),
        trust=MapTrust.load((home, MEASURED), model.sha256),
        near=[Near(case.case_id, case.report, case.similarity) for case in cases],
    )
    write_text_atomic(folder / FILE_NAME, page.html())


@torch.no_grad()
def deepest_of(predictor: Predictor, voxels: Voxels) -> Tensor:
    """Encode volumes (B, D, H, W) for the classifier: f_N as tokens (B, K, C)."""
    x = torch.from_numpy(np.ascontiguousarray(voxels))[:, None].to(predictor.writer.device)
    with autocast(x.device):
        last: Tensor = predictor.model.classifier_encoder(x)[-1]
    return last.float().flatten(2).transpose(1, 2)


def attention_maps(predictor: Predictor, deepest: Tensor) -> Floats:
    """Compute what each place adds to each logit of one CT, on the grid of f_N: (A, D, H, W)."""
    config = predictor.model.config
    grid = feature_grids(config.grid, config.encoder.strides)[-1]
    parts, _ = contributions(predictor.model.classifier, deepest)
    return parts[0].reshape(-1, *grid).cpu().double().numpy()


def occlusion_maps(predictor: Predictor, voxels: Voxels) -> Floats:
    """Measure by how much each logit falls when a block of a CT is covered: (A, z, y, x)."""

    @torch.no_grad()
    def logits_of(batch: Voxels) -> Floats:
        logits: Tensor = predictor.model.classifier(deepest_of(predictor, batch))
        return logits.double().cpu().numpy()

    return occlusion(voxels, logits_of)


def _maps(result: CaseResult, deepest: Tensor) -> Mapping[str, Sequence[PlaceMap]]:
    """Make the maps of every abnormality that a sentence says is there."""
    predictor = result.predictor
    claims = (claim for sentence in result.draft.sentences for claim in sentence.claims)
    wanted = {claim.abnormality for claim in claims if claim.present}
    columns = [(n, i) for i, n in enumerate(predictor.model.config.abnormalities) if n in wanted]
    if not columns or "classifier" not in predictor.trained:
        return {}
    affine = result.geometry.grid_affine
    made = {"contribution": attention_maps(predictor, deepest)}
    if result.voxels.size <= MOST_VOXELS:
        made["occlusion"] = occlusion_maps(predictor, result.voxels)
    return {
        name: [place_map(kind, maps[i], result.voxels.shape, affine) for kind, maps in made.items()]
        for name, i in columns
    }


def place_map(kind: str, strength: Floats, grid: Sequence[int], affine: Affine) -> PlaceMap:
    """Bring a map that spans the network's grid onto a fine one, without its negative part."""
    shrink = max(1.0, max(grid) / _FINE)
    sizes = [max(1, round(n / shrink)) for n in grid]
    axes = [Axis(n, m, n / m) for n, m in zip(strength.shape, sizes, strict=True)]
    top = max(float(strength.max()), 0.0)
    positive = np.clip(strength, 0, None) * (_STEPS / top if top else 0.0)
    fine = resample_image(positive.astype(np.float32), axes, (0, _STEPS))
    voxels: Voxels = fine.astype(np.float32) * np.float32(top / _STEPS)
    return PlaceMap(kind, voxels, spread(affine, grid, sizes))


def spread(affine: Affine, grid: Sequence[int], sizes: Sequence[int]) -> Affine:
    """Return the affine of a grid of other `sizes` over the same space as `grid`."""
    other = affine.copy()
    for axis, (n, m) in enumerate(zip(grid, sizes, strict=True)):
        other[:, 3] += affine[:, axis] * (n / m - 1) / 2  # from edge to edge, not centre to centre
        other[:, axis] *= n / m
    return other

"""Which parts of a model have learned: what a part says while it is as the seed made it is noise.

    encoder        features of a CT, for classifier and language
    segmentation   the U-Net's decoder, which draws masks
    classifier     probabilities of abnormalities
    language       projections and decoder, which write the report

Every training records them in config.json. A folder of an earlier release has no such record; its
weights are looked at instead: the scales of normalisations start at exactly 1, or 0 at the end of a
residual block, and any step of an optimiser moves them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    from torch import nn

Part = Literal["encoder", "segmentation", "classifier", "language"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)


def in_order(parts: Collection[Part]) -> tuple[Part, ...]:
    """Return each part once, in the order of PARTS."""
    return tuple(part for part in PARTS if part in parts)


def trained_parts(
    recorded: Collection[Part] | None, modules: Mapping[Part, nn.Module]
) -> set[Part]:
    """Say which of the loaded parts have learned: as recorded, else by their weights."""
    if recorded is not None:
        return set(recorded).intersection(modules)
    return {part for part, module in modules.items() if not _is_as_seeded(module)}


def _is_as_seeded(module: nn.Module) -> bool:
    """Whether every scale of a normalisation is still 1 or 0; without one, the part has learned."""
    scales = [
        weight
        for name, weight in module.named_parameters()
        # nnU-Net's decoder also holds the encoder.
        if name.endswith("norm.weight") and not name.startswith("encoder.")
    ]
    return bool(scales) and all(bool((scale == scale.round()).all()) for scale in scales)

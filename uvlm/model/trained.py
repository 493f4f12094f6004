"""Which parts of a model have learned: what a part says while it is as the seed made it is noise.

    encoder        features of a CT, for classifier and language
    segmentation   the U-Net's decoder, which draws masks
    classifier     probabilities of abnormalities
    language       projections and decoder, which write the report

Every training records them in config.json. A folder of an earlier release has no such record; its
weights are looked at instead. The scales of normalisations start at exactly 1, or 0 at the end of a
residual block, and the biases of the head that draws masks at 0; any step of an optimiser moves
them. A part without either counts as trained.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor, nn

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
    """Whether all scales of normalisations, or all biases of the head, are as they were made."""
    # nnU-Net's decoder also holds the encoder.
    own = {n: w for n, w in module.named_parameters() if not n.startswith("encoder.")}
    scales = [weight for name, weight in own.items() if name.endswith("norm.weight")]
    biases = [weight for name, weight in own.items() if re.match(r"seg_layers\..*bias", name)]
    return any(group and all(map(_is_whole, group)) for group in (scales, biases))


def _is_whole(weight: Tensor) -> bool:
    return bool((weight == weight.round()).all())

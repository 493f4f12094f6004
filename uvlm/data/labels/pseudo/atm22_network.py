"""The baseline network of the ATM'22 airway challenge: a 3D U-Net of a million parameters.

    (1) -> 8,16 -> pool -> 16,32 -> pool -> 32,64 -> pool -> 64,128
                 \\skip          \\skip          \\skip        |
       2 <- 1x1 <- 16,16 <- up <- 32,32 <- up <- 64,64 <- up <-+

Each number is the width of a 3^3 convolution with instance norm and PReLU. Upsampling is trilinear
to the size of the skip, which comes first in the concatenation. The second of the two sigmoids is
the airway. B windows, (D, H, W) = (z, y, x).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

_DOWN = ((1, 8, 16), (16, 16, 32), (32, 32, 64), (64, 64, 128))
_UP = ((128 + 64, 64, 64), (64 + 32, 32, 32), (32 + 16, 16, 16))
_AIRWAY = 1


class AirwayUNet(nn.Module):
    """Probability that a voxel is airway lumen."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([_pair(*widths) for widths in _DOWN])
        self.up = nn.ModuleList([_pair(*widths) for widths in _UP])
        self.head = nn.Conv3d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 1, D, H, W) scaled to [0, 1] to (B, 1, D, H, W)."""
        skips: list[Tensor] = []
        for level, pair in enumerate(self.down):
            x = pair(functional.max_pool3d(x, 2) if level else x)
            skips.append(x)
        skips.pop()  # the deepest level is x itself
        for pair in self.up:
            skip = skips.pop()
            x = functional.interpolate(x, skip.shape[2:], mode="trilinear", align_corners=True)
            x = pair(torch.cat([skip, x], dim=1))
        airway: Tensor = self.head(x)[:, _AIRWAY : _AIRWAY + 1].sigmoid()
        return airway


def published_name(name: str) -> str:
    """Return the challenge's name of a parameter: `down.0.3.weight` is its first level's Conv2."""
    part, *rest = name.split(".")
    if part == "head":
        return f"final_conv.{rest[0]}"
    level, place, kind = rest
    side = "EncoderLayer" if part == "down" else "DecoderLayer"
    layer = ("conv", "instancenorm", "pReLU")[int(place) % 3]
    return f"{side}{int(level) + 1}.basic_module.Conv{int(place) // 3 + 1}.{layer}.{kind}"


def _pair(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        convolution = nn.Conv3d(before, after, 3, padding=1)
        layers += [convolution, nn.InstanceNorm3d(after, affine=True), nn.PReLU(after)]
    return nn.Sequential(*layers)

"""Instance norms as group norms of one channel each: the same maths, faster kernels.

On a CPU, torch's InstanceNorm3d drops the channels-last layout in which bf16 convolutions are fast;
GroupNorm keeps it. For inference only: its backward pass is slower (reports/LOG.md).
"""

from __future__ import annotations

import torch
from torch import nn

from uvlm.device import choose_precision


def use_group_norms(network: nn.Module) -> None:
    """Replace every affine InstanceNorm3d in place; weights and their names stay.

    nnU-Net's blocks hold a norm under two names; both then refer to the same GroupNorm.
    """
    replaced: dict[nn.Module, nn.GroupNorm] = {}
    for parent in list(network.modules()):
        for name, child in list(parent._modules.items()):
            if isinstance(child, nn.InstanceNorm3d) and child.affine:
                setattr(parent, name, replaced.setdefault(child, _group_norm(child)))


def ready(network: nn.Module, device: torch.device) -> None:
    """Move a convolutional network to the device for inference, laid out for speed."""
    network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if device.type == "cpu" and choose_precision(device) == "bf16-mixed":
        use_group_norms(network)


def _group_norm(norm: nn.InstanceNorm3d) -> nn.GroupNorm:
    group_norm = nn.GroupNorm(norm.num_features, norm.num_features, norm.eps)
    group_norm.weight, group_norm.bias = norm.weight, norm.bias
    return group_norm.train(norm.training)

"""Instance norms by other kernels, the same maths: faster, or without copies between layouts.

torch's InstanceNorm3d copies a channels-last tensor to contiguous, and the next convolution copies
it back.

    kind                   keeps channels-last   where
    InstanceNorm3d         no                    trainings on a GPU
    ChannelsLastNorm       yes                   trainings on a CPU, or if UVLM_TUNING has `norms`
    GroupNorm, C groups    yes, on a CPU         inference in bf16 on a CPU; its backward pass is
                                                 slower (reports/LOG.md)

B batch, C channels, (D, H, W) = (z, y, x).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uvlm.device import choose_device, choose_precision, is_tuned


class ChannelsLastNorm(nn.InstanceNorm3d):
    """Instance norm as a batch norm of each sample, whose kernels take either layout."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, D, H, W)."""
        parts = [
            F.batch_norm(sample, None, None, self.weight, self.bias, training=True, eps=self.eps)
            for sample in x.split(1)
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]


def use_group_norms(network: nn.Module) -> None:
    """Replace every affine InstanceNorm3d in place; weights and their names stay."""
    _replace_norms(network, lambda norm: nn.GroupNorm(norm.num_features, norm.num_features))


def use_channels_last_norms(network: nn.Module) -> None:
    """Replace every affine InstanceNorm3d in place; weights and their names stay."""
    _replace_norms(network, lambda norm: ChannelsLastNorm(norm.num_features, affine=True))


def ready_to_train(network: nn.Module, backend: str = "inductor") -> None:
    """Lay a convolutional network out for training where this process does, see UVLM_TUNING."""
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if choose_device().type == "cpu" or is_tuned("norms"):
        use_channels_last_norms(network)
    if is_tuned("compile"):
        network.compile(backend=backend)  # in place: names of weights stay


def ready(network: nn.Module, device: torch.device) -> None:
    """Move a convolutional network to the device for inference, laid out for speed."""
    network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if device.type == "cpu" and choose_precision(device) == "bf16-mixed":
        use_group_norms(network)


def _replace_norms(
    network: nn.Module, make: Callable[[nn.InstanceNorm3d], nn.GroupNorm | ChannelsLastNorm]
) -> None:
    """Put new norms in place of the old, with their weights.

    nnU-Net's blocks hold a norm under two names; both then refer to the same new one.
    """
    replaced: dict[nn.Module, nn.Module] = {}
    for parent in list(network.modules()):
        for name, child in list(parent._modules.items()):
            if isinstance(child, nn.InstanceNorm3d) and child.affine:
                if child not in replaced:
                    norm = make(child)
                    norm.weight, norm.bias, norm.eps = child.weight, child.bias, child.eps
                    replaced[child] = norm.train(child.training)
                setattr(parent, name, replaced[child])

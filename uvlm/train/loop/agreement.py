"""What the processes of a training tell each other; alone, each answer is one's own.

Every process must ask, at the same point of the training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import torch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Row = TypeVar("Row")


def everywhere(fabric: Fabric, fact: bool) -> bool:
    """Whether it is true on every process."""
    return fabric.strategy.reduce_boolean_decision(fact, all=True)


def anywhere(fabric: Fabric, fact: bool) -> bool:
    """Whether it is true on some process."""
    return fabric.strategy.reduce_boolean_decision(fact, all=False)


def of_every_process(fabric: Fabric, rows: list[Row]) -> list[Row]:
    """Put the rows of all processes into one list, turn by turn as batches are numbered."""
    if fabric.world_size == 1:
        return rows
    lists: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(lists, rows)
    return [row for turn in zip(*lists, strict=True) for row in turn]


def mean_over_processes(fabric: Fabric, values: dict[str, float]) -> dict[str, float]:
    """Mean of each number."""
    if fabric.world_size == 1:
        return values
    numbers = torch.tensor(list(values.values()), device=fabric.device)
    means: Any = fabric.all_reduce(numbers, reduce_op="mean")
    return dict(zip(values, means.tolist(), strict=True))

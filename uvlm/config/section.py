"""What every section of params.yaml is made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

Grid = tuple[int, int, int]
Fraction = float


class Section(BaseModel):
    """A block of parameters: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def forbid(*checks: tuple[object, str]) -> None:
    """Raise one ValueError that lists the facts of all checks whose condition holds."""
    if facts := [fact for is_wrong, fact in checks if is_wrong]:
        raise ValueError("; ".join(facts))

"""What every section of params.yaml is made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1)]
Grid = tuple[Count, Count, Count]
Fraction = float


class Section(BaseModel):
    """A block of parameters: unknown keys are errors, values never change after loading.

    Numbers are finite, because JSON has no others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _yes_is_no_number(cls, document: Any) -> Any:
        """Keep pydantic from reading true as 1."""
        fields, values = cls.model_fields, document if isinstance(document, dict) else {}
        wrong = [
            f"{name} should not be {str(value).lower()}"
            for name, value in values.items()
            if isinstance(value, bool) and name in fields and _is_other(fields[name].annotation)
        ]
        forbid((wrong, ", ".join(wrong)))
        return document


def forbid(*checks: tuple[object, str]) -> None:
    """Raise one ValueError that lists the facts of all checks whose condition holds."""
    if facts := [fact for is_wrong, fact in checks if is_wrong]:
        raise ValueError("; ".join(facts))


def _is_other(annotation: Any) -> bool:
    return annotation not in (bool, Any)

"""Account for rows: in every table, rows in = kept + excluded by reason, exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from uvlm.errors import DataError


@dataclass(frozen=True)
class Account:
    """One table or stage; constructing one whose sums differ is an error."""

    name: str
    rows: int
    kept: int
    excluded: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lost = self.rows - self.kept - sum(self.excluded.values())
        if lost:
            fact = f"{lost} of {self.rows} rows are neither kept nor excluded by a reason"
            raise DataError(self.name, fact)

    @classmethod
    def of(cls, name: str, ids: Iterable[str], reason_by_id: Mapping[str, str | None]) -> Self:
        """Count the rows of a table.

        Args:
            name: of the table.
            ids: the case of each row.
            reason_by_id: why a case was excluded, None if it was kept.

        Raises:
            DataError: a row belongs to none of these cases.
        """
        ids = list(ids)
        try:
            reasons = Counter(reason_by_id[case] for case in ids)
        except KeyError as lost:
            raise DataError(name, f"the row of {lost} is neither kept nor excluded") from None
        kept = reasons.pop(None, 0)
        excluded = {str(reason): reasons[reason] for reason in sorted(reasons, key=str)}
        return cls(name, len(ids), kept, excluded)

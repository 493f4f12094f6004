"""Where the rows went: of every table, rows in = kept + excluded by reason, exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from uvlm.errors import DataError


@dataclass(frozen=True)
class Account:
    """One table or stage. Making one whose sums differ is an error."""

    name: str
    rows: int
    kept: int
    excluded: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lost = self.rows - self.kept - sum(self.excluded.values())
        if lost:
            raise DataError(
                self.name, f"{lost} of {self.rows} rows are neither kept nor excluded by a reason"
            )

    @classmethod
    def of(cls, name: str, ids: Iterable[str], reason_by_id: Mapping[str, str | None]) -> Self:
        """Count the rows of a table.

        Args:
            name: of the table.
            ids: the case of each row.
            reason_by_id: why a case was excluded, None when it was kept.

        Raises:
            DataError: a row is of none of these cases.
        """
        ids = list(ids)
        try:
            reasons = Counter(reason_by_id[case] for case in ids)
        except KeyError as lost:
            raise DataError(name, f"the row of {lost} is neither kept nor excluded") from None
        kept = reasons.pop(None, 0)
        excluded = {str(reason): reasons[reason] for reason in sorted(reasons, key=str)}
        return cls(name, len(ids), kept, excluded)

    def to_json(self) -> dict[str, Any]:
        """Give the account as JSON values."""
        return asdict(self)

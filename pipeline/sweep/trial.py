"""A trial: one arm with one seed on one profile, composed into the parameters of all its stages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from uvlm.errors import ConfigError

REPORT_STAGE: Final = "evaluate"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # a file, a git ref and an MLflow tag


@dataclass(frozen=True, eq=False)
class Trial:
    """One arm with one seed.

    Args:
        table: what the arm belongs to; row: its row there, or "".
        document: the whole of params.yaml for it.
        last_stage: the stage of dvc.yaml that scores it.
        notes: what a table has to say about it.
    """

    table: str
    row: str
    arm: str
    profile: str
    seed: int
    document: Mapping[Any, Any]
    last_stage: str = REPORT_STAGE
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What DVC calls its experiment."""
        return f"{self.arm}-{self.profile}-seed{self.seed}"

    @property
    def scored(self) -> Literal["classification", "report"]:
        """Whether reports are scored, or only the classifier."""
        return "report" if self.last_stage == REPORT_STAGE else "classification"


def check_names(trials: Iterable[Trial]) -> None:
    """Refuse names that cannot be those of a file and a git ref, and a name that comes twice."""
    seen = set()
    for trial in trials:
        for name in (trial.arm, trial.profile):
            if _NAME.fullmatch(name) is None:
                fact = "is no name for an arm or profile"
                raise ConfigError(repr(name), fact, "use letters, digits, _ and -")
        if trial.name in seen:
            raise ConfigError(f"arm {trial.arm}", "is there twice", "name every arm once")
        seen.add(trial.name)

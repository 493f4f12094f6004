"""How the arms of a sweep go, on disk: each is the parent run of its stages in MLflow.

    <project>/.uvlm/arms/<arm>-<profile>-seed<seed>/record.json

A sweep says of an arm that it runs, has finished or failed, or was stopped. If the sweep itself is
killed, the next `uvlm` command or stage finds its process gone, as it does for a stage.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import Field

from pipeline.paths import state_root
from pipeline.runs.records import RunRecord

ARM: Final = "uvlm.arm"  # the tag of a run that is an arm


class ArmRun(RunRecord):
    """One arm with one seed; `stages` are the fingerprints that it is made of, once it is done."""

    stages: dict[str, str] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where this record lives."""
        return state_root() / "arms" / self.stage


def read_arms() -> list[ArmRun]:
    """Read the record of every arm."""
    paths = sorted(state_root().glob("arms/*/record.json"))
    return [ArmRun.model_validate_json(path.read_text(encoding="utf-8")) for path in paths]

"""A rehearsal that has begun, on disk, so that the same command continues one that was stopped.

<out>/begun.json    written once the CTs are whole, and after every stage
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pipeline.rehearse.costs import Cost
from pipeline.rehearse.stand_ins import StandIn
from uvlm.errors import ConfigError
from uvlm.files import write_json_atomic

_FILE: Final = "begun.json"


@dataclass
class Begun:
    """What was asked for and decided, and what the stages took that have ended.

    Args:
        asked: the command's options but --out.
        stand_ins: what replaces parts that are not here.
        notes: what is smaller than in the profile.
        num_bytes: the memory for which this was decided.
        costs: one for each stage that is done, in order.
    """

    asked: Mapping[str, Any]
    stand_ins: Sequence[StandIn]
    notes: Sequence[str]
    num_bytes: int
    costs: list[Cost] = field(default_factory=list)

    def save(self, out: Path) -> None:
        """Write begun.json."""
        write_json_atomic(out / _FILE, asdict(self))

    def is_done(self, stage: str) -> bool:
        """Whether a stage has ended well."""
        return any(cost.stage == stage for cost in self.costs)


def read_begun(out: Path, asked: Mapping[str, Any]) -> Begun | None:
    """Read what has begun in a folder; None if there is no such folder.

    Raises:
        ConfigError: the folder is something else, or another rehearsal.
    """
    if not out.exists():
        return None
    try:
        document = json.loads((out / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        fact = "exists, and no rehearsal can be continued in it"
        raise ConfigError(out, fact, "remove it, or choose another --out") from None
    if document["asked"] != asked:
        before = ", ".join(f"{key} {value}" for key, value in document["asked"].items())
        raise ConfigError(out, f"holds a rehearsal of {before}", "choose another --out")
    parts = [StandIn(**each) for each in document["stand_ins"]]
    costs = [Cost(**each) for each in document["costs"]]
    return Begun(asked, parts, document["notes"], document["num_bytes"], costs)

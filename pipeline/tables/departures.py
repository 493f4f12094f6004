"""Where our runs depart from the profile as it is today, such as fewer steps.

What an arm says of itself is no departure: it is what the row is about. Everything else is, because
a reader takes a row for the profile's. Parameters that do nothing for an arm do not count, such as
the steps of a training that it leaves out, nor do those that a record of an earlier release lacks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.arms.read import arm_names, read_arm, read_method
from pipeline.arms.resolve import ImpossibleArm, compose_on, idle_parameters
from pipeline.profiles import compose, flatten, read_document
from uvlm.arm_record import ArmRecord

_OF_QWEN: Final = ("decoder.", "tokenizer.")  # follow the model that UVLM_QWEN3 names
_NOTHING: Final = "nothing"
_MOST: Final = 3  # names in a line


@dataclass(frozen=True)
class Departure:
    """One parameter.

    Args:
        key: dotted, as in params.yaml.
        usual: the profile's value.
        ours: the values of our runs in its place.
        arms: those with the first of `ours`.
        others: those for which it counts and that have the profile's value, or another of `ours`.
    """

    key: str
    usual: Any
    ours: tuple[Any, ...]
    arms: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def text(self) -> str:
        """Say it in one line, with the factor of steps."""
        shown = " or ".join(_shown(value) for value in self.ours)
        line = f"{self.key} is {shown}, and {_shown(self.usual)} in the profile"
        if self.key.endswith("steps") and len(self.ours) == 1:
            line += _factor(self.usual, self.ours[0])
        if not self.others:
            return line
        if len(self.arms) <= len(self.others):
            return f"{line}, only in {_few(self.arms)}: rows are not alike"
        return f"{line}, but not in {_few(self.others)}: rows are not alike"

    @property
    def document(self) -> dict[str, Any]:
        """What a table's document says of it."""
        return {**vars(self), "text": self.text}


def departures(root: Path, profile: str, records: Sequence[ArmRecord]) -> list[Departure]:
    """List every parameter in which a record departs from its profile."""
    document, method, known = compose(root, profile), read_method(root), set(arm_names(root))
    found: dict[str, dict[str, list[Any]]] = {}  # key to arm to [profile's, ours]
    for record in records:
        expected: Mapping[Any, Any] = {**document, "seed": record.seed}
        idle: tuple[str, ...] = ()
        if record.arm in known:
            try:
                arm = read_arm(root, record.arm)
                composed = compose_on(document, method, arm, profile, record.seed)
            except ImpossibleArm:
                continue
            expected, idle = composed.document, tuple(idle_parameters(composed))
        else:
            idle = _varied(root / "conf" / "sweep" / f"{record.table}.yaml")
        for key, values in _compare(record, expected, idle).items():
            found.setdefault(key, {})[record.arm] = values
    return [
        one for key, by_arm in sorted(found.items()) if (one := _departure(key, by_arm)) is not None
    ]


def _varied(path: Path) -> tuple[str, ...]:
    """Find the keys that the arms of a reader's own list set: these it compares."""
    listed = read_document(path) if path.is_file() else {}
    return tuple(f"{key}." for arm in listed.get("arms", {}).values() for key in arm)


def _compare(
    record: ArmRecord, expected: Mapping[Any, Any], idle: tuple[str, ...]
) -> dict[str, list[Any]]:
    """Pair the profile's value and the record's, by key, for keys that count for this arm."""
    usual, own = flatten(json.loads(json.dumps(expected))), flatten(record.params)
    if str(own.get("decoder.kind", "")).startswith("qwen3"):
        idle = (*idle, *_OF_QWEN)
    return {
        key: [usual.get(key, _NOTHING), value]
        for key, value in own.items()
        if not f"{key}.".startswith(idle)
    }


def _departure(key: str, by_arm: Mapping[str, list[Any]]) -> Departure | None:
    pairs = {arm: (usual, own) for arm, (usual, own) in by_arm.items()}
    departing = [(usual, own) for usual, own in pairs.values() if usual != own]
    if not departing:
        return None
    usual, first = departing[0]
    alike = {arm: pair == (usual, first) for arm, pair in sorted(pairs.items())}
    arms = tuple(arm for arm, same in alike.items() if same)
    others = tuple(arm for arm, same in alike.items() if not same)
    return Departure(key, usual, tuple(_unlike(own for _, own in departing)), arms, others)


def _unlike(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def _factor(usual: Any, own: Any) -> str:
    if not (isinstance(usual, int) and isinstance(own, int) and usual and own):
        return ""
    less = own < usual
    times = usual / own if less else own / usual
    return f": {times:.3g} times {'fewer' if less else 'more'}"


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more


def _shown(value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:,}" if is_number else str(value)

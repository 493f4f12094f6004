"""ReXGroundingCT's dataset.json as typed rows: which finding is drawn in which channel.

{"train": [{"name": "train_1_a_1.nii.gz", "findings": {"0": "Nodule ..."},
            "categories": {"0": "2d"}, "shape": [512, 512, 238]}], "val": [], "test": []}

Outside the training part, findings, categories and shape may be withheld (left out or null), and so
may the mask: such an entry only says which part its volume is in.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uvlm.data.label_scheme import fine_classes
from uvlm.data.sets.ct_rate.layout import id_of
from uvlm.errors import DataError
from uvlm.tables import read_text, refuse

TRAIN: Final = "train"
_SPLITS: Final = (TRAIN, "val", "test")
_REMEDY: Final = "download it again"
_SHOWN: Final = 60  # characters of a value in a message


@dataclass(frozen=True)
class GroundedVolume:
    """A volume with drawn findings; `categories` is by channel of the mask, "0" first.

    Without categories nothing is known to be drawn: the part withholds its masks.
    """

    case_id: str
    split: str
    categories: dict[str, str]
    shape: tuple[int, ...] = ()  # (x, y, z), as the file stores it


def read_grounding(path: Path) -> list[GroundedVolume]:
    """Read all splits; a malformed document is refused with all its problems, entry by entry."""
    entries = [(split, f"{split}[{n}]", e) for split, n, e in _entries(path)]
    refuse(path, [p for split, place, e in entries for p in _problems(e, split, place)], _REMEDY)
    volumes = [_volume(entry, split) for split, _, entry in entries]
    counts = Counter(volume.case_id for volume in volumes)
    twice = [f"{case} comes {n} times" for case, n in sorted(counts.items()) if n > 1]
    refuse(path, twice, _REMEDY)
    return volumes


def _entries(path: Path) -> Iterator[tuple[str, int, Any]]:
    """Yield each entry with its split and its place there."""
    try:
        document = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(path, f"not a ReXGroundingCT table ({error!r})", _REMEDY) from None
    if not isinstance(document, dict):
        fact = f"not a ReXGroundingCT table: {_shown(document)} instead of splits"
        raise DataError(path, fact, _REMEDY)
    missing = [split for split in _SPLITS if split not in document]
    refuse(path, [f"there is no split {split}" for split in missing], _REMEDY)
    lists = {split: document[split] for split in _SPLITS}
    wrong = [f"{s} is {_shown(v)}, not a list" for s, v in lists.items() if not isinstance(v, list)]
    refuse(path, wrong, _REMEDY)
    return ((split, n, e) for split, found in lists.items() for n, e in enumerate(found))


def _volume(entry: Mapping[str, Any], split: str) -> GroundedVolume:
    categories, shape = entry.get("categories") or {}, entry.get("shape") or ()
    return GroundedVolume(id_of(entry["name"]), split, dict(categories), tuple(shape))


def _problems(entry: Any, split: str, place: str) -> list[str]:
    """Say what is wrong with one entry."""
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not id_of(name):
        return [f"{place} has no name"]
    given = {key: entry[key] for key in _FORMS if key in entry}
    if split != TRAIN:
        given = {key: value for key, value in given.items() if value not in (None, {})}
    elif given.get("categories") is None:
        return [f"{place} ({name}) has no categories"]
    wrong = [
        f"{place} ({name}): {key} is {_shown(value)}, not {_FORMS[key][0]}"
        for key, value in given.items()
        if not _FORMS[key][1](value)
    ]
    return wrong or [f"{place} ({name}): {fact}" for fact in _disagreements(given)]


def _disagreements(given: Mapping[str, Any]) -> Iterator[str]:
    """Say where well-formed values of an entry contradict each other or the set."""
    named = {key: given[key] for key in ("categories", "findings") if key in given}
    count = len(next(iter(named.values()), ()))  # the categories decide where there are any
    for key, value in named.items():
        if {*value} != {str(channel) for channel in range(count)}:
            yield f"{key} has the channels {sorted(value)}"
    known = fine_classes("chest").lesion_id_by_category
    if unknown := sorted({*given.get("categories", {}).values()} - {*known}):
        yield f"unknown categories {', '.join(unknown)}"


def _is_text_by_channel(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _is_shape(value: Any) -> bool:
    is_triple = isinstance(value, list) and len(value) == 3
    return is_triple and all(type(length) is int and length > 0 for length in value)


_FORMS: Final[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {
    "categories": ("one text per channel", _is_text_by_channel),
    "findings": ("one text per channel", _is_text_by_channel),
    "shape": ("three positive whole numbers", _is_shape),
}


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."

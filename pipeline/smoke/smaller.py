"""A profile with the sizes and steps of the profile `smoke`, and everything else as it was.

Of two numbers the smaller is taken, so that a training that is left out stays out, and a switch
stays as it is. The encoder has as many stages as the profile's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pipeline.profiles import check_profile, compose, read_document
from pipeline.sizes import merged

SMOKE: Final = "smoke"
# Of conf/profile/smoke.yaml, what does not apply to another profile as it stands.
_ITS_OWN: Final = ("defaults", "profile", "download")
_EVERY_PATIENT: Final[dict[str, Any]] = {"train": None, "test": None, "exclude": []}


def smaller(root: Path, profile: str) -> dict[Any, Any]:
    """Compose a profile and make it small.

    Raises:
        ConfigError: there is no such profile, or a key of conf/ is unknown or wrong.
    """
    document = compose(root, profile)
    if profile == SMOKE:
        return document
    check_profile(root, SMOKE)
    small = read_document(root / "conf" / "profile" / f"{SMOKE}.yaml")
    sizes = {key: value for key, value in small.items() if key not in _ITS_OWN}
    result = _shrunk(document, sizes)
    theirs, ours = document["encoder"], small["encoder"]
    lists = {key: _as_long(ours[key], theirs[key]) for key in ours}
    brief = _brief(result["generate"], result["decoder"]["max_report_tokens"])
    few = _few(document["download"], small)
    return merged(result, {"encoder": lists, "generate": brief}, few, _from_scratch())


def _shrunk(theirs: Mapping[Any, Any], ours: Mapping[Any, Any]) -> dict[Any, Any]:
    """Take the smaller of two numbers, the switches of theirs, and anything else of ours."""
    result = dict(theirs)
    for key, value in ours.items():
        known = theirs.get(key)
        if isinstance(value, Mapping):
            result[key] = _shrunk(known or {}, value)
        elif isinstance(value, bool):
            result[key] = known
        elif isinstance(value, int) and isinstance(known, int):
            result[key] = min(known, value)
        else:
            result[key] = value
    return result


def _brief(generate: Mapping[str, Any], longest: int) -> dict[str, int]:
    """Let no report be asked for that is longer than the smaller decoder's."""
    asked = {key: generate[key] for key in ("min_tokens", "max_tokens")}
    return {key: min(count, longest) for key, count in asked.items() if count is not None}


def _as_long(ours: Sequence[int], theirs: Sequence[int]) -> list[int]:
    """Cut a list, or repeat its end, to the length of another."""
    return [ours[min(at, len(ours) - 1)] for at in range(len(theirs))]


def _few(download: Mapping[str, Any], small: Mapping[str, Any]) -> dict[str, Any]:
    """Ask for a dozen phantoms, or for every patient of a hub that has a dozen."""
    source = download["source"]
    section, phantoms = download.get(source) or {}, small["download"]["phantom"]
    wanted = {**phantoms, **_EVERY_PATIENT}
    return {"download": {source: {key: wanted[key] for key in wanted if key in section}}}


def _from_scratch() -> dict[str, Any]:
    """Leave out weights of another network, which have its size."""
    return {"train_seg": {"initial_weights": None}}

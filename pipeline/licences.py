"""Under which licence weights are: the strictest of the data and the weights that made them.

Nobody needs to remember it: data sets, pseudo-labels, initial weights and a pretrained decoder are
all named by the parameters and manifests of a run. What is not known to this file counts as the
strictest of all, so that weights are never called free by mistake.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from pipeline.paths import manifest
from uvlm.config import SYNTHETIC, Params
from uvlm.pages.licence import Ingredient, WeightsLicence

FREE: Final = "free for any use"
YOURS: Final = "that of your own data"
UNKNOWN: Final = "not known"
_CC: Final = "CC BY-NC-SA 4.0"
_SETS: Final = {"ct_rate": _CC, "abdomen_atlas": _CC, "folder": YOURS}
_SPELLED: Final = {"CC-BY-NC-SA-4.0": _CC, "that of the files": YOURS}
_QWEN: Final = "qwen3_"
_KINDS: Final = ("anatomy", "airway", "vessel")
_NO_LABELS: Final = frozenset({"none"}) | SYNTHETIC  # nothing is drawn, or by this program
_TERMS: Final = {  # from the freest to the strictest
    FREE: "Anybody may use, change and pass on these weights.",
    "MIT": "Anybody may use, change and pass on these weights with the notices of what made them.",
    "Apache-2.0": (
        "Anybody may use, change and pass on these weights with the notices of what made them, "
        "and saying what was changed."
    ),
    _CC: (
        "Not for commercial purposes. Who passes these weights on, changed or not, names the data "
        "sets and does so under the same licence; gated data sets have terms beyond it."
    ),
    YOURS: "Whoever owns the data decides; until they have, pass these weights on to nobody.",
    UNKNOWN: "Pass these weights on to nobody before the licence of every part is known.",
}
_STRICTNESS: Final = {name: number for number, name in enumerate(_TERMS)}


def licence_of(source: str) -> str:
    """Say under which licence the data set of `download.source` is."""
    return FREE if source in SYNTHETIC else _SETS.get(source, UNKNOWN)


def licence_here(root: Path, params: Params) -> WeightsLicence:
    """Compute the licence of the weights of a workspace."""
    named = {
        "download.source": params.download.source,
        "train_seg.initial_weights": str(params.train_seg.initial_weights),
        "decoder.kind": params.decoder.kind,
    }
    return weights_licence(ingredients_of(root, named))


def weights_licence(ingredients: Iterable[Ingredient]) -> WeightsLicence:
    """Find the strictest licence of several; of nothing, nothing is known."""
    found = tuple(ingredients)
    name = max(
        (known(each.licence) for each in found), key=_STRICTNESS.__getitem__, default=UNKNOWN
    )
    return WeightsLicence(name, _TERMS[name], found)


def known(licence: str) -> str:
    """Return a licence as this file spells it; UNKNOWN if it is not one of its own."""
    licence = _SPELLED.get(licence, licence)
    return licence if licence in _STRICTNESS else UNKNOWN


def ingredients_of(root: Path, params: Mapping[str, str]) -> list[Ingredient]:
    """List what the weights of a run were made from.

    Args:
        root: the workspace.
        params: by dotted name, as text: `download.source`, `train_seg.initial_weights` and
            `decoder.kind`. An absent one says nothing.
    """
    source = params.get("download.source", "")
    found = [Ingredient(f"data set {source or 'without a name'}", licence_of(source))]
    found += _labels(root)
    initial = params.get("train_seg.initial_weights") or "None"
    if initial != "None":
        found.append(Ingredient(f"initial weights of stage 1, {initial}", UNKNOWN))
    if params.get("decoder.kind", "").startswith(_QWEN):
        found.append(Ingredient("language decoder, Qwen3", "Apache-2.0"))
    return found


def _labels(root: Path) -> Sequence[Ingredient]:
    """List who drew the pseudo-labels, from what each row of a manifest says of its licence."""
    found: dict[tuple[str, str, str], None] = {}
    for kind in _KINDS:
        path = root / manifest(f"pseudo_label_{kind}")
        if not path.is_file():
            continue
        with path.open(encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                backend = str(row.get("backend", ""))
                if backend not in _NO_LABELS:
                    found[kind, backend, known(str(row.get("licence", "")))] = None
    return [
        Ingredient(f"labels of {kind}, {backend or 'without a name'}", licence)
        for kind, backend, licence in found
    ]

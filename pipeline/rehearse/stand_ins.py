"""What stands in for parts whose weights are not on this computer: same interface, same shapes.

TotalSegmentator's vessels    the masks that the phantoms were drawn with
ATM22's weights               random numbers in the same network
RadBERT, or a language model  the rules: 18 flags from a text, as theirs
Qwen3's tokenizer             byte pairs of the rehearsal's reports, filled up to 151,669 entries

What is there is used. Results mean nothing with or without; time, memory and bytes do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from uvlm.config import Params
from uvlm.data.labels.pseudo.backends import choose_backend
from uvlm.environment import ATM22_WEIGHTS, QWEN3, VESSEL_MASKS
from uvlm.errors import SetupError
from uvlm.evaluation.labeller import check_parts
from uvlm.files import write_bytes_atomic, write_text_atomic
from uvlm.model.describe import QWEN3_VOCABULARY_SIZE
from uvlm.qwen_folder import qwen_file
from uvlm.text.tokenizer import FILE_NAME, QWEN3_SPECIAL_TOKENS, train_tokenizer

_OWN_VOCABULARY: Final = 16_384


@dataclass(frozen=True)
class StandIn:
    """One replacement: of what, by what, and what has to be changed and set for it."""

    part: str
    by: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


def stand_ins(params: Params, scans: Path, texts: Sequence[str], folder: Path) -> list[StandIn]:
    """Find what is missing, and make what replaces it.

    Args:
        params: of the profile.
        scans: the data set of the rehearsal, with the masks that it was drawn with.
        texts: its reports.
        folder: for what is made.
    """
    return [*_backends(params, scans, folder), *_language(params, texts, folder)]


def _backends(params: Params, scans: Path, folder: Path) -> Iterator[StandIn]:
    chosen = params.pseudo_label
    if lacks(choose_backend("anatomy", chosen.anatomy).provenance):
        yield StandIn(
            f"anatomy by {chosen.anatomy.backend}",
            "the phantoms' own masks, as CT-RATE publishes its",
            {"pseudo_label": {"anatomy": {"backend": "ct_rate_masks"}}},
        )
    if lacks(choose_backend("airway", chosen.airway).provenance):
        weights = random_airway_weights(folder / "airway.safetensors")
        yield StandIn(
            f"airways by {chosen.airway.backend}",
            "ATM22's network with random weights",
            {"pseudo_label": {"airway": {"backend": "atm22"}}},
            {ATM22_WEIGHTS.name: str(weights)},
        )
    if lacks(choose_backend("vessel", chosen.vessel).provenance):
        yield StandIn(
            f"vessels by {chosen.vessel.backend}",
            "the masks that the phantoms were drawn with",
            {"pseudo_label": {"vessel": {"backend": "masks", "artery_id": 3, "vein_id": 4}}},
            {VESSEL_MASKS.name: str(scans / "phantom_masks" / "vessel")},
        )


def _language(params: Params, texts: Sequence[str], folder: Path) -> Iterator[StandIn]:
    name = params.evaluate.labeller
    if lacks(lambda: check_parts(name)):
        yield StandIn(f"labeller {name}", "rules", {"evaluate": {"labeller": "rules"}})
    if params.tokenizer.kind == "qwen3" and lacks(lambda: qwen_file(FILE_NAME)):
        write_text_atomic(folder / "qwen3" / FILE_NAME, as_large_as_qwen3(texts))
        yield StandIn(
            "Qwen3's tokenizer",
            f"byte pairs of these reports, {QWEN3_VOCABULARY_SIZE:,} entries",
            environment={QWEN3.name: str(folder / "qwen3")},
        )


def lacks(check: Callable[[], object]) -> bool:
    """Tell whether something that a part requires is not on this computer."""
    try:
        check()
    except SetupError:
        return True
    return False


def random_airway_weights(path: Path) -> Path:
    """Write weights of ATM22's network, drawn from a fixed seed."""
    import torch
    from safetensors.torch import save

    from uvlm.data.labels.pseudo.atm22_network import AirwayUNet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = {name: w.contiguous() for name, w in AirwayUNet().state_dict().items()}
    write_bytes_atomic(path, save(weights))
    return path


def as_large_as_qwen3(texts: Sequence[str], size: int = QWEN3_VOCABULARY_SIZE) -> str:
    """Write a tokenizer.json with Qwen3's special tokens and as many entries as Qwen3's."""
    specials = list(QWEN3_SPECIAL_TOKENS)
    document = json.loads(train_tokenizer(texts, _OWN_VOCABULARY).to_json())
    trained = document["model"]["vocab"]
    ours = [entry["content"] for entry in document["added_tokens"]]
    words = [word for word in sorted(trained, key=trained.__getitem__) if word not in ours]
    # No merge leads to a filler, so none is ever written into an encoded text.
    words += [f"filler {n}" for n in range(size - len(words) - len(specials))]
    document["model"]["vocab"] = {word: id_ for id_, word in enumerate([*words, *specials])}
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    document["added_tokens"] = [
        {"id": len(words) + n, "content": token, "special": True, **added}
        for n, token in enumerate(specials)
    ]
    return json.dumps(document)

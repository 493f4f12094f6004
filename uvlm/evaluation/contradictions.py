"""Where a report and the classifier beside it contradict each other, for whoever reads a draft.

    {"abnormality": "Emphysema", "probability": 0.01, "report": "claims it",
     "sentence": "Emphysema in the left upper lobe."}

The classifier contradicts only where it was sure on validation: below the first of two cuts nearly
all cases of validation lacked the abnormality, from the second on nearly all had it. `train_cls`
chooses both (thresholds.json, `sure`). Which of the two is wrong is not known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from uvlm.errors import DataError
from uvlm.evaluation.labeller import READS_FOR_NOTHING, get_labeller, get_phrases
from uvlm.model.folder import read_json
from uvlm.model.load import ReportModel

SURE: Final = "sure"  # key in thresholds.json: abnormality -> [absent below, present from]
_REMEDY: Final = "use the whole folder as train_report wrote it"
Cuts = Mapping[str, tuple[float, float]]


def read_cuts(thresholds: Path) -> dict[str, tuple[float, float]]:
    """Read the two cuts by abnormality; none from a folder of an earlier release."""
    if not thresholds.is_file():
        return {}
    stored = read_json(thresholds, _REMEDY).get(SURE, {})
    try:
        return {str(name): (float(low), float(high)) for name, (low, high) in stored.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(thresholds, f"{SURE}: not two cuts each ({error})", _REMEDY) from None


class ContradictionFinder:
    """Reads reports as the labeller does that the model was validated with, where that is free.

    Args:
        labeller: its name; one that costs something is replaced by the rules.
        names: the abnormalities of the classifier.
        cuts: where it is sure.
    """

    def __init__(self, labeller: str, names: Sequence[str], cuts: Cuts) -> None:
        own = labeller if labeller in READS_FOR_NOTHING else "rules"
        self._label, self._phrases = get_labeller(own, names).label, get_phrases(own, names)
        self._names, self._cuts = names, cuts

    def __call__(self, text: str, probabilities: Mapping[str, float]) -> list[dict[str, Any]]:
        """List the contradictions of a report, in the order of the abnormalities."""
        if not text or not probabilities or not self._cuts:
            return []
        claimed = dict(zip(self._names, self._label([text])[0].astype(bool), strict=True))
        found = []
        for name, (low, high) in self._cuts.items():
            p = probabilities.get(name)
            if p is None or not (p < low if claimed[name] else p >= high):
                continue
            said = "claims it" if claimed[name] else "does not claim it"
            found.append(
                {
                    "abnormality": name,
                    "probability": p,
                    "report": said,
                    "sentence": self._sentence(text, name, is_claimed=bool(claimed[name])),
                }
            )
        return found

    def _sentence(self, text: str, name: str, *, is_claimed: bool) -> str | None:
        """Find the first sentence that claims, or only names, an abnormality."""
        finder = self._phrases.claimed if is_claimed else self._phrases.named
        spans = [span for span in finder(text) if span[2] == name] if finder else []
        return _around(text, spans[0][0]) if spans else None


def finder_of(model: ReportModel) -> ContradictionFinder:
    """Make the finder of a report model, by what its folder records."""
    labeller = str(model.config.params.get("evaluate", {}).get("labeller", "rules"))
    cuts = read_cuts(model.tokenizer.with_name("thresholds.json"))
    return ContradictionFinder(labeller, model.config.abnormalities, cuts)


def _around(text: str, place: int) -> str:
    """Cut the sentence around a place, without a heading before it."""
    start = max((m.end() for m in re.finditer(r"[.:;!?]\s", text) if m.end() <= place), default=0)
    end = re.compile(r"[.;!?](?=\s|$)").search(text, place)
    return text[start : end.end() if end else len(text)].strip()

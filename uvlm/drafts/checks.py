"""What classifier and masks say against a sentence, in one line.

    claimed, and the classifier says no              probability below its threshold
    denied, and the classifier says yes
    claimed, and no mask shows it
    denied, and a mask that shows nothing else does
    "on the right", "in the upper lobe"              and the masks lie elsewhere

All three were trained on the same CTs, so that they agree proves nothing; that they disagree says
that at least one of them is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from uvlm.drafts.one_ct import unsupported_by_one_ct
from uvlm.drafts.shown import STRUCTURES, Masks
from uvlm.evaluation.contradictions import contradicts
from uvlm.evaluation.said import Said, SaidSentence
from uvlm.text.attributes import VALUES, Values
from uvlm.text.draft import Claim, Sentence

# A smaller mask is no reason to doubt that there is nothing. Of the phantoms' test split, 994 right
# denials and 34 wrong ones have masks of their own: 30 voxels doubt 5 % of the first, 94 % of the
# second; 2 voxels, 1 ml there, doubt 31 % and all.
_SHOWN_ML: Final = 1.0
_SHOWN_VOXELS: Final = 30  # of the network's grid
_ELSEWHERE: Final = 0.05  # of a mask: less on a side is nothing there


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a model says of a CT besides its report.

    Args:
        probabilities: of the classifier, by abnormality; {} if it was never trained.
        thresholds: above which it says yes.
        masks: what the U-Net drew.
    """

    probabilities: Mapping[str, float]
    thresholds: Mapping[str, float]
    masks: Masks

    def check(self, sentence: SaidSentence) -> Sentence:
        """Set what a sentence says beside what classifier and masks say."""
        return Sentence(
            text=sentence.text,
            part=sentence.part,
            claims=tuple(map(self._check, sentence.said)),
            unsupported_by_one_ct=unsupported_by_one_ct(sentence.text),
        )

    def _check(self, said: Said) -> Claim:
        name, structures = said.abnormality, self.masks.structures_of(said.abnormality)
        against = [*self._classifier(said), *self._masks(said, structures)]
        return Claim(
            abnormality=name,
            present=said.present,
            side=_ordered("side", said.attributes.side),
            lobe=_ordered("lobe", said.attributes.lobe),
            size=_ordered("size", said.attributes.size),
            probability=self.probabilities.get(name),
            threshold=self.thresholds.get(name),
            structures=structures,
            volume_ml=self.masks.volume_ml(structures),
            contradiction="; ".join(against) or None,
        )

    def _classifier(self, said: Said) -> Iterator[str]:
        probability = self.probabilities.get(said.abnormality)
        threshold = self.thresholds.get(said.abnormality)
        if probability is None or threshold is None:
            return
        if contradicts(said.present, probability, threshold):
            answer, where = ("no", "below") if said.present else ("yes", "above")
            numbers = f"{probability:.2f}, {where} its threshold {threshold:.2f}"
            yield f"the classifier says {answer} ({numbers})"

    def _masks(self, said: Said, structures: tuple[str, ...]) -> Iterator[str]:
        volume = self.masks.volume_ml(structures)
        if volume is None:
            return
        shown = " or ".join(name.replace("_", " ") for name in structures)
        if not said.present:
            least = max(_SHOWN_ML, _SHOWN_VOXELS * self.masks.grid_voxel_ml)
            if volume >= least and _shows_only(said.abnormality, structures):
                yield f"the masks show {volume:.1f} ml of {shown}"
        elif volume == 0:
            yield f"the masks show no {shown}"
        else:
            yield from self._place(said, structures)

    def _place(self, said: Said, structures: tuple[str, ...]) -> Iterator[str]:
        shares = self.masks.shares(structures)
        for kind in ("side", "lobe"):
            known = shares.get(kind, {})
            stated = _ordered(kind, getattr(said.attributes, kind))
            empty = [value for value in stated if known.get(value, 1.0) < _ELSEWHERE]
            if empty:
                there = " and ".join(v for v in VALUES[kind] if known.get(v, 0.0) >= _ELSEWHERE)
                noun = "side" if kind == "side" else "lobes"
                words = " and ".join(empty)
                yield f"the masks show nothing of it in the {words} {noun}, but in the {there}"


def _shows_only(abnormality: str, structures: tuple[str, ...]) -> bool:
    """Whether the masks of some classes show this abnormality and no other."""
    others = (shown for name, shown in STRUCTURES.items() if name != abnormality)
    return not any(set(structures) & set(shown) for shown in others)


def _ordered(kind: str, values: Values) -> tuple[str, ...]:
    return tuple(value for value in VALUES[kind] if value in values)

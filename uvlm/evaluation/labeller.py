"""Which abnormalities a report claims: labellers behind one protocol, chosen by name.

phantom   exact, for reports of phantoms only
rules     patterns and negation; offline, no weights; the default for reports of patients
radbert   the classifier of CT-RATE's official scorer; the user has the weights
llm       any OpenAI-compatible endpoint; the only one that opens a connection
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from uvlm.errors import ConfigError
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.claims import Phrases
from uvlm.text.known_words import check_language

LABELLER_NAMES = ("phantom", "rules", "radbert", "llm")
READS_ENGLISH_ONLY: Final = frozenset({"phantom", "rules", "radbert"})
READS_FOR_NOTHING: Final = frozenset({"phantom", "rules"})  # in seconds, by patterns


class Labeller(Protocol):
    """Reads abnormalities out of report texts."""

    @property
    def name(self) -> str:
        """Its name in params.yaml and beside every number that rests on it."""
        ...

    def label(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """One row per text, one column per abnormality in CT-RATE's order; 1 is present."""
        ...


@runtime_checkable
class DoubtingLabeller(Labeller, Protocol):
    """A labeller that may be in doubt, and that costs something."""

    def answers(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Like `label`, with -1 where the report is uncertain."""
        ...

    @property
    def usage(self) -> dict[str, float]:
        """Requests, tokens and cost so far."""
        ...


def check_language_for(labeller: Labeller, texts: Sequence[str]) -> None:
    """Refuse reports whose zeros would only mean that the labeller did not understand them.

    Generated texts are not checked: nonsense is to be scored, whatever its words are.

    Raises:
        OtherLanguageError: the labeller reads English only, and some texts hardly are.
    """
    if labeller.name in READS_ENGLISH_ONLY:
        check_language(texts)


def check_labeller(name: str, abnormalities: Sequence[str]) -> None:
    """Refuse a labeller that does not know these abnormalities."""
    if name in ("phantom", "radbert") and tuple(abnormalities) != ABNORMALITIES:
        fact = f"{name} reads the {len(ABNORMALITIES)} abnormalities of CT-RATE only"
        raise ConfigError("labeller", fact, "use rules or llm")


def get_labeller(name: str, abnormalities: Sequence[str] = ABNORMALITIES) -> Labeller:
    """Make the labeller that `evaluate.labeller` or `--labeller` names.

    Args:
        name: one of LABELLER_NAMES.
        abnormalities: the columns of its labels; `phantom` and `radbert` know only CT-RATE's.
    """
    check_labeller(name, abnormalities)
    match name:
        case "phantom":
            from uvlm.evaluation.labelling.phantom import PhantomLabeller

            return PhantomLabeller()
        case "rules":
            from uvlm.evaluation.labelling.rules import RulesLabeller

            return RulesLabeller(abnormalities)
        case "radbert":
            from uvlm.evaluation.labelling.radbert import RadbertLabeller

            return RadbertLabeller()
        case "llm":
            from uvlm.evaluation.labelling.llm import LlmLabeller

            return LlmLabeller(abnormalities)
    raise ConfigError("labeller", f"there is no {name!r}", f"use {', '.join(LABELLER_NAMES)}")


def get_phrases(name: str, abnormalities: Sequence[str] = ABNORMALITIES) -> Phrases:
    """Make what marks the reading of a labeller in a text; `radbert` and `llm` mark nothing."""
    match name:
        case "phantom":
            from uvlm.evaluation.labelling.phantom import highlight_spans

            return Phrases(claimed=highlight_spans)
        case "rules":
            from uvlm.evaluation.labelling.phrases import PhraseFinder

            finder = PhraseFinder(get_labeller(name, abnormalities).label, abnormalities)
            return Phrases(claimed=finder.claimed, named=finder.named)
    return Phrases()

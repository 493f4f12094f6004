"""Which abnormalities a report claims: labellers behind one protocol, chosen by name.

phantom   exact, for reports of phantoms only
longtail  exact, for reports of the phantoms `longtail` only
rules     patterns and negation; offline, no weights; the default for reports of patients
radbert   the classifier of CT-RATE's official scorer; the user has the weights
llm       any OpenAI-compatible endpoint; the only one that opens a connection
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from uvlm.errors import ConfigError
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.attributes import AttributeReader
from uvlm.text.claims import Phrases
from uvlm.text.known_words import check_language

LABELLER_NAMES = ("phantom", "longtail", "rules", "radbert", "llm")
READS_ENGLISH_ONLY: Final = frozenset({"phantom", "longtail", "rules", "radbert"})
READS_FOR_NOTHING: Final = frozenset({"phantom", "longtail", "rules"})  # in seconds


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
    if name in ("phantom", "longtail", "radbert") and tuple(abnormalities) != ABNORMALITIES:
        fact = f"{name} reads the {len(ABNORMALITIES)} abnormalities of CT-RATE only"
        raise ConfigError("labeller", fact, "use rules or llm")


def check_parts(name: str) -> None:
    """Raise the SetupError of a labeller whose weights or endpoint are missing; load nothing."""
    if name == "radbert":
        from uvlm.evaluation.labelling.radbert import radbert_folder

        radbert_folder()
    elif name == "llm":
        from uvlm.evaluation.labelling.chat import Endpoint

        Endpoint.from_environment()


def get_labeller(name: str, abnormalities: Sequence[str] = ABNORMALITIES) -> Labeller:
    """Make the labeller that `evaluate.labeller` or `--labeller` names.

    Args:
        name: one of LABELLER_NAMES.
        abnormalities: the columns of its labels; `rules` and `llm` know others than CT-RATE's.
    """
    check_labeller(name, abnormalities)
    match name:
        case "phantom":
            from uvlm.evaluation.labelling.phantom import PhantomLabeller

            return PhantomLabeller()
        case "longtail":
            from uvlm.evaluation.labelling.longtail import LongtailLabeller

            return LongtailLabeller()
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


def get_attribute_reader(
    name: str, abnormalities: Sequence[str] = ABNORMALITIES
) -> tuple[str, AttributeReader]:
    """Make what reads side, lobe and size beside a labeller, and say whose reading it is.

    `radbert` and `llm` say only what is present, so the rules read the rest for them.
    """
    if name == "phantom":
        from uvlm.evaluation.labelling.phantom_details import attributes_of

        return name, attributes_of
    from uvlm.evaluation.labelling.attributes import RulesReader

    return "rules", RulesReader(abnormalities)


def get_impression_reader(name: str) -> Callable[[Sequence[str]], npt.NDArray[np.int64]] | None:
    """Make what labels impressions for a labeller that reads findings only; None for others."""
    if name == "phantom":
        from uvlm.evaluation.labelling.phantom_details import label_impressions

        return label_impressions
    return None


def get_phrases(name: str, abnormalities: Sequence[str] = ABNORMALITIES) -> Phrases:
    """Make what marks the reading of a labeller in a text; `radbert` and `llm` mark nothing."""
    match name:
        case "phantom":
            from uvlm.evaluation.labelling.phantom import highlight_spans

            return Phrases(claimed=highlight_spans)
        case "longtail":
            from uvlm.evaluation.labelling import longtail

            return Phrases(claimed=longtail.highlight_spans)
        case "rules":
            from uvlm.evaluation.labelling.phrases import PhraseFinder

            finder = PhraseFinder(get_labeller(name, abnormalities).label, abnormalities)
            return Phrases(claimed=finder.claimed, named=finder.named)
    return Phrases()

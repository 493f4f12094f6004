"""Side, lobe and size that a report gives each abnormality, read by rules.

Which abnormalities a sentence claims is what the labeller `rules` reads in it. Each word that
places or measures then goes to a thing of its clause (attachment.py). A thing may be none of the
abnormalities ("a 4 cm mass"), so that its words are not another's. What several sentences say of
one abnormality is added up.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final

from uvlm.evaluation.labelling.attachment import Clause
from uvlm.evaluation.labelling.headings import Statement
from uvlm.evaluation.labelling.place_words import Word, read_place_words
from uvlm.evaluation.labelling.rules import RulesLabeller
from uvlm.evaluation.labelling.sentences import unify_spelling
from uvlm.text.attributes import VALUES, Attributes

_NUM_REMEMBERED: Final = 1 << 16
_BEGINS_WITH_PLACE: Final = re.compile(r"^[ ,]*(?:in|at|on|within|throughout)\b")


class _Claims(RulesLabeller):
    """The labeller `rules`, asked for its steps."""

    def __init__(self, abnormalities: Sequence[str]) -> None:
        super().__init__(abnormalities)
        self._names = tuple(abnormalities)

    def statements(self, text: str) -> Iterator[tuple[Statement, frozenset[str]]]:
        """Yield what a report states, and the abnormalities that each statement claims."""
        for statement in self._headings.statements(text):
            columns = self._remembered(statement)
            yield statement, frozenset(self._names[column] for column in columns)

    def asserted(self, sentence: str) -> list[str]:
        """Return the clauses of a sentence without what they deny."""
        return self._denials.asserted(sentence)


class RulesReader:
    """Reads side, lobe and size of each abnormality that the rules find.

    Args:
        abnormalities: those to read of.
    """

    def __init__(self, abnormalities: Sequence[str]) -> None:
        self._labeller = _Claims(abnormalities)
        self._words = read_place_words()
        self._remembered = lru_cache(_NUM_REMEMBERED)(
            self._of_sentence
        )  # reports repeat themselves

    def __call__(self, text: str) -> dict[str, Attributes]:
        """By abnormality, whatever any sentence says of it."""
        found: dict[str, Attributes] = {}
        last: frozenset[str] = frozenset()
        for statement, claimed in self._labeller.statements(self._words.prepared(text)):
            sentence = unify_spelling(statement.text, statement.topic)
            if not claimed and last and self._words.pattern["goes_on"].search(sentence):
                read = self._of_last(sentence, last)
            else:
                read = self._remembered(statement.topic, sentence, claimed)
                last = claimed
            for name, attributes in read.items():
                found[name] = found.get(name, Attributes()).joined(attributes)
        return found

    def _of_last(self, sentence: str, names: Collection[str]) -> dict[str, Attributes]:
        """Read "The largest is 5 mm, in the left lung." of what the sentence before named."""
        text = self._words.without_others(sentence)
        return self._of_only(names, [text], {name: Attributes() for name in names})

    def _of_sentence(
        self, topic: str, sentence: str, claimed: Collection[str]
    ) -> dict[str, Attributes]:
        if not claimed:
            return {}
        heading = f"{topic} : " if topic else ""
        clauses = [heading + clause for clause in self._labeller.asserted(sentence)]
        found = {name: Attributes() for name in claimed}
        unnamed = {*claimed}
        texts, ahead = [*map(self._words.without_others, clauses)], ""
        for text in texts:
            clause = Clause(self._words, ahead + text, claimed)
            begins = _BEGINS_WITH_PLACE.match(text) is not None
            ahead = f"{text}, " if begins and not clause.has_things else ""
            for said in clause.read():
                for name in said.thing.names:
                    found[name] = found[name].joined(self._attributes(name, said.all()))
                    unnamed.discard(name)
            if not clause.has_things and self._words.pattern["persists"].search(text):
                found |= self._of_only(claimed, [text], found)
        return found | self._of_only(unnamed if len(claimed) == 1 else (), texts, found)

    def _of_only(
        self, names: Collection[str], texts: Sequence[str], found: Mapping[str, Attributes]
    ) -> dict[str, Attributes]:
        """Give all words to the only abnormality of a sentence, which they do not name."""
        if len(names) != 1:
            return {}
        words = [word for text in texts for word in self._words.words(text)]
        return {name: found[name].joined(self._attributes(name, words)) for name in names}

    def _attributes(self, name: str, words: Sequence[Word]) -> Attributes:
        """Sum up what words say of an abnormality that may have it."""
        said: dict[str, set[str]] = {kind: set() for kind in VALUES}
        fitting = [word for word in words if self._words.may_have(name, word)]
        for word in sorted(fitting, key=lambda word: word.is_weak):
            if not (word.is_weak and said["side"]):
                said[word.kind].update(self._words.values_of(word, name))
        return Attributes(*(frozenset(values) for values in said.values()))

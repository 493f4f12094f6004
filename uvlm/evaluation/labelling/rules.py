"""The rules labeller: an abnormality is present where a clause asserts one of its patterns.

Findings and impression are read alike, and one assertion is enough. The conventions are those of
CT-RATE's annotators (docs/report_labels.md); the patterns are data, in patterns/*.yaml:

    Abnormality:
      stems     strings of which one must occur in a word, so that most sentences are skipped fast
      per_comma whether the parts between commas are judged separately
      ignore    patterns that are erased first
      present   conditions of which one must hold
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Final

import numpy as np

from uvlm.arrays import Counts
from uvlm.errors import ConfigError
from uvlm.evaluation.labelling.denials import Denials
from uvlm.evaluation.labelling.headings import Headings, Statement
from uvlm.evaluation.labelling.notation import Condition, any_of, parse_condition
from uvlm.evaluation.labelling.sentences import unify_spelling
from uvlm.text.abnormalities import ABNORMALITIES

_FIRST_PART: Final = re.compile(r",| with ")
_NUM_REMEMBERED: Final = 1 << 16


@dataclass(frozen=True)
class Rule:
    """What makes one abnormality present."""

    stems: tuple[str, ...]
    per_comma: bool
    ignore: re.Pattern[str] | None
    present: tuple[Condition, ...]

    def is_claimed_by(self, clause: str, topic: str = "") -> bool:
        """Whether the abnormality is present if all that a clause below a heading says is so."""
        parts = clause.split(",") if self.per_comma else (clause,)
        return any(
            self._is_claimed_by_part(f"{topic}: {part}" if topic else part) for part in parts
        )

    def _is_claimed_by_part(self, part: str) -> bool:
        if self.ignore is not None:
            part = self.ignore.sub(" ", part)
        return any(condition.holds(part) for condition in self.present)


class RulesLabeller:
    """Reads any of the abnormalities that have a pattern file.

    Args:
        abnormalities: the columns of the labels, in this order.
    """

    name: Final = "rules"

    def __init__(self, abnormalities: Sequence[str] = ABNORMALITIES) -> None:
        self._headings, self._denials, rules = read_patterns()
        unknown = [name for name in abnormalities if name not in rules]
        if unknown:
            raise ConfigError("rules", f"there are no patterns for {', '.join(unknown)}")
        self._rules = tuple(rules[name] for name in abnormalities)
        self._columns_by_stem: dict[str, set[int]] = defaultdict(set)
        for column, rule in enumerate(self._rules):
            for stem in rule.stems:
                self._columns_by_stem[stem].add(column)
        self._columns_of_word = lru_cache(_NUM_REMEMBERED)(self._find_columns)
        # Reports repeat themselves: two in three sentences of CT-RATE have occurred before.
        self._remembered = lru_cache(_NUM_REMEMBERED)(self._columns_claimed_by)

    def label(self, texts: Sequence[str]) -> Counts:
        """One row per text, one column per abnormality; 1 is present."""
        labels = np.zeros((len(texts), len(self._rules)), dtype=np.int64)
        for row, text in enumerate(texts):
            claimed = map(self._remembered, self._headings.statements(text))
            labels[row, list(set[int]().union(*claimed))] = 1
        return labels

    def _find_columns(self, word: str) -> set[int]:
        """Find the columns of the abnormalities that a sentence with a word may be about."""
        found = (columns for stem, columns in self._columns_by_stem.items() if stem in word)
        return set().union(*found)

    def _columns_claimed_by(self, statement: Statement) -> list[int]:
        """Find the columns of the abnormalities that a statement says are present."""
        topic = unify_spelling(statement.topic, statement.text)
        sentence = unify_spelling(statement.text, topic)
        words = {*topic.split(), *sentence.split()}
        candidates = set[int]().union(*map(self._columns_of_word, words))
        if not candidates:
            return []
        clauses = self._denials.asserted(sentence)
        if not topic:
            return [c for c in candidates if any(map(self._rules[c].is_claimed_by, clauses))]
        is_whole = clauses == [sentence]
        told = [clause for clause in clauses if self._denials.tells(clause, statement.is_first)]
        return [
            column
            for column in candidates
            if any(self._is_claimed(column, topic, c, is_whole, c in told) for c in clauses)
        ]

    def _is_claimed(
        self, column: int, topic: str, clause: str, is_whole: bool, is_told: bool
    ) -> bool:
        """Whether a clause claims an abnormality, and not its heading alone.

        "Pericardium: small effusion" needs both for the finding; "Emphysema: see above" and what is
        left of "Atherosclerosis: coronaries clear of plaque" say nothing of it.
        """
        rule = self._rules[column]
        if not rule.is_claimed_by(clause, topic):
            return False
        if rule.is_claimed_by(clause):
            return True
        if rule.is_claimed_by(topic):
            return is_told and not self._is_of_another(column, clause)
        return is_whole or is_told

    def _is_of_another(self, column: int, clause: str) -> bool:
        """Whether the first words below a heading name another abnormality than the heading."""
        first = _FIRST_PART.split(clause)[0]
        others = (rule for number, rule in enumerate(self._rules) if number != column)
        return any(rule.is_claimed_by(first) for rule in others)


@cache
def read_patterns() -> tuple[Headings, Denials, Mapping[str, Rule]]:
    """Read every file of patterns/: headings, denials and the rule of each abnormality."""
    from ruamel.yaml import YAML

    folder, parser = files(__package__) / "patterns", YAML(typ="safe")
    found = [file for file in folder.iterdir() if file.name.endswith(".yaml")]
    documents = {file.name: parser.load(file.read_text(encoding="utf-8")) for file in found}
    headings = Headings(documents.pop("headings.yaml"))
    denials = Denials(documents.pop("negation.yaml"))
    rules: dict[str, Rule] = {}
    for document in documents.values():
        terms = document.pop("terms", {})
        rules |= {name: _parse_rule(rule, terms) for name, rule in document.items()}
    return headings, denials, rules


def _parse_rule(rule: Mapping[str, Any], terms: Mapping[str, str]) -> Rule:
    alone = [line for line in rule["present"] if " & " not in line]
    others = [line for line in rule["present"] if " & " in line]
    return Rule(
        stems=tuple(rule["stems"]),
        per_comma=rule.get("per_comma", False),
        ignore=any_of(rule["ignore"], terms) if "ignore" in rule else None,
        present=(
            *([Condition((any_of(alone, terms),), ())] if alone else []),
            *(parse_condition(line, terms) for line in others),
        ),
    )

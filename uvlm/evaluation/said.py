"""What the sentences of a report say of abnormalities: there or denied, on which side, where.

The labeller that scored the model's training reads them; where that would need weights or a
connection, the rules do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from uvlm.evaluation.labeller import READS_FOR_NOTHING, get_attribute_reader, get_phrases
from uvlm.text.attributes import AttributeReader, Attributes
from uvlm.text.draft import Part
from uvlm.text.report import Report

# To the end of a sentence, which is no full stop inside a number or of an abbreviation.
_SENTENCE: Final = re.compile(
    r"\S.*?(?:(?<!\be\.g)(?<!\bi\.e)(?<!\bDr)[.!?;]+(?=\s|$)|$)", re.DOTALL
)
_WORD: Final = re.compile(r"[^\W\d_]{2}")


class Said(NamedTuple):
    """An abnormality that a sentence names, whether it says it is there, and what of it."""

    abnormality: str
    present: bool
    attributes: Attributes


class SaidSentence(NamedTuple):
    """A sentence and what it says."""

    text: str
    part: Part
    said: tuple[Said, ...]


Spans = Sequence[tuple[int, int, str, bool]]  # start, end, abnormality, present


@dataclass(frozen=True, eq=False)
class SentenceReader:
    """Reads reports sentence by sentence.

    Args:
        labeller: its name.
        spans: finds what a section claims and denies.
        attributes: reads side, lobe and size out of a sentence.
    """

    labeller: str
    spans: Callable[[str, Part], Spans]
    attributes: AttributeReader

    @classmethod
    def of(cls, params: dict[str, Any], abnormalities: Sequence[str]) -> SentenceReader:
        """Choose by the labeller that config.json of a model records."""
        return cls.named(params.get("evaluate", {}).get("labeller", "rules"), abnormalities)

    @classmethod
    def named(cls, name: str, abnormalities: Sequence[str]) -> SentenceReader:
        """Choose by the name of a labeller."""
        if name not in READS_FOR_NOTHING:
            name = "rules"
        _, attributes = get_attribute_reader(name, abnormalities)
        return cls(name, _spans_of(name, abnormalities), attributes)

    def read(self, report: Report) -> Iterator[SaidSentence]:
        """Yield every sentence of both parts, in order."""
        sections: tuple[tuple[Part, str], ...] = (
            ("findings", report.findings),
            ("impression", report.impression),
        )
        for part, section in sections:
            spans = self.spans(section, part) if section else ()
            for start, end in split(section):
                named = dict.fromkeys((n, p) for s, _, n, p in spans if start <= s < end)
                text = section[start:end]
                yield SaidSentence(text, part, tuple(self._said(text, named)))

    def _said(self, text: str, named: dict[tuple[str, bool], None]) -> Iterator[Said]:
        told = self.attributes(text) if named else {}
        for name, present in named:
            if present or (name, True) not in named:
                attributes = told.get(name, Attributes()) if present else Attributes()
                yield Said(name, present, attributes)


def spans_of_model(folder: Path) -> Callable[[str, Part], Spans]:
    """Choose what reads the reports of a model, by the labeller that its config.json records."""
    from uvlm.model.folder import read_config  # torch, which few readers of sentences need
    from uvlm.model.model_config import ReportModelConfig

    config = read_config(folder, ("report",))
    assert isinstance(config, ReportModelConfig)
    return SentenceReader.of(config.params, config.abnormalities).spans


def split(section: str) -> list[tuple[int, int]]:
    """Find the sentences of a section, which together hold all of its words."""
    found: list[tuple[int, int]] = []
    start: int | None = None
    for match in _SENTENCE.finditer(section):
        begin = match.start() if start is None else start
        if _WORD.search(section[begin : match.end()]):
            found.append((begin, match.end()))
            start = None
        else:  # "1." and the like belong to what follows
            start = begin
    if start is not None:
        end = len(section.rstrip())
        found = [*found[:-1], (found[-1][0], end)] if found else [(start, end)]
    return found


def _spans_of(name: str, abnormalities: Sequence[str]) -> Callable[[str, Part], Spans]:
    if name == "phantom":
        from uvlm.evaluation.labelling.phantom import statement_spans
        from uvlm.evaluation.labelling.phantom_details import impression_spans

        return lambda text, part: (statement_spans if part == "findings" else impression_spans)(
            text
        )
    phrases = get_phrases(name, abnormalities)

    def spans(text: str, part: Part) -> Spans:
        claimed = phrases.claimed(text) if phrases.claimed else ()
        denied = phrases.named(text) if phrases.named else ()
        return [(*span, True) for span in claimed] + [(*span, False) for span in denied]

    return spans

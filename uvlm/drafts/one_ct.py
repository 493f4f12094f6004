"""Sentences that no single CT can support: a model that writes them has made them up.

    "Unchanged since the previous examination."     comparison with an earlier examination
    "Known history of breast cancer."               clinical history

Read by words, in English. A model learns such sentences from reports that were written with other
examinations and a request at hand; it has neither.
"""

from __future__ import annotations

import re
from typing import Final

_COMPARED: Final = re.compile(
    r"\b(?:compar(?:ed|ison|ing)|(?:previous|prior|earlier|last|old) (?:\w+ ){0,2}"
    r"(?:ct|exam\w*|stud(?:y|ies)|scans?|imaging|reports?|x-rays?|radiographs?|tomograph\w+)"
    r"|previously|unchanged|no (?:significant |interval )*change|interval|stable|stabil\w+"
    r"|regress\w*|progress(?:ed|ion|ive|ing)|ha(?:s|ve) (?:grown|resolved)"
    r"|(?:in|de)creas(?:ed|ing) (?:in (?:size|number) )?since|newly"
    r"|new (?:developed|appear\w*|emerg\w*|onset)"
    r"|since the (?:previous|prior|last)|current (?:exam\w*|study|ct)"
    r"|no longer|as before|again (?:seen|noted|observed)|redemonstrat\w*)\b",
    re.IGNORECASE,
)
_HISTORY: Final = re.compile(
    r"\b(?:histor(?:y|ies) of|clinical(?:ly)? (?:history|information|indication|known|data)"
    r"|(?:patient|case|known|followed|follow-up|followup|operated|diagnosed|treated)"
    r"(?: \w+){0,3} (?:with|for|due to|because of) (?:\w+ ){0,3}"
    r"(?:ca|cancer|carcinoma|malignancy|lymphoma|covid\S*|surgery|diagnosis|complaints?|trauma)"
    r"|known (?:case|diagnosis|malignancy|primary|cancer|disease)"
    r"|complain(?:s|t|ts|ed|ing)?|presents? with|presented with|smok(?:er|ing)"
    r"|fever|cough(?:ing)?|dyspno?ea|shortness of breath|chest pain|chemotherap\w+|radiotherap\w+"
    r"|(?:status )?post-?(?:op(?:erative)?|covid))\b",
    re.IGNORECASE,
)


def unsupported_by_one_ct(sentence: str) -> str | None:
    """Name what a sentence says that no single CT shows; None if there is nothing of the kind."""
    if _COMPARED.search(sentence):
        return "comparison with an earlier examination"
    if _HISTORY.search(sentence):
        return "clinical history"
    return None

"""How often a report says of an abnormality what its classifier, at its tuned threshold, does not.

    n                   pairs of a scan and an abnormality; scans without a report are left out
    named               pairs of which some sentence says that it is there, or is not
    contradicted        pairs of which some sentence says otherwise than the classifier
    claimed_against     those claimed where the classifier says no
    denied_against      those denied where the classifier says yes; a pair may be both
    silent              pairs that no sentence names although the classifier says yes
    share               contradicted / n
    reference_share     the same of the reference reports: of each pair in which a perfect report
                        contradicts the classifier, the classifier is wrong

What a contradiction is, drafts know too: uvlm/drafts/checks.py flags the sentence of a draft by the
same `contradicts`. A report that agrees with its classifier everywhere may be as wrong as that is.

N scans, A abnormalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from uvlm.arrays import Flags, Floats
from uvlm.evaluation.baselines import Seen
from uvlm.evaluation.bootstrap import with_interval
from uvlm.evaluation.missing import is_missing
from uvlm.evaluation.reference import Reference
from uvlm.evaluation.said import SentenceReader
from uvlm.text.sections import split_sections

NO_PROBABILITIES: Final = "the predictions contain no probabilities"


def contradicts(present: bool, probability: float, threshold: float) -> bool:
    """Whether a claim (or denial) of an abnormality says otherwise than a classifier."""
    return present != (probability >= threshold)


def contradictions(
    reference: Reference, texts: Sequence[str], seen: Seen, labeller: str
) -> dict[str, Any]:
    """Count contradictions between N reports and the classifier; see the head of the module.

    Args:
        reference: names, true reports and resamples.
        texts: the N reports.
        seen: probabilities and thresholds of the classifier.
        labeller: whose reading counts; one that costs something is replaced by the rules.
    """
    if seen.probabilities is None:
        return {"not_computed": NO_PROBABILITIES}
    reader = SentenceReader.named(labeller, reference.names)
    known = ~np.isnan(seen.probabilities)
    own = known & ~is_missing(texts)[:, None]
    claimed, denied = said_in(texts, reader, reference.names)
    says_yes = seen.probabilities >= seen.thresholds
    against = _against(claimed, denied, seen)
    counts = {
        "n": own,
        "named": own & (claimed | denied),
        "contradicted": own & against,
        "claimed_against": own & claimed & ~says_yes,
        "denied_against": own & denied & says_yes,
        "silent": own & ~claimed & ~denied & says_yes,
    }
    true = _against(*said_in(reference.texts, reader, reference.names), seen)
    return {
        **{name: int(flags.sum()) for name, flags in counts.items()},
        **with_interval("share", _share(reference, against, own)),
        **with_interval("reference_share", _share(reference, true, known)),
        "read_by": reader.labeller,
    }


def said_in(
    texts: Sequence[str], reader: SentenceReader, names: Sequence[str]
) -> tuple[Flags, Flags]:
    """Say what some sentence of each of N texts claims, and what some sentence denies: (N, A)."""
    known = {text: _of_one(text, reader, names) for text in dict.fromkeys(texts)}
    both = np.stack([known[text] for text in texts])  # (N, 2, A)
    return both[:, 0], both[:, 1]


def _of_one(text: str, reader: SentenceReader, names: Sequence[str]) -> Flags:
    said = {
        (each.abnormality, each.present)
        for sentence in reader.read(split_sections(text).report)
        for each in sentence.said
    }
    return np.array([[(name, present) in said for name in names] for present in (True, False)])


def _against(claimed: Flags, denied: Flags, seen: Seen) -> Flags:
    """Mark what is said against the classifier: (N, A)."""
    assert seen.probabilities is not None
    rows, cuts = seen.probabilities.tolist(), seen.thresholds.tolist()
    by_claim, by_denial = (
        [[contradicts(said, p, cut) for p, cut in zip(row, cuts, strict=True)] for row in rows]
        for said in (True, False)
    )
    against: Flags = (claimed & by_claim) | (denied & by_denial)
    return against


def _share(reference: Reference, part: Flags, whole: Flags) -> Floats:
    """Share of the whole in every sample, (1 + R,); NaN where a sample has none of it."""
    found, total = (reference.resamples.sums(flags.sum(axis=1)) for flags in (part & whole, whole))
    shares: Floats = np.full(total.shape, np.nan)
    return np.divide(found, total, out=shares, where=total > 0)

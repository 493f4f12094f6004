"""What a report says beyond the presence of an abnormality, and whether its two parts agree.

either_part     macro values when an abnormality counts that findings or impression name, as
                CT-RATE's labels do
side, lobe,     n                  true positives whose reference says it: present, claimed, and
size                               described in the reference
                right              share of them in which the generated report says the same
                commonest_value    what most references say, and
                commonest          the share that is right if a report always writes that
                chance             the share if each report said what another one says
                above_commonest    right minus commonest
                of_all             as right, over all that the references describe, also what the
                                   generated report does not name
consistency     n                  abnormalities that impressions name
                absent             those that the findings of the same report do not name
                absent_share       absent / n
                reference_absent_share  the same of the reference reports

A model that names only what it is sure of has fewer true positives, and may be right in more of
them: `of_all` does not reward that.

N cases, A abnormalities, R bootstrap samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Flags, Floats
from uvlm.evaluation.bootstrap import Resamples, Samples, with_interval, with_intervals
from uvlm.evaluation.labeller import get_attribute_reader
from uvlm.evaluation.missing import is_missing, wrong_claims
from uvlm.evaluation.reference import Reference, TextLabels
from uvlm.evaluation.scores import label_samples
from uvlm.text.attributes import VALUES, AttributeReader, Attributes, said

Said = npt.NDArray[np.str_]  # (N, A) one value each, "" where a report does not say it
KINDS: Final = tuple(VALUES)
COSTLY: Final = "its labeller would be asked twice more for each report"


def beyond_presence(
    reference: Reference, texts: Sequence[str], claimed: Flags, label: TextLabels
) -> tuple[dict[str, Any], list[dict[str, int]]]:
    """Score what N reports say beyond presence; also counts for each of A abnormalities.

    Args:
        reference: what they were written for.
        texts: the N reports.
        claimed: (N, A) abnormalities that they claim.
        label: reads abnormalities out of texts.
    """
    true, written, reader = _read_both(reference, texts, label)
    rows: list[dict[str, int]] = [{} for _ in reference.names]
    found: dict[str, Any] = {"either_part": either_part(reference, texts, label)}
    found["attributes_read_by"] = reader
    for kind in KINDS:
        described = reference.labels & (true[kind] != "")
        scored = described & claimed
        found[kind] = attribute_scores(true[kind], written[kind], described, claimed, reference)
        right = scored & (true[kind] == written[kind])
        for row, count, hits in zip(rows, scored.sum(axis=0), right.sum(axis=0), strict=True):
            row |= {f"{kind}_n": int(count), f"{kind}_right": int(hits)} if count else {}
    return found | {"consistency": consistency(reference, texts, label)}, rows


def either_part(reference: Reference, texts: Sequence[str], label: TextLabels) -> dict[str, Any]:
    """Macro values of N reports in which findings and impression count alike."""
    named = wrong_claims(reference.labels, label.anywhere(texts), is_missing(texts))
    return with_intervals(label_samples(reference, named))


def attribute_scores(
    true: Said, written: Said, described: Flags, claimed: Flags, reference: Reference
) -> dict[str, Any]:
    """Score one kind of attribute; the module says what is returned.

    Args:
        true: what the references say.
        written: what the generated reports say.
        described: (N, A) where an abnormality is present and its reference says it.
        claimed: (N, A) what the generated reports claim.
        reference: names and resamples.
    """
    scored, resamples = described & claimed, reference.resamples
    right = scored & (true == written)
    of_all: dict[str, Any] = {"n_of_all": _count(described)}
    of_all |= with_interval("of_all", _share(resamples, right, described))
    if not scored.any():
        return {"n": 0, **of_all}
    values, counts = np.unique(true[scored], return_counts=True)
    best = values[counts.argmax()]  # of equal ones, the first in the alphabet
    shares: Samples = {
        "right": _share(resamples, right, scored),
        "commonest": _share(resamples, scored & (true == best), scored),
        "chance": _chance(resamples, true, written, scored),
    }
    shares["above_commonest"] = shares["right"] - shares["commonest"]
    numbers = {"n": _count(scored), "commonest_value": str(best)}
    return numbers | with_intervals(shares) | of_all


def attribute_samples(
    reference: Reference, texts: Sequence[str], claimed: Flags, label: TextLabels
) -> Samples:
    """`right` and `of_all` of side, lobe and size in every sample, (1 + R,), where defined."""
    true, written, _ = _read_both(reference, texts, label)
    found: Samples = {}
    for kind in KINDS:
        described = reference.labels & (true[kind] != "")
        scored = described & claimed
        right = scored & (true[kind] == written[kind])
        found[f"{kind}_right"] = _share(reference.resamples, right, scored)
        found[f"{kind}_of_all"] = _share(reference.resamples, right, described)
    return {name: values for name, values in found.items() if np.isfinite(values[0])}


def consistency(reference: Reference, texts: Sequence[str], label: TextLabels) -> dict[str, Any]:
    """Count what impressions name and the findings of the same report do not."""
    parts, references = label.by_part(texts), label.by_part(reference.texts)
    if parts is None or references is None:
        return {"not_computed": COSTLY}
    findings, impression = parts
    absent = impression & ~findings
    share, own = (
        _share(reference.resamples, named & ~seen, named)
        for seen, named in ((findings, impression), references)
    )
    return {
        "n": _count(impression),
        "absent": _count(absent),
        **with_interval("absent_share", share),
        **with_interval("reference_absent_share", own),
    }


def _read_both(
    reference: Reference, texts: Sequence[str], label: TextLabels
) -> tuple[dict[str, Said], dict[str, Said], str]:
    """Read references and N reports, and name what reads them."""
    name, read = get_attribute_reader(label.name, reference.names)
    true, written = (_said(read, some, reference.names) for some in (reference.texts, texts))
    return true, written, name


def _said(read: AttributeReader, texts: Sequence[str], names: Sequence[str]) -> dict[str, Said]:
    """Read each different text once; (N, A) values of each kind."""
    known: dict[str, Mapping[str, Attributes]] = {text: read(text) for text in dict.fromkeys(texts)}
    nothing = Attributes()
    rows = [[known[text].get(name, nothing) for name in names] for text in texts]
    return {
        kind: np.array([[said(kind, getattr(of_one, kind)) for of_one in row] for row in rows])
        for kind in KINDS
    }


def _chance(resamples: Resamples, true: Said, written: Said, scored: Flags) -> Floats:
    """Share of pairs that agree when what is written is dealt out anew: sum of p(v) q(v)."""
    total = resamples.sums(scored.sum(axis=1))
    agreed = np.zeros_like(total)
    for value in np.unique(true[scored]):
        pair = (scored & (said_of == value) for said_of in (true, written))
        first, second = (resamples.sums(flags.sum(axis=1)) for flags in pair)
        agreed += first * second
    return _divided(agreed, total**2)


def _share(resamples: Resamples, part: Flags, whole: Flags) -> Floats:
    """Part of the whole in every sample, (1 + R,); NaN where a sample has none of it."""
    return _divided(*(resamples.sums(flags.sum(axis=1)) for flags in (part, whole)))


def _divided(part: Floats, whole: Floats) -> Floats:
    shares: Floats = np.full(whole.shape, np.nan)
    return np.divide(part, whole, out=shares, where=whole > 0)


def _count(flags: Flags) -> int:
    return int(flags.sum())

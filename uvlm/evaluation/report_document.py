"""What `evaluate` and `uvlm score` both report about N reports.

cls            the classifier, at 0.5 and at tuned thresholds; empty without probabilities
calibration    what its probabilities are worth as probabilities; see calibration.py
report         the reports; above_trivial is macro-F1 minus that of the best baseline that
never looks at the image; what they say beyond presence, see beyond_presence.py, and against the
classifier, see contradictions.py
averages       F1 in three averages beside the best constant of each; see averages.py
oracle         the reference reports through the labeller: the ceiling
length_limits  the references cut after so many words, through the labeller
baselines      what costs nothing; empty without training reports
collapse       whether the reports depend on the CT; empty without training reports
classes        how many classes the macro values above run over
abnormalities  one row per class
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from uvlm.config import TRIVIAL
from uvlm.evaluation import scores
from uvlm.evaluation.averages import beside_constants, length_limits
from uvlm.evaluation.baselines import Seen, TrainingReports, baseline_reports
from uvlm.evaluation.beyond_presence import beyond_presence, either_part
from uvlm.evaluation.bootstrap import with_intervals
from uvlm.evaluation.calibration import calibration_scores
from uvlm.evaluation.collapse import collapse_audit
from uvlm.evaluation.contradictions import contradictions
from uvlm.evaluation.per_class import abnormality_rows
from uvlm.evaluation.reference import Reference, TextLabels


def report_document(
    reference: Reference,
    texts: Sequence[str],
    label: TextLabels,
    seen: Seen,
    training: TrainingReports | None,
    meteor: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Score N reports and all that they are compared with.

    Args:
        reference: what they were written for.
        texts: the N reports.
        label: reads abnormalities out of texts.
        seen: what the classifier says of the N cases.
        training: what baselines and the collapse audit know.
        meteor: the scores, or why they are not computed.
        seed: of every draw.
    """
    claimed = reference.claims(texts, label)
    baselines, above, collapse = {}, {}, {}
    if training is not None:
        written = baseline_reports(training, reference.case_ids, label, seed, seen)
        baselines = {name: (reports, label(reports)) for name, reports in written.items()}
        trivial = [baselines[name][1] for name in TRIVIAL]
        above = scores.above_trivial(reference, claimed, trivial)
        known = (training.by_case.values(), training.labels)
        collapse = collapse_audit(reference, texts, claimed, label, known, seed)
    beyond, counts = beyond_presence(reference, texts, claimed, label)
    rows = abnormality_rows(reference, claimed, seen.probabilities, seen.thresholds)
    return {
        "cls": scores.classifier_scores(reference, seen.probabilities, seen.thresholds),
        "calibration": calibration_scores(reference, seen.probabilities, seen.temperature),
        "report": {
            **scores.report_scores(reference, texts, claimed),
            "other_protocols": scores.other_protocols(reference, texts),
            "meteor": meteor,
            **above,
            **beyond,
            "contradictions": contradictions(reference, texts, seen, label.name),
        },
        "averages": beside_constants(reference, claimed),
        "length_limits": length_limits(reference, label),
        "oracle": with_intervals(scores.label_samples(reference, label(reference.texts)))
        | {"either_part": either_part(reference, reference.texts, label)},
        "baselines": {k: scores.report_scores(reference, *v) for k, v in baselines.items()},
        "collapse": collapse,
        "classes": scores.class_counts(reference),
        "abnormalities": [row | more for row, more in zip(rows, counts, strict=True)],
    }

"""Sentences of the summary page that depend on the run: what it counts, and what it cannot say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from uvlm.config import Params
from uvlm.text.claims import Phrases

_UNTRAINED: Final = {
    "segmentation": "The segmentation decoder was not trained: there are no masks and no scores of "
    "masks.",
    "classifier": "The classifier was not trained: there are no probabilities.",
    "language": "The language decoder was not trained: there are no reports, and every test scan "
    "counts as one without a report.",
}


def plural(count: int, noun: str) -> str:
    """Write a count with its noun in the right number."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"


def size_of_test(metrics: Mapping[str, Any]) -> str:
    """Say how many scans are scored, and of how many CTs and patients."""
    scans, cts = metrics["n"], metrics["n_cts"]
    size = f"{plural(scans, 'scan')} of {plural(metrics['n_patients'], 'patient')}"
    if cts == scans:
        return size
    return f"{size} ({plural(cts, 'CT')}: the first reconstruction of each scan is scored)"


def missing_remark(metrics: Mapping[str, Any]) -> str:
    """Count the scans that have no report, or an empty one; nothing if there are none."""
    counts = {"n_missing": "without a prediction", "n_empty": "with an empty report"}
    found = [f"{metrics[key]:,} {what}" for key, what in counts.items() if metrics[key]]
    rule = metrics["protocol"]["missing_prediction"]
    return f"{', '.join(found)}, each counted as {rule}" if found else ""


def macro_remark(classes: Mapping[str, Any], *, has_probabilities: bool) -> str:
    """Say over how many classes macro values run, and what bounds them."""
    total, positive, names = classes["n"], classes["n_positive"], classes["without_positives"]
    remark = f"Macro values are unweighted means over {plural(total, 'class')}"
    if names:
        verbs = ("has", "counts") if len(names) == 1 else ("have", "count")
        remark += (
            f"; {len(names)} of them {verbs[0]} no positive test scan and {verbs[1]} as 0 "
            f"({', '.join(names)}), so that no reports, the references included, can exceed "
            f"{positive / total:.3f} in F1"
        )
    if has_probabilities:
        both = plural(classes["n_both"], "class")
        remark += f". AUROC is a mean over the {both} with positive and negative test scans"
        remark += f", AUPRC over the {plural(positive, 'class')} with a positive one"
    return f"{remark}."


def labels_remark(labeller: str, *, labels_are_read: bool) -> str:
    """Say what counts as true, and who reads the reports."""
    if labels_are_read:
        return (
            f"The labeller {labeller} reads the abnormalities of each generated report. For want "
            "of a table of labels it also read those that count as true, out of the reference "
            "reports, so that its own errors are hidden and the ceiling says nothing."
        )
    return (
        f"The labeller {labeller} reads the abnormalities of each report, which are compared with "
        "the table of labels."
    )


def method_remark(params: Params) -> str:
    """Say by which method reports were written, with what the paper does not have."""
    injection, train, write = params.injection, params.train_report, params.generate
    cues = {"both": "presence and attributes"}.get(injection.cues, injection.cues)
    of_training = {0.0: "", 1.0: ", which in training say what the report says"}
    told = of_training.get(train.cue_truth, ", some of which in training say what the report says")
    added = [
        (injection.pooled != "none", f"pooled tokens ({injection.pooled})"),
        (injection.cues != "none", f"cues of {cues} from the classifier{told}"),
        (injection.cue_readout, "a readout of the cues behind the last layer"),
        (
            train.deciding_weight > 1,
            f"{train.deciding_weight:g} times the weight on deciding words",
        ),
        (write.cue_guidance > 0, f"guidance by the cues ({write.cue_guidance:g})"),
        (write.cue_shift != 0, f"cues shifted by {write.cue_shift:+g}"),
        (
            write.hold_impressions,
            "impressions that are written again if they name more than findings",
        ),
    ]
    if not (names := [name for is_so, name in added if is_so]):
        return "The method that wrote the reports adds nothing to the paper's."
    return f"The method that wrote the reports has, beyond the paper's: {'; '.join(names)}."


def learned_remark(classes: Mapping[str, Any]) -> str:
    """Name the classes that nothing can be said about."""
    names = ", ".join(classes["without_positives"])
    return f"Not judged, for want of a positive test scan: {names}." if names else ""


def marks_remark(labeller: str, phrases: Phrases) -> str:
    """Explain the colours of the texts."""
    if phrases.claimed is None:
        return (
            f"The labeller {labeller} judges a report as a whole, so that nothing is coloured in "
            "the texts; what it reads stands below them."
        )
    coloured = "One colour per abnormality"
    if phrases.named is None:
        return f"{coloured}; normal text is black."
    return (
        f"{coloured}, on the words that the labeller {labeller} counts; what it names without "
        "counting it, a denial for example, is black on a dotted line."
    )


def untrained_remarks(has_learned: Callable[[str], bool]) -> Sequence[str]:
    """Say what is not there because nothing has been learned that could make it."""
    return [remark for part, remark in _UNTRAINED.items() if not has_learned(part)]

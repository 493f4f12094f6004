"""The numbers of `uvlm score` as text for a terminal of 110 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from uvlm.config import F1_AVERAGES
from uvlm.evaluation.clinical import CLINICAL
from uvlm.evaluation.line_breaks import line_breaks_text
from uvlm.text.attributes import VALUES

_DASH: Final = "-"
_COLUMNS: Final = (
    ("macro_f1", "macro-F1"),
    ("macro_precision", "prec."),
    ("macro_recall", "recall"),
    ("crg", "CRG"),
    ("bleu_mean", "BLEU-mean"),
    ("bleu_4", "B-4"),
    ("rouge_l", "ROUGE-L"),
    ("cider", "CIDEr"),
)
_CALIBRATION: Final = {
    "Brier score": "brier",
    "ECE, all classes together": "ece",
    "ECE, mean over classes": "macro_ece",
}
_WITH_RANGE: Final = ("macro_f1", "bleu_mean")
_LABELS: Final = {
    "claims_nothing": "claims nothing",
    "claims_everything": "claims everything",
    "constant_normal": "constant, normal",
    "constant_abnormal": "constant, all abnormal",
    "most_frequent": "most frequent report",
    "random": "random report",
    "nearest": "nearest training report",
    "classifier_sentences": "classifier in sentences",
}


def score_page(document: Mapping[str, Any]) -> str:
    """Write what `score` returned, for people."""
    optional = {
        "cls": _classifier,
        "calibration": _calibration,
        "collapse": _collapse,
        "compare": _compare,
        "clinical": _clinical,
        "mirrored": _mirrored,
    }
    blocks = [_size, _reports, _averages, _beyond_presence, _protocols, _classes]
    blocks += [block for section, block in optional.items() if section in document]
    first = [str(document["cues"]["note"])] if "cues" in document else []
    return "\n\n".join([*first, *(block(document) for block in blocks)])


def _mirrored(document: Mapping[str, Any]) -> str:
    scores = document["mirrored"]
    if not scores["n"]:
        return "Mirrored CTs: no abnormality is named on one side in both reports"
    shares = f"other side {number(scores, 'swapped')}, same side {number(scores, 'kept')}"
    return f"Mirrored CTs, {scores['n']} abnormalities named on one side in both reports: {shares}"


def number(scores: Mapping[str, Any], name: str, *, with_range: bool = True) -> str:
    """Write a metric with three decimals and, in brackets, its interval."""
    value = scores.get(name)
    if value is None:
        return _DASH
    interval = scores.get(f"{name}_ci") if with_range else None
    if not interval:
        return f"{value:.3f}"
    low, high = interval
    return f"{value:.3f} ({low:.3f}{' to ' if low < 0 else '-'}{high:.3f})"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Set rows of cells in columns, the first flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _size(document: Mapping[str, Any]) -> str:
    protocol = document["protocol"]
    lines = [
        f"{document['n']:,} references of {document['n_patients']:,} patients "
        f"({protocol['patients']}); text from {' + '.join(protocol['text_columns'])}",
        f"labels: {protocol['labels']}; labeller of the predictions: {protocol['labeller']}",
        f"{protocol['bootstrap_samples']:,} bootstrap samples of patients, 95 % intervals, "
        f"seed {protocol['seed']}",
    ]
    known = (
        f"{100 * share:.0f} % of the {name}" for name, share in document["known_words"].items()
    )
    lines.append(f"words known from English reports: {', '.join(known)}")
    if document["n_missing"]:
        listed = ", ".join(document["missing"][:5])
        lines.append(
            f"{document['n_missing']:,} WITHOUT A PREDICTION, each {protocol['missing_prediction']}"
            f": {listed}{', ...' if document['n_missing'] > 5 else ''}"
        )
    if document["n_empty"]:
        lines.append(f"{document['n_empty']:,} predictions are empty and count like missing ones")
    if found := protocol["line_breaks"]:
        lines.append(line_breaks_text(found, document["n"]))
    return "\n".join(lines)


def _reports(document: Mapping[str, Any]) -> str:
    sets = [("these reports", document["report"]), ("references (ceiling)", document["oracle"])]
    sets += [(_LABELS[name], scores) for name, scores in document["baselines"].items()]
    rows = [["", *(title for _, title in _COLUMNS)]]
    for label, scores in sets:
        cells = (number(scores, key, with_range=key in _WITH_RANGE) for key, _ in _COLUMNS)
        rows.append([label, *cells])
    lines = [aligned(rows), _macro(document["classes"])]
    if "above_trivial" in document["report"]:
        above = number(document["report"], "above_trivial")
        lines.append(f"macro-F1 above the best that never looks at an image: {above}")
    return "\n".join(lines)


def _averages(document: Mapping[str, Any]) -> str:
    """Write F1 in three averages, each beside the best constant of its own."""
    beside = document["averages"]
    claims = ", ".join(str(beside[name]["num_claimed"]) for name in F1_AVERAGES)

    def beside_row(title: str, key: str) -> list[str]:
        return [title, *(number(beside[name], key) for name in F1_AVERAGES)]

    def row(title: str, scores: Mapping[str, Any], ending: str = "") -> list[str]:
        return [title, *(number(scores, f"{name}{ending}") for name in F1_AVERAGES)]

    rows = [["F1 in three averages", "macro", "weighted", "micro"]]
    rows += [row("these reports", document["report"])]
    rows += [beside_row(f"best constant, claims {claims}", "constant")]
    rows += [beside_row("these reports above it", "above")]
    if "cls" in document:
        rows += [row("probabilities at their thresholds", document["cls"], "_tuned")]
    rows += [row("references (ceiling)", document["oracle"])]
    limits = document["length_limits"]
    if reason := limits.get("not_computed"):
        return f"{aligned(rows)}\nreferences cut in length: not computed ({reason})"
    rows += [row(f"references cut to {limit} words", cut) for limit, cut in limits.items()]
    return aligned(rows)


def _macro(classes: Mapping[str, Any]) -> str:
    """Say over how many classes the macro values run."""
    total, positive = classes["n"], classes["n_positive"]
    line = f"macro values are means over {total} classes"
    if positive == total:
        return line
    bound = f"F1 is at most {positive / total:.3f}, also for the references"
    return f"{line}; {total - positive} without a positive reference count as 0,\nso {bound}"


def _beyond_presence(document: Mapping[str, Any]) -> str:
    """Write what is said of side, lobe and size, and whether the two parts agree."""
    report = document["report"]
    rows = [["right in true positives", "n", "these", "commonest", "chance", "of all described"]]
    for kind in VALUES:
        scores = report[kind]
        plain = [number(scores, key, with_range=False) for key in ("commonest", "chance")]
        if value := scores.get("commonest_value"):
            plain[0] += f" ({value})"
        rows.append([kind, str(scores["n"]), number(scores, "right"), *plain])
        rows[-1].append(number(scores, "of_all", with_range=False))
    either = number(report["either_part"], "macro_f1")
    lines = [aligned(rows), f"side, lobe and size read by: {report['attributes_read_by']}"]
    lines.append(f"macro-F1 if findings or impression name an abnormality: {either}")
    lines += [_consistency(report["consistency"]), _contradictions(report["contradictions"])]
    return "\n".join(lines)


def _consistency(found: Mapping[str, Any]) -> str:
    title = "named in the impression and not in the findings"
    if reason := found.get("not_computed"):
        return f"{title}: not computed ({reason})"
    if not found["n"]:
        return f"{title}: no impression names an abnormality"
    own, theirs = number(found, "absent_share"), number(found, "reference_absent_share")
    return f"{title}: {found['absent']:,} of {found['n']:,}, {own}; references {theirs}"


def _contradictions(found: Mapping[str, Any]) -> str:
    title = "said against the classifier"
    if reason := found.get("not_computed"):
        return f"{title}: not computed ({reason})"
    own, theirs = number(found, "share"), number(found, "reference_share")
    counts = f"{found['contradicted']:,} of {found['n']:,} pairs of scan and abnormality"
    return f"{title}: {counts}, {own}; references {theirs}"


def _protocols(document: Mapping[str, Any]) -> str:
    """Write BLEU under every protocol, and the metrics that have a definition of their own."""
    report, headline = document["report"], document["protocol"]["bleu"]
    names = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "bleu_mean")
    rows = [["BLEU by protocol", "B-1", "B-2", "B-3", "B-4", "mean"]]
    protocols = {f"{headline} (headline)": report, **report["other_protocols"]}
    for name, scores in protocols.items():
        cells = [number(scores, key, with_range=key == "bleu_mean") for key in names]
        rows.append([name, *cells])
    lines = [aligned(rows), f"sacrebleu 13a, BLEU-4: {number(report, 'sacrebleu_13a')}"]
    if reason := report["meteor"].get("not_computed"):
        lines.append(f"METEOR: not computed ({reason})")
    else:
        each = number(report["meteor"], "mean_over_reports")
        lines.append(f"METEOR: {number(report['meteor'], 'corpus')}; mean over reports {each}")
    return "\n".join(lines)


def _classes(document: Mapping[str, Any]) -> str:
    rows = [["abnormality", "n", "precision", "recall", "F1"]]
    for row in document["abnormalities"]:
        known = row if row["support"] else {}  # nothing is defined without a positive reference
        cells = [number(known, f"report_{key}") for key in ("precision", "recall", "f1")]
        rows.append([row["name"], str(row["support"]), *cells])
    return aligned(rows)


def _classifier(document: Mapping[str, Any]) -> str:
    scores, thresholds = document["cls"], document["protocol"]["thresholds"]
    titles = {"macro-F1 at 0.5": "macro_f1", f"macro-F1 at {thresholds}": "macro_f1_tuned"}
    if thresholds == "0.5":
        titles = {"macro-F1 at 0.5": "macro_f1"}
    classes = document["classes"]
    titles |= {
        f"macro-AUROC, {classes['n_both']} classes with positives and negatives": "macro_auroc"
    }
    titles |= {f"macro-AUPRC, {classes['n_positive']} classes with positives": "macro_auprc"}
    rows = [[title, number(scores, name)] for title, name in titles.items()]
    return aligned([["probabilities", ""], *rows])


def _calibration(document: Mapping[str, Any]) -> str:
    scores = document["calibration"]
    temperature = scores["temperature"]
    columns = {"": "as they are"}
    if temperature is not None:
        columns["_tempered"] = f"at temperature {temperature:.3g}"
    rows = [["calibration of the probabilities", *columns.values()]]
    for title, name in _CALIBRATION.items():
        rows.append([title, *(number(scores, f"{name}{ending}") for ending in columns)])
    rows.append(["Brier score of stating the prevalence", number(scores, "prevalence_brier")])
    rows[-1] += [""] * (len(columns) - 1)
    return aligned(rows)


def _clinical(document: Mapping[str, Any]) -> str:
    """Write the metrics of other packages; what is not computed is one line with its reason."""
    found = document["clinical"]
    scored = {title: number(found[name], "mean") for name, title in CLINICAL.items()}
    lines = [f"{title}: {text}" for title, text in scored.items() if text != _DASH]
    reasons: dict[str, list[str]] = {}
    for name, title in CLINICAL.items():
        if reason := found[name].get("not_computed"):
            reasons.setdefault(reason, []).append(title)
    lines += [f"{', '.join(names)}: not computed ({reason})" for reason, names in reasons.items()]
    return "\n".join(lines)


def _collapse(document: Mapping[str, Any]) -> str:
    audit = document["collapse"]
    distinct, memorised, swapped = audit["distinct"], audit["memorised"], audit["image_shuffle"]
    rows = [["collapse audit", "predictions", "references"]]
    for title, section, key in (
        ("different reports", distinct, "reports"),
        ("different sentences", distinct, "sentences"),
        ("different 4-grams, share", distinct, "share_of_4_grams"),
        ("verbatim a training report, share", memorised, "report_share"),
        ("sentences verbatim from training, share", memorised, "sentence_share"),
        ("50 words in a row from training, share", memorised, "long_copy_share"),
    ):
        rows.append([title, f"{section[key]:,.6g}", f"{section[f'reference_{key}']:,.6g}"])
    rare = audit["rare"]
    count, positive = len(rare["names"]), rare["n_positive"]
    rarest = f"recall of the rarest third ({count} classes, {positive} with positives)"
    swapped = swapped if document["n_patients"] > 1 else {}  # one patient has no other's CT
    rows.append([rarest, number(rare, "macro_recall"), ""])
    changed = number(swapped, "changed_share", with_range=False)
    rows.append(["CTs exchanged: reports that change", changed, ""])
    rows.append(["CTs exchanged: macro-F1 lost", number(swapped, "macro_f1_lost"), ""])
    return aligned(rows)


def _compare(document: Mapping[str, Any]) -> str:
    compare = document["compare"]
    rows = [["paired comparison", "these", "other", "difference", "p"]]
    for name, scores in compare["metrics"].items():
        p = _DASH if scores["p"] is None else f"{scores['p']:.3f}"
        values = [f"{scores[key]:.3f}" for key in ("first", "second")]
        rows.append([name, *values, number(scores, "difference"), p])
    missing = compare["n_missing"]
    return aligned(rows) + (f"\n{missing:,} without a prediction in the other" if missing else "")

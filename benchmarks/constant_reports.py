"""What constant reports score on CT-RATE's 1,564 validation reports.

    UVLM_REAL_DATA=FOLDER python -m benchmarks.constant_reports     (make constant-reports)

Sentences and labels are learned from the 800 reports that CT-RATE's authors labelled by hand: every
fourth chooses among constants, the others are counted. These reports are longer than those that are
scored, and so is the constant that they choose: an honest score, but low for a reason that has
nothing to do with images. The best of LENGTHS on the scored reports, NUM_SENTENCES, would be chosen
on what it is scored on; so one half of the patients chooses for the other, and the other way round.
Nothing here looks at an image. The page holds numbers, no sentence of a report. CT-RATE is licensed
CC BY-NC-SA 4.0.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from uvlm.environment import REAL_DATA
from uvlm.errors import UvlmError
from uvlm.evaluation.averages import LENGTH_LIMITS, cut_to
from uvlm.evaluation.baselines import TrainingReports, baseline_reports
from uvlm.evaluation.bleu import HEADLINE, bleu_counts, bleu_scores
from uvlm.evaluation.bootstrap import with_intervals
from uvlm.evaluation.labeller import get_labeller
from uvlm.evaluation.reference import Reference, TextLabels
from uvlm.evaluation.score import ScoreRequest, read_reference, read_training
from uvlm.evaluation.score_inputs import Columns
from uvlm.evaluation.score_page import number
from uvlm.evaluation.scores import bleu_samples, other_protocols, report_scores
from uvlm.evaluation.sentence_bank import learn_sentences, split_sentences
from uvlm.files import write_text_atomic
from uvlm.text.abnormalities import ABNORMALITIES

OUT: Final = Path("reports/constant_reports.md")
LABELLER: Final = "rules"
SAMPLES: Final = 1000
NUM_SENTENCES: Final = 24
LENGTHS: Final = (8, 12, 16, 20, 24, 28, 32, 36, 40)
ABNORMALITY_METRICS: Final = {
    "macro_f1": "macro-F1",
    "weighted_f1": "weighted F1",
    "micro_f1": "micro-F1",
    "macro_precision": "precision",
    "macro_recall": "recall",
    "crg": "CRG",
}
TEXT_METRICS: Final = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "bleu_mean": "BLEU-mean",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
    "sacrebleu_13a": "sacrebleu 13a",
}
_NAMES: Final = {
    "constant_fixed": f"constant, the {NUM_SENTENCES} most frequent normal sentences",
    "constant_crossed": "constant, length chosen on the other half of these references",
    "constant_normal": "constant, all normal, length chosen on training reports",
    "constant_abnormal": "constant, everything abnormal",
    "most_frequent": "most frequent training report",
    "random": "another training report for each",
    **{f"references_{limit}": f"the references cut to {limit} words" for limit in LENGTH_LIMITS},
    "references": "the references themselves",
}


def main() -> None:
    """Score the trivial reports and write the page."""
    folder = REAL_DATA.needed("set it to the folder of CT-RATE's reports")
    write_text_atomic(OUT, page(folder / "reports"))


def page(reports: Path) -> str:
    """Score the trivial reports and write them up.

    Args:
        reports: folder of ct_rate_validation_reports.csv and ct_rate_reports_labelled.csv.
    """
    request = ScoreRequest(
        references=reports / "ct_rate_validation_reports.csv",
        predictions=reports / "ct_rate_validation_reports.csv",
        labeller=LABELLER,
        samples=SAMPLES,
    )
    label = TextLabels(get_labeller(LABELLER))
    reference = read_reference(request, label)
    training = read_training(
        reports / "ct_rate_reports_labelled.csv", Columns(), ABNORMALITIES, label
    )
    written = baseline_reports(training, reference.case_ids, label, request.seed)
    found = {name: (texts, label(texts)) for name, texts in written.items()}
    constants = _by_length(training, label)
    fixed = [constants[NUM_SENTENCES]] * len(reference.case_ids)
    found["constant_fixed"] = (fixed, label(fixed))
    crossed = cross_fitted(reference, constants)
    found["constant_crossed"] = (crossed, label(crossed))
    for limit in LENGTH_LIMITS:
        cut = cut_to(reference.texts, limit)
        found[f"references_{limit}"] = (cut, label(cut))
    found["references"] = ([*reference.texts], label(reference.texts))
    scores, protocols, lengths = {}, {}, {}
    for name in _NAMES:
        texts, claims = found[name]
        scores[name] = report_scores(reference, texts, claims)
        protocols[name] = {HEADLINE: scores[name], **other_protocols(reference, texts)}
        lengths[name] = len(split_sentences(texts[0])) if len(set(texts)) == 1 else None
    blocks = (
        ["# What constant reports score on CT-RATE's validation reports"],
        [_origin(reference, training)],
        _table(scores, ABNORMALITY_METRICS),
        [
            f"BLEU by pycocoevalcap, ROUGE-L and CIDEr under the protocol `{HEADLINE}`; sacrebleu "
            "cuts its own words."
        ],
        _table(scores, TEXT_METRICS),
        ["BLEU-mean under every protocol; docs/evaluation.md says what they are."],
        _protocol_table(protocols, lengths),
        [
            "How much the length alone decides: BLEU of the constant report of the k most frequent "
            "normal sentences."
        ],
        _length_table(reference, constants),
    )
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _by_length(training: TrainingReports, label: TextLabels) -> dict[int, str]:
    """Write the report of the k most frequent sentences without a claim, for several k."""
    bank = learn_sentences(training.reports, training.labels, label)
    nothing = np.zeros(training.labels.shape[1], dtype=bool)
    return {k: bank.most_frequent(nothing, k) for k in LENGTHS}


def cross_fitted(reference: Reference, constants: Mapping[int, str]) -> list[str]:
    """Give every case the constant whose length scores best on the other half of the patients."""
    half_by_patient = {p: n % 2 for n, p in enumerate(sorted(set(reference.patient_ids)))}
    halves = np.array([half_by_patient[patient] for patient in reference.patient_ids])
    size = len(reference.texts)
    counts = {k: bleu_counts(reference.texts, [text] * size) for k, text in constants.items()}

    def best_without(half: int) -> int:
        others = halves != half
        scores = {k: bleu_scores(count[others].sum(axis=0)) for k, count in counts.items()}
        return max(scores, key=lambda k: float(scores[k]["bleu_mean"]))

    chosen = [best_without(half) for half in (0, 1)]
    return [constants[chosen[half]] for half in halves]


def _origin(reference: Reference, training: TrainingReports) -> str:
    num_judges, size = len(training.validation), reference.size(0)
    words = [
        sum(len(text.split()) for text in texts) / len(texts)
        for texts in (reference.texts, [report.text for report in training.reports])
    ]
    return (
        f"Made by `make constant-reports` from {size['n']:,} reference reports of "
        f"{size['n_patients']:,} patients. Labels of references and of constant reports are read "
        f"by the labeller `{LABELLER}`; sentences are learned from "
        f"{len(training.reports) + num_judges} labelled training reports, of which {num_judges} "
        f"choose among constants. Those are longer ({words[1]:.0f} words on average) than the "
        f"references ({words[0]:.0f}), so the length that they choose is too long here; the length "
        "that fits these references is chosen on one half of the patients and scored on the other, "
        f"in turn, and the row of {NUM_SENTENCES} sentences has the best length in hindsight. 95 % "
        f"intervals in brackets from {SAMPLES:,} bootstrap samples of patients, seed 0. "
        "**No row has looked at an image.**"
    )


def _table(scores: Mapping[str, Mapping[str, Any]], metrics: Mapping[str, str]) -> list[str]:
    lines = [
        f"| reports | {' | '.join(metrics.values())} |",
        "|---|" + "---:|" * len(metrics),
    ]
    for name, row in scores.items():
        cells = " | ".join(number(row, metric) for metric in metrics)
        lines.append(f"| {_NAMES[name]} | {cells} |")
    return lines


def _protocol_table(
    protocols: Mapping[str, Mapping[str, Mapping[str, Any]]], lengths: Mapping[str, int | None]
) -> list[str]:
    columns = list(protocols["random"])
    lines = [f"| reports | sentences | {' | '.join(columns)} |", "|---|---:|" + "---:|" * 3]
    for name, by_protocol in protocols.items():
        cells = " | ".join(number(by_protocol[column], "bleu_mean") for column in columns)
        lines.append(f"| {_NAMES[name]} | {lengths[name] or ''} | {cells} |")
    return lines


def _length_table(reference: Reference, constants: Mapping[int, str]) -> list[str]:
    metrics = [metric for metric in TEXT_METRICS if metric.startswith("bleu")]
    titles = " | ".join(TEXT_METRICS[metric] for metric in metrics)
    lines = [f"| k | words | {titles} |", "|---:|---:|" + "---:|" * len(metrics)]
    for k, text in constants.items():
        texts = [text] * len(reference.texts)
        row = with_intervals(bleu_samples(reference, texts))
        cells = " | ".join(number(row, metric) for metric in metrics)
        lines.append(f"| {k} | {len(text.split())} | {cells} |")
    return lines


if __name__ == "__main__":
    try:
        main()
    except UvlmError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)

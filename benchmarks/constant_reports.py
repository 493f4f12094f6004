"""What constant reports score on CT-RATE's 1,564 validation reports.

    UVLM_REAL_DATA=FOLDER python -m benchmarks.constant_reports     (make constant-reports)

Sentences and labels are learned from the 800 reports that CT-RATE's authors labelled by hand: every
fourth chooses among constants, the others are counted. Nothing here looks at an image. The page
holds numbers, no sentence of a report. CT-RATE is licensed CC BY-NC-SA 4.0.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from uvlm.errors import SetupError
from uvlm.evaluation.baselines import TRIVIAL, baseline_claims
from uvlm.evaluation.labeller import get_labeller
from uvlm.evaluation.reference import TextLabels
from uvlm.evaluation.score import ScoreRequest, read_reference, read_training
from uvlm.evaluation.score_inputs import Columns
from uvlm.evaluation.score_page import number
from uvlm.evaluation.sentence_bank import split_sentences
from uvlm.store import write_text_atomic
from uvlm.text.abnormalities import ABNORMALITIES

OUT: Final = Path("reports/constant_reports.md")
LABELLER: Final = "rules"
SAMPLES: Final = 1000
ABNORMALITY_METRICS: Final = {
    "macro_f1": "macro-F1",
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
    "constant_normal": "constant, all normal",
    "constant_abnormal": "constant, everything abnormal",
    "most_frequent": "most frequent training report",
    "random": "another training report for each",
    "references": "the references themselves",
}


def main() -> None:
    """Score the trivial reports and write the page."""
    folder = os.environ.get("UVLM_REAL_DATA")
    if not folder:
        raise SetupError("UVLM_REAL_DATA", "is not set", "name the folder of CT-RATE's reports")
    reports = Path(folder) / "reports"
    write_text_atomic(OUT, page(reports))


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
    found = baseline_claims(training, reference.case_ids, label, request.seed)
    found["references"] = ([*reference.texts], label(reference.texts))
    scores, protocols, lengths = {}, {}, {}
    for name in (*TRIVIAL, "references"):
        texts, claims = found[name]
        scores[name] = reference.report_scores(texts, claims)
        protocols[name] = {"official": scores[name], **reference.other_protocols(texts)}
        lengths[name] = len(split_sentences(texts[0])) if len(set(texts)) == 1 else None
    size = reference.size(0)
    num_judges = len(training.validation)
    return "\n".join(
        [
            "# What constant reports score on CT-RATE's validation reports",
            "",
            f"Made by `make constant-reports` from {size['n']:,} reference reports of "
            f"{size['n_patients']:,} patients. Labels of references and of constant reports are "
            f"read by the labeller `{LABELLER}`; sentences are learned from "
            f"{len(training.reports) + num_judges} labelled training reports, of which "
            f"{num_judges} choose among constants. 95 % intervals in brackets from {SAMPLES:,} "
            "bootstrap samples of patients, seed 0. **No row has looked at an image.**",
            "",
            *_table(scores, ABNORMALITY_METRICS),
            "",
            "BLEU by pycocoevalcap, ROUGE-L and CIDEr under the protocol `official`; sacrebleu "
            "cuts its own words.",
            "",
            *_table(scores, TEXT_METRICS),
            "",
            "BLEU-mean under every protocol; docs/evaluation.md says what they are.",
            "",
            *_protocol_table(protocols, lengths),
            "",
        ]
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


if __name__ == "__main__":
    main()

"""The numbers of the summary page, arranged as its tables show them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from uvlm.config import TRIVIAL
from uvlm.data.cases import SPLITS, Case
from uvlm.pages.remarks import plural

_DASH: Final = "\u2013"
Columns = tuple[tuple[str, str], ...]
CLAIM_COLUMNS: Final[Columns] = (
    ("macro_f1", "F1"), ("macro_precision", "Precision"), ("macro_recall", "Recall"),
    ("crg", "CRG"), ("distinct_share", "Distinct"), ("most_common_share", "Most common"),
)  # fmt: skip
TEXT_COLUMNS: Final[Columns] = (
    ("bleu_mean", "BLEU-mean"),
    ("bleu_1", "B-1"), ("bleu_2", "B-2"), ("bleu_3", "B-3"), ("bleu_4", "B-4"),
    ("sacrebleu_13a", "sacreBLEU"), ("rouge_l", "ROUGE-L"), ("cider", "CIDEr"),
)  # fmt: skip
CLASSIFIER_COLUMNS: Final[Columns] = (
    ("macro_f1", "F1 at 0.5"), ("macro_precision", "Precision at 0.5"),
    ("macro_recall", "Recall at 0.5"), ("crg", "CRG at 0.5"),
    ("macro_f1_tuned", "F1, tuned thresholds"), ("macro_auroc", "AUROC"), ("macro_auprc", "AUPRC"),
)  # fmt: skip
CLASS_COLUMNS: Final[Columns] = (
    ("report_precision", "Report P"), ("report_recall", "Report R"), ("report_f1", "Report F1"),
    ("cls_f1_tuned", "Classifier F1"), ("cls_auroc", "AUROC"), ("cls_auprc", "AUPRC"),
)  # fmt: skip
_BLEU_COLUMNS: Final[Columns] = TEXT_COLUMNS[:5]
_BASELINE_LABELS: Final = {
    "constant_normal": "Constant report, all normal",
    "constant_abnormal": "Constant report, everything abnormal",
    "most_frequent": "Most frequent training report",
    "random": "Random training report",
    "nearest": "Report of the nearest training case",
    "classifier_sentences": "Classifier decisions as sentences",
}
_HEADLINES: Final = (
    ("report.macro_f1", "Report macro-F1"),
    ("report.above_trivial", "Above best trivial baseline"),
    ("report.bleu_mean", "Report BLEU-mean"),
    ("cls.macro_auroc", "Classifier macro-AUROC"),
    ("cls.macro_f1_tuned", "Classifier macro-F1"),
    ("seg.dice", "Dice, anatomy"),
    ("seg.lesion_dice", "Dice, lesions"),
    ("oracle.macro_f1", "Oracle macro-F1"),
)


@dataclass(frozen=True)
class Number:
    """A value with its 95 % interval; None where it is undefined."""

    value: float | None
    interval: tuple[float, float] | None = None

    @property
    def text(self) -> str:
        """The value with three decimals, or a dash."""
        return _DASH if self.value is None else f"{self.value:.3f}"

    @property
    def range(self) -> str:
        """The interval with two decimals, or nothing."""
        if not self.interval:
            return ""
        low, high = self.interval
        between = " to " if low < 0 else _DASH  # a dash beside a minus cannot be read
        return f"{low:.2f}{between}{high:.2f}"


@dataclass(frozen=True)
class Headline:
    """One number at the top of the page, with its goal if the run has one."""

    label: str
    number: Number
    goal: float | None

    @property
    def is_reached(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        if self.goal is None or self.number.value is None:
            return None
        return self.number.value >= self.goal


@dataclass(frozen=True)
class ScoreRow:
    """One way to write reports and its scores, in the order of the table's columns."""

    label: str
    kind: str  # ours | ceiling | trivial | informed
    numbers: tuple[Number, ...]


@dataclass(frozen=True)
class ScoreTable:
    """Rows under a title; `columns` name their numbers."""

    title: str
    columns: tuple[str, ...]
    rows: list[ScoreRow]


def number_at(scores: Mapping[str, Any], name: str) -> Number:
    """Look up a number and its interval in a flat dictionary of metrics."""
    interval = scores.get(f"{name}_ci")
    return Number(scores.get(name), (interval[0], interval[1]) if interval else None)


def headlines(metrics: Mapping[str, Any], goals: Mapping[str, float]) -> list[Headline]:
    """Pick the numbers a reader looks for first; `goals` holds minima by dotted name.

    A number whose section is not there is left out.
    """
    keys = ((name.split("."), name, label) for name, label in _HEADLINES)
    return [
        Headline(label, number_at(metrics[section], key), goals.get(name))
        for (section, key), name, label in keys
        if metrics[section] and "not_computed" not in metrics[section]
    ]


def score_tables(metrics: Mapping[str, Any]) -> list[ScoreTable]:
    """Make two tables of the reports: what they claim, and how close their words are.

    Both list the model and every baseline, the first also the ceiling.
    """
    protocol = metrics["protocol"]
    ours = [("This model", "ours", metrics["report"])]
    for name, scores in metrics["baselines"].items():
        kind = "trivial" if name in TRIVIAL else "informed"
        ours.append((_BASELINE_LABELS[name], kind, scores))
    ceiling = ("Reference reports (labeller's ceiling)", "ceiling", metrics["oracle"])
    claims = f"Abnormalities claimed, as read by the labeller {protocol['labeller']}"
    words = f"Text metrics; BLEU, ROUGE-L and CIDEr by protocol {protocol['bleu']}"
    return [
        _score_table(claims, CLAIM_COLUMNS, [*ours, ceiling]),
        _score_table(words, TEXT_COLUMNS, ours),
    ]


def bleu_table(metrics: Mapping[str, Any]) -> ScoreTable:
    """Show how the cleaning protocol changes the model's BLEU."""
    report = metrics["report"]
    protocols = {f"{metrics['protocol']['bleu']} (headline)": report, **report["other_protocols"]}
    rows = [(name, "trivial", scores) for name, scores in protocols.items()]
    return _score_table("BLEU of this model by cleaning protocol", _BLEU_COLUMNS, rows)


def _score_table(
    title: str, columns: Columns, rows: Sequence[tuple[str, str, Mapping[str, Any]]]
) -> ScoreTable:
    lines = [
        ScoreRow(label, kind, tuple(number_at(scores, key) for key, _ in columns))
        for label, kind, scores in rows
    ]
    return ScoreTable(title, tuple(label for _, label in columns), lines)


def classifier_numbers(metrics: Mapping[str, Any]) -> list[tuple[str, Number]]:
    """List the classifier's numbers; none without a classifier."""
    if not metrics["cls"]:
        return []
    return [(label, number_at(metrics["cls"], key)) for key, label in CLASSIFIER_COLUMNS]


def meteor_line(report: Mapping[str, Any]) -> str:
    """Report METEOR, or why it was not computed."""
    meteor = report["meteor"]
    if reason := meteor.get("not_computed"):
        return f"METEOR: not computed ({reason})."
    each = number_at(meteor, "mean_over_reports")
    corpus = number_at(meteor, "corpus").text
    return f"METEOR of this model: {corpus}; mean over reports {each.text} ({each.range})."


def collapse_rows(audit: Mapping[str, Any], *, can_swap: bool = True) -> list[tuple[str, str, str]]:
    """List what the collapse audit found: title, the model, the reference reports.

    Args:
        audit: metrics.json's section.
        can_swap: whether another patient's CT is there to swap with.
    """
    distinct, copied, swapped = audit["distinct"], audit["memorised"], audit["image_shuffle"]
    rows = [
        (title, f"{section[key]:{form}}", f"{section[f'reference_{key}']:{form}}")
        for title, section, key, form in (
            ("different reports", distinct, "reports", ",d"),
            ("different sentences", distinct, "sentences", ",d"),
            ("4-grams that are different", distinct, "share_of_4_grams", ".3f"),
            ("reports verbatim from training", copied, "report_share", ".3f"),
            ("sentences verbatim from training", copied, "sentence_share", ".3f"),
            ("reports with 50 words in a row from training", copied, "long_copy_share", ".3f"),
        )
    ]
    rare = audit["rare"]
    count, positive = len(rare["names"]), rare["n_positive"]
    of_them = "" if positive == count else f", {positive} of them with a positive test scan"
    rarest = f"recall of the rarest third of the abnormalities ({plural(count, 'class')}{of_them})"
    swapped = swapped if can_swap else {}
    measured = (
        (rarest, rare, "macro_recall"),
        ("macro-F1 when every CT is another patient's", swapped, "macro_f1"),
        ("macro-F1 lost by that", swapped, "macro_f1_lost"),
        ("reports that change with the CT", swapped, "changed_share"),
    )
    for title, scores, key in measured:
        found = number_at(scores, key)
        rows.append((title, f"{found.text} ({found.range})" if found.range else found.text, ""))
    return rows


def class_numbers(row: Mapping[str, Any]) -> list[Number]:
    """List the scores of one abnormality in the order of CLASS_COLUMNS.

    None is defined without a positive scan; the zeros that stand for them in macro values would
    read as failures.
    """
    return [number_at(row, key) if row["support"] else Number(None) for key, _ in CLASS_COLUMNS]


def count_splits(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Count the cases, scans and patients of each split."""
    columns = {"cases": "case_id", "scans": "scan_id", "patients": "patient_id"}
    return [
        {"split": split}
        | {
            column: len({getattr(case, key) for case in cases if case.split == split})
            for column, key in columns.items()
        }
        for split in SPLITS
    ]


def positives_by_split(cases: Sequence[Case], number: int) -> dict[str, int]:
    """Count the scans of each split that show abnormality `number`, whatever is made of them."""
    positive = {case.scan_id: case.split for case in cases if case.abnormalities[number]}
    found = Counter(positive.values())
    return {split: found[split] for split in SPLITS}

"""Our report metrics for `mlflow.evaluate` and `mlflow.genai.evaluate`, on anybody's table.

    mlflow.models.evaluate(
        data=table, predictions="report", targets="reference", extra_metrics=report_metrics()
    )
    mlflow.genai.evaluate(data=rows, scorers=report_scorers())

The first gives the numbers of `uvlm score`: corpus BLEU-mean, ROUGE-L, and F1, precision, recall
and CRG over abnormalities, each with its 95 % interval, every row a patient of its own. The second
gives a value for each row: `outputs` is the report, `expectations` has `report`, the reference. All
is plain Python; nothing is asked of a network or a language model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from uvlm.evaluation.bleu import bleu_counts, bleu_scores
from uvlm.evaluation.bootstrap import Samples, draw_resamples, with_interval
from uvlm.evaluation.labeller import get_labeller
from uvlm.evaluation.reference import Reference, TextLabels
from uvlm.evaluation.scores import report_samples
from uvlm.evaluation.text_metrics import rouge_l
from uvlm.seeding import generator
from uvlm.text.abnormalities import ABNORMALITIES

if TYPE_CHECKING:
    from mlflow.genai.scorers import Scorer
    from mlflow.metrics.base import MetricValue
    from mlflow.models import EvaluationMetric

METRICS: Final = ("macro_f1", "macro_precision", "macro_recall", "crg", "bleu_mean", "rouge_l")
_SAMPLES: Final = 1000


def report_metrics(labeller: str = "rules", samples: int = _SAMPLES) -> list[EvaluationMetric]:
    """Make the metrics for `mlflow.models.evaluate`.

    Args:
        labeller: reads abnormalities out of reports, as `uvlm label` does.
        samples: of the bootstrap; 0 for no intervals.
    """
    from mlflow.models import make_metric

    return [
        make_metric(  # type: ignore[no-untyped-call]
            eval_fn=_function(name, labeller, samples),
            greater_is_better=True,
            name=f"report_{name}",
        )
        for name in METRICS
    ]


def report_scorers(labeller: str = "rules") -> list[Scorer]:
    """Make the scorers for `mlflow.genai.evaluate`, one value for each row."""
    from mlflow.genai.scorers import scorer

    # MLflow reads the names of the arguments, and the name of a scorer is that of its function.
    @scorer
    def report_bleu_mean(outputs: str, expectations: dict[str, Any]) -> float:
        return float(bleu_scores(bleu_counts([_wanted(expectations)], [outputs])[0])["bleu_mean"])

    @scorer
    def report_rouge_l(outputs: str, expectations: dict[str, Any]) -> float:
        return float(rouge_l([_wanted(expectations)], [outputs])[0])

    @scorer
    def report_f1(outputs: str, expectations: dict[str, Any]) -> float:
        return claimed_f1(_wanted(expectations), outputs, labeller)

    return [report_bleu_mean, report_rouge_l, report_f1]


def claimed_f1(reference: str, report: str, labeller: str) -> float:
    """F1 of the abnormalities that a report claims; 1 where neither text claims any."""
    wanted, claimed = get_labeller(labeller).label([reference, report]).astype(bool)
    total = int(wanted.sum() + claimed.sum())
    return 2 * int((wanted & claimed).sum()) / total if total else 1.0


def _wanted(expectations: dict[str, Any]) -> str:
    return str(expectations["report"])


def _function(name: str, labeller: str, samples: int) -> Callable[..., MetricValue]:
    """Make a function that scores a column of reports; MLflow fills in arguments by their names."""
    from mlflow.metrics.base import MetricValue

    def evaluate(predictions: Any, targets: Any, metrics: Any) -> MetricValue:
        texts = (tuple(map(str, column)) for column in (targets, predictions))
        found = with_interval("value", _samples(*texts, labeller, samples)[name])
        value, interval = found["value"], found.get("value_ci")
        numbers = {"value": value} if isinstance(value, float) else {}
        if isinstance(interval, list):
            numbers |= {"low": interval[0], "high": interval[1]}
        return MetricValue(aggregate_results=numbers)

    return evaluate


@lru_cache(maxsize=1)  # every metric asks for the same texts
def _samples(
    references: Sequence[str], reports: Sequence[str], labeller: str, samples: int
) -> Samples:
    label = TextLabels(get_labeller(labeller))
    ids = tuple(f"{number:08}" for number in range(len(references)))
    resamples = draw_resamples(ids, samples, generator(0, "score", "bootstrap"))
    truth = np.asarray(label.of_people(references))
    reference = Reference(ids, ids, tuple(references), tuple(ABNORMALITIES), truth, resamples)
    return report_samples(reference, reports, reference.claims(reports, label))

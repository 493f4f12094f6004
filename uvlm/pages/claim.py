"""The 42 items of CLAIM, the checklist for papers about AI in medical imaging, for one run.

Numbered as in its edition of 2020 (Mongan, Moy, Kahn); the topics are in our words. An item is
`filled` with what the files of a run say, `partly` filled, or left to the `authors`, because no
file knows it. Its revision of 2024 has the same topics in a slightly different order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from uvlm.config import SYNTHETIC
from uvlm.pages.tables import number_at

State = Literal["filled", "partly", "authors"]
CLAIM_COLUMNS: Final = ("item", "topic", "state", "draft")


class ClaimItem(NamedTuple):
    """One item of the checklist; `text` is the draft of its answer."""

    number: int
    topic: str
    state: State
    text: str


@dataclass(frozen=True)
class ClaimFacts:
    """What a run knows.

    Args:
        source: of its data.
        metrics: of the test split.
        splits: counts of cases, scans and patients.
        licence: of the weights.
        facts: versions, commit and the like.
    """

    source: str
    metrics: Mapping[str, Any]
    splits: Sequence[Mapping[str, Any]]
    licence: str
    facts: Mapping[str, str]

    @property
    def data(self) -> str:
        """What the CTs are."""
        kind = "synthetic phantoms, no patient's" if self.source in SYNTHETIC else "patients' CTs"
        return f"Source {self.source}: {kind}."

    @property
    def sizes(self) -> str:
        """The splits in words."""
        told = (
            f"{row['split']} {row['patients']:,} patients, {row['scans']:,} scans"
            for row in self.splits
        )
        return f"{'; '.join(told)}."

    @property
    def score(self) -> str:
        """The first number of the reports."""
        found = number_at(self.metrics["report"], "macro_f1")
        return f"Report macro-F1 {found.text} ({found.range}), n = {self.metrics['n']:,} scans."


def claim_items(facts: ClaimFacts) -> list[ClaimItem]:
    """Draft every item, in the order of the checklist."""
    drafts = [*_opening(facts), *_data(facts), *_model(), *_evaluation(facts), *_rest(facts)]
    return [ClaimItem(number, *draft) for number, draft in enumerate(drafts, start=1)]


Draft = tuple[str, State, str]


def _open(topic: str) -> Draft:
    return topic, "authors", ""


def _opening(facts: ClaimFacts) -> list[Draft]:
    """Items 1 to 6: title, abstract, introduction, design."""
    return [
        ("Title names AI and its kind", "partly", "3D vision-language model, deep learning."),
        _open("Structured abstract"),
        ("Background and clinical role", "partly", "Intended use: see the model card."),
        _open("Aims and hypotheses"),
        ("Prospective or retrospective", "partly", f"Retrospective use of files. {facts.data}"),
        ("Goal of the study", "partly", "Creation of a model: drafts of reports from 3D CT."),
    ]


def _data(facts: ClaimFacts) -> list[Draft]:
    """Items 7 to 21: data, reference standard, partitions."""
    protocol, kept = facts.metrics["protocol"], "Counted row by row in reports/index.json."
    patients = "Split by patient; reports/audit.json searches for the same images and patients."
    return [
        ("Sources of data", "filled", f"{facts.data} Digests: data/manifests/."),
        ("Who was included", "partly", f"What was left out, with reasons: {kept}"),
        ("Preparation of images", "filled", "contract.json in the model folder; params.yaml."),
        ("Subsets of data", "filled", "Parameters download and index in params.yaml."),
        ("Definitions of data elements", "filled", "Abnormalities and classes: config.json."),
        _open("De-identification before the data came here"),
        ("Missing data", "filled", f"{kept} A scan without a report: "
         f"{protocol['missing_prediction']}."),
        ("Reference standard", "partly", "Table of labels, reference reports, label maps; each is "
         "described in docs/evaluation.md and docs/label_maps.md."),
        _open("Why this reference standard"),
        ("Who made the annotations", "partly", "Backends of pseudo-labels: see the model card. "
         f"Labeller of reports: {protocol['labeller']}."),
        _open("Tools of annotation"),
        _open("Variability of annotators"),
        ("Size of the sample", "partly", f"{facts.sizes} No power calculation was made."),
        ("Partitions", "filled", facts.sizes),
        ("Level at which partitions are disjoint", "filled", patients),
    ]  # fmt: skip


def _model() -> list[Draft]:
    """Items 22 to 27: model and training."""
    return [
        ("Model, with all layers", "filled", "config.json; docs/faithfulness.md; uvlm/model/."),
        ("Software and versions", "filled", "constraints.txt; versions in the model card."),
        ("Initial weights", "filled", "Ingredients of the licence in the model card."),
        ("Training, augmentation, hyperparameters", "filled", "params.yaml; docs/training.md."),
        ("Choice of the final model", "filled", "Best score on validation; test was not used."),
        ("Ensembles", "filled", "None."),
    ]


def _evaluation(facts: ClaimFacts) -> list[Draft]:
    """Items 28 to 32: metrics and how sure they are."""
    samples = facts.metrics["protocol"]["bootstrap_samples"]
    return [
        ("Metrics", "filled", "reports/metrics.json; each is defined in docs/evaluation.md."),
        ("Uncertainty", "filled", f"95 % intervals, {samples:,} bootstrap samples of patients."),
        ("Robustness", "partly", "Collapse audit: the CT of another patient, copied sentences. "
         "Not measured: other scanners, other hospitals."),
        ("Explanations", "partly", "Evidence page and its test by removal: docs/evidence.md."),
        _open("Validation on external data (none was done in this run)"),
    ]  # fmt: skip


def _rest(facts: ClaimFacts) -> list[Draft]:
    """Items 33 to 42: results, discussion, other."""
    commit = facts.facts.get("git.commit", "none")
    return [
        ("Flow of participants", "filled", "Rows in, rows kept: table in the model card."),
        _open("Demographics and clinical features by partition"),
        ("Performance", "filled", facts.score),
        ("Accuracy with its precision", "filled", "By abnormality: reports/per_class.json."),
        ("Failures", "partly", "Known failures: model card. Cases were not read by radiologists."),
        ("Limits of the study", "partly", "Not measured, and known failures: model card."),
        _open("What follows for practice"),
        _open("Registration"),
        ("Where protocol, code and weights are", "partly", f"Code: commit {commit}. Licence of the "
         f"weights: {facts.licence}."),
        _open("Funding and its role"),
    ]  # fmt: skip

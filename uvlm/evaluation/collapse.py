"""Collapse audit: whether a model writes about the CT or the same for everybody.

    distinct      reports, sentences and n-grams that occur, beside the references'
    rare          recall of the third of the abnormalities that training shows least
    memorised     what is copied from training reports word for word, beside the references' share
    image_shuffle every report scored as if it had been written for another patient's CT

Without a text prompt a report depends on the CT alone, so swapping CTs swaps reports, and the
shuffle needs no second run of the model. A model that looks at the image loses all that it has over
a random report; one that has collapsed loses nothing.

N cases, A abnormalities.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np

from uvlm.arrays import Flags
from uvlm.evaluation.bootstrap import Resamples, with_interval, with_intervals
from uvlm.evaluation.reference import Reference, TextLabels
from uvlm.evaluation.scores import bleu_samples, label_samples, per_class_samples
from uvlm.evaluation.sentence_bank import split_sentences
from uvlm.seeding import generator

COPIED_WORDS: Final = 50  # a run of this many equal words is a copy, not a coincidence
RARE_SHARE: Final = 1 / 3


def collapse_audit(
    reference: Reference,
    texts: Sequence[str],
    claimed: Flags,
    label: TextLabels,
    training: tuple[Iterable[str], Flags],
    seed: int,
) -> dict[str, Any]:
    """Audit N reports.

    Args:
        reference: what they were written for.
        texts: the N reports.
        claimed: (N, A) what they claim.
        label: reads abnormalities out of texts.
        training: texts and (M, A) labels of the training split.
        seed: of the shuffle.
    """
    known, training_labels = set(training[0]), training[1]

    def beside(audit: Callable[[Sequence[str]], dict[str, Any]]) -> dict[str, Any]:
        """Audit the reports, and the references for comparison."""
        of_references = audit(reference.texts)
        return {**audit(texts), **{f"reference_{k}": v for k, v in of_references.items()}}

    return {
        "distinct": beside(variety),
        "rare": rare_recall(reference, claimed, training_labels),
        "memorised": beside(lambda reports: copied(reports, known, reference.resamples)),
        "image_shuffle": image_shuffle(reference, texts, claimed, label, seed),
    }


def variety(texts: Sequence[str]) -> dict[str, Any]:
    """Count different reports, sentences, and word n-grams as a share of those written."""
    sentences = [sentence for text in texts for sentence in split_sentences(text)]
    numbers: dict[str, Any] = {"reports": len(set(texts)), "sentences": len(set(sentences))}
    for order in (2, 4):
        grams = [gram for text in texts for gram in _ngrams(text.split(), order)]
        numbers[f"share_of_{order}_grams"] = round(len(set(grams)) / max(len(grams), 1), 6)
    return numbers


def rare_recall(reference: Reference, claimed: Flags, training_labels: Flags) -> dict[str, Any]:
    """Macro recall of the rarest third of the abnormalities, by training prevalence."""
    prevalence = training_labels.mean(axis=0)
    count = max(round(len(reference.names) * RARE_SHARE), 1)
    rare = np.sort(np.argsort(prevalence, kind="stable")[:count])  # in the order of the columns
    samples = per_class_samples(reference.labels, claimed, reference.resamples)
    return {
        "names": [reference.names[number] for number in rare],
        "support": int(reference.labels[:, rare].sum()),
        "n_positive": int(reference.labels[:, rare].any(axis=0).sum()),
        **with_interval("macro_recall", samples["recall"][:, rare].mean(axis=1)),
    }


def copied(texts: Sequence[str], training: Iterable[str], resamples: Resamples) -> dict[str, Any]:
    """Shares of reports and of sentences that occur in training verbatim.

    A long copy is a report with COPIED_WORDS words in a row that a training report has, too.
    """
    whole, sentences = set(training), {s for text in training for s in split_sentences(text)}
    written = [split_sentences(text) for text in texts]
    known_sentences = np.array([sum(s in sentences for s in report) for report in written])
    num_sentences = resamples.sums(np.array([len(report) for report in written]))
    runs = [set(_ngrams(text.split(), COPIED_WORDS)) for text in texts]
    # The runs of all training reports would not fit in memory; those that occur here do.
    wanted = set().union(*runs)
    known = (run for text in training for run in _ngrams(text.split(), COPIED_WORDS))
    found = {run for run in known if run in wanted}
    verbatim = np.array([float(text in whole) for text in texts])
    long_copy = np.array([float(not found.isdisjoint(run)) for run in runs])
    of_sentences = resamples.sums(known_sentences) / np.maximum(num_sentences, 1)
    shares = {"report_share": resamples.means(verbatim), "sentence_share": of_sentences}
    return with_intervals(shares | {"long_copy_share": resamples.means(long_copy)})


def image_shuffle(
    reference: Reference, texts: Sequence[str], claimed: Flags, label: TextLabels, seed: int
) -> dict[str, Any]:
    """Score each report as that of another patient's CT."""
    partners = other_patients(reference.patient_ids, seed)
    swapped = [texts[partner] for partner in partners]
    own = label_samples(reference, claimed)["macro_f1"]
    theirs = label_samples(reference, reference.claims(swapped, label))["macro_f1"]
    changed = np.array([float(a != b) for a, b in zip(texts, swapped, strict=True)])
    return with_intervals(
        {
            "changed_share": reference.resamples.means(changed),
            "macro_f1": theirs,
            "macro_f1_lost": own - theirs,
            "bleu_mean": bleu_samples(reference, swapped)["bleu_mean"],
        }
    )


def other_patients(patient_ids: Sequence[str], seed: int) -> list[int]:
    """Pair every case with a case of another patient; returns indices, none of them twice.

    Cases stand in a circle, patient by patient in random order, and every case takes the one `step`
    places on, where `step` is the most cases that a patient has. Only a patient with more than half
    of all cases can meet himself.
    """
    patients = sorted(set(patient_ids))
    place = generator(seed, "image shuffle").permutation(len(patients))
    place_of = dict(zip(patients, place.tolist(), strict=True))
    circle = sorted(range(len(patient_ids)), key=lambda case: (place_of[patient_ids[case]], case))
    step = max(Counter(patient_ids).values())
    partner = dict(zip(circle, circle[step:] + circle[:step], strict=True))
    return [partner[case] for case in range(len(patient_ids))]


def _ngrams(words: Sequence[str], order: int) -> Iterator[tuple[str, ...]]:
    return (tuple(words[i : i + order]) for i in range(len(words) - order + 1))

"""What a shift of the cues buys: precision and recall of the validation reports at each shift.

    n          validation scans
    points     for each shift: shift, macro_precision, macro_recall and macro_f1, with intervals

A point is chosen here and reported on the test split, never the other way round.

N scans, A abnormalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from uvlm.data.cases import Case
from uvlm.errors import DataError
from uvlm.evaluation.bootstrap import draw_resamples, with_intervals
from uvlm.evaluation.reference import Reference, TextLabels
from uvlm.evaluation.scores import label_samples
from uvlm.seeding import generator

_SHOWN: Final = ("macro_precision", "macro_recall", "macro_f1")


def operating_points(
    found: Mapping[float, Mapping[str, str]],
    cases: Sequence[Case],
    names: Sequence[str],
    label: TextLabels,
    samples: int,
    seed: int,
    path: Path,
) -> dict[str, Any]:
    """Score the reports of every shift.

    Args:
        found: by shift, the report of each validation scan.
        cases: the validation scans.
        names: the A abnormalities.
        label: reads abnormalities out of texts.
        samples: bootstrap samples of patients, the same for every shift.
        seed: of their draws.
        path: what an error names.
    """
    by_id = {case.case_id: case for case in cases}
    wanted = next(iter(found.values())).keys()
    if not wanted or wanted - by_id.keys() or any(r.keys() != wanted for r in found.values()):
        fact = "the shifted reports beside it are not of the validation split of the index"
        raise DataError(path, fact, "run `dvc repro generate`")
    scored = [by_id[case_id] for case_id in wanted]
    patients = tuple(case.patient_id for case in scored)
    reference = Reference(
        case_ids=tuple(wanted),
        patient_ids=patients,
        texts=tuple(case.report.text for case in scored),
        names=tuple(names),
        labels=np.asarray([case.abnormalities for case in scored]).astype(bool),
        resamples=draw_resamples(patients, samples, generator(seed, "evaluate", "shifts")),
    )
    points = []
    for shift, reports in found.items():
        texts = [reports[case_id] for case_id in wanted]
        values = label_samples(reference, reference.claims(texts, label))
        scores = with_intervals({name: values[name] for name in _SHOWN})
        points.append({"shift": shift, **scores})
    return {"n": len(scored), "points": points}

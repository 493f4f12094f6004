"""`uvlm evaluate`: what a finished model is worth on another data set. Nothing is trained.

    manifests/           what was downloaded, indexed, and prepared by the model's own contract
    predictions.jsonl    reports and probabilities of the set's test split
    mirrored.jsonl       the same of its CTs with left and right exchanged, if asked for
    references.csv       its reports and patients
    labels.csv           what is true of it
    training.csv         reports and labels of its training split, if any, for the baselines
    scores.json          all numbers, as `uvlm score` names them; with --cues see cue_control.py

Stages, params.yaml and data/ of the workspace stay as they are; arrays go to the common store, so
the same command is short when it is repeated. Thresholds and temperature come with the model, from
its own validation split. Masks are not compared: structures are named differently elsewhere.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from pipeline.cue_control import NOTES, check_control, control_evidence, named
from pipeline.profiles import compose
from uvlm.config import Params, parse_params
from uvlm.data.cases import Case, read_index, scored_cases
from uvlm.errors import ConfigError, DataError
from uvlm.files import write_json_atomic, write_text_atomic
from uvlm.inference.cue_controls import Control
from uvlm.text.abnormalities import abnormality_names
from uvlm.tracking import Progress

THRESHOLDS: Final = "thresholds.json"
PREDICTIONS: Final = "predictions.jsonl"
MIRRORED: Final = "mirrored.jsonl"
SCORES: Final = "scores.json"


@dataclass(frozen=True)
class Elsewhere:
    """A finished report model, the data it is scored on, and where all output goes.

    `params` are those of the profile, with the model's preprocessing.
    """

    model: Path
    params: Params
    names: tuple[str, ...]
    out: Path
    progress: Any = None
    mirrored: bool = False
    cues: Control = "own"

    @classmethod
    def of(
        cls,
        root: Path,
        model: Path,
        profile: str,
        out: Path,
        progress: Any = None,
        *,
        mirrored: bool = False,
        cues: Control = "own",
    ) -> Self:
        """Compose the profile; refuse what cannot be scored before any download."""
        from uvlm.inference.predictor import contract_of
        from uvlm.model.folder import read_config

        config = read_config(model, ("report",))
        check_control(cues, config, mirrored=mirrored)
        params = parse_params(compose(root, profile), f"conf/profile/{profile}.yaml")
        names = abnormality_names(params)
        known = tuple(getattr(config, "abnormalities", ()))
        if names != known:
            fact = f"has {len(names)} abnormalities from {names[0]} on"
            fact += f", the model {len(known)} from {known[0]} on"
            raise ConfigError(f"profile {profile}", fact, "choose data of the same abnormalities")
        prepared = params.model_copy(update={"preprocess": contract_of(model)})
        return cls(model, prepared, names, out, progress, mirrored, cues)

    @property
    def predictions(self) -> Path:
        """Name the file of reports by the cues that they were given."""
        return self.out / named(PREDICTIONS, self.cues)

    def manifest(self, name: str) -> Path:
        """Name the manifest that a step writes."""
        return self.out / "manifests" / f"{name}.jsonl"


def evaluate_elsewhere(request: Elsewhere) -> dict[str, Any]:
    """Make what is missing, describe the test split, and score it; returns scores.json."""
    cases = _read_cases(request)
    test = scored_cases(cases)
    if not test:
        raise DataError(request.params.profile, "no case in the test split", "see its quarantine")
    fitted = _refuse_fitted(request.model, test)
    _prepare(request, test)
    _describe(request)
    document = _score(request, test, [case for case in cases if case.split == "train"])
    document["elsewhere"] = {
        "model": str(request.model),
        "data": request.params.profile,
        "decoding": request.params.generate.model_dump(mode="json"),
        "fitted_on": fitted,
    }
    if request.mirrored:
        document["mirrored"] = _compare_mirrored(request)
    if request.cues != "own":
        document["cues"] = {"given": request.cues, "note": NOTES[request.cues]}
    write_json_atomic(request.out / named(SCORES, request.cues), document)
    return document


def _read_cases(request: Elsewhere) -> list[Case]:
    """Download and index the set, as the stages of these names do."""
    from uvlm.data.index import build
    from uvlm.data.sets.catalogue import choose_set

    params, downloaded = request.params, request.manifest("download")
    cases = None if request.progress is None else request.progress.cases
    label = partial(_flags, params.evaluate.labeller)
    choose_set(params).fetch(downloaded, label, cases)
    build(params, downloaded, request.manifest("index"), request.manifest("refused_by_index"))
    return read_index(request.manifest("index"))


def _flags(labeller: str, texts: Sequence[str]) -> Sequence[Sequence[int]]:
    """Label reports of a set whose tables have no labels."""
    from uvlm.evaluation.labeller import check_language_for, get_labeller

    reader = get_labeller(labeller)
    check_language_for(reader, texts)
    flags: list[list[int]] = reader.label(texts).tolist()
    return flags


def _prepare(request: Elsewhere, test: Sequence[Case]) -> None:
    """Bring the CTs of the test split onto the model's grid."""
    from uvlm.data.preprocess import Volumes
    from uvlm.store import every_case

    every_case.run(
        Volumes.of(request.params),
        test,
        request.manifest("preprocess"),
        request.params.index.max_quarantined_share,
        request.manifest("refused_by_preprocess"),
        None if request.progress is None else request.progress.cases,
    )


def _describe(request: Elsewhere) -> None:
    """Write predictions.jsonl, and mirrored.jsonl if that is asked for."""
    from uvlm.data.examples import read_examples
    from uvlm.evaluation.said import spans_of_model
    from uvlm.inference.describe import describe, ready_writer
    from uvlm.model.load import load_report_model
    from uvlm.text.predictions import write_predictions

    params = request.params
    manifests = request.manifest("index"), request.manifest("preprocess")
    examples = read_examples(*manifests, params.preprocess, "test")
    progress: Progress | None = request.progress

    def done(count: int) -> None:
        if progress is not None:
            progress.update(count, len(examples))

    model = load_report_model(request.model)
    how = examples, params.preprocess, params.generate, params.seed, done
    spans = spans_of_model(request.model) if params.generate.hold_impressions else None
    evidence = control_evidence(request.cues, model, examples, params, request.names)
    writer = ready_writer(model, spans)
    found = describe(writer, *how, evidence=evidence)
    if evidence is not None:
        found = [replace(p, model=f"{p.model}, cues {request.cues}") for p in found]
    write_predictions(request.predictions, found)
    if request.mirrored:
        write_predictions(request.out / MIRRORED, describe(writer, *how, mirrored=True))


def _compare_mirrored(request: Elsewhere) -> dict[str, Any]:
    """Compare the sides in the reports of CTs and of the same CTs mirrored."""
    from uvlm.evaluation.bootstrap import draw_resamples
    from uvlm.evaluation.labeller import get_attribute_reader
    from uvlm.evaluation.mirrored import side_swaps
    from uvlm.seeding import generator
    from uvlm.text.predictions import load_predictions

    config = request.params.evaluate
    cases, others = (load_predictions(request.out / name) for name in (PREDICTIONS, MIRRORED))
    texts, others_texts = ([case.report for case in each] for each in (cases, others))
    patients = [case.patient_id for case in cases]
    draws = generator(request.params.seed, "mirrored")
    resamples = draw_resamples(patients, config.bootstrap_samples, draws)
    reader, read = get_attribute_reader(config.labeller, request.names)
    found = side_swaps(texts, others_texts, read, request.names, resamples)
    return found | {"read_by": reader}


def _score(request: Elsewhere, test: Sequence[Case], training: Sequence[Case]) -> dict[str, Any]:
    """Write the tables and score them as `uvlm score` does."""
    from uvlm.evaluation.score import ScoreRequest, score

    out, names = request.out, request.names
    references, labels = out / "references.csv", out / "labels.csv"
    reports = ([case.case_id, case.patient_id, case.report.text] for case in test)
    _write_table(references, ["id", "patient_id", "report"], reports)
    flags = ([case.case_id, *map(str, case.abnormalities)] for case in test)
    _write_table(labels, ["id", *names], flags)
    scans = list({case.scan_id: case for case in training}.values())  # reconstructions share theirs
    known = ([c.case_id, c.report.text, *map(str, c.abnormalities)] for c in scans)
    if scans:
        _write_table(out / "training.csv", ["id", "report", *names], known)
    thresholds = request.model / THRESHOLDS
    return score(
        ScoreRequest(
            references,
            request.predictions,
            labels=labels,
            labeller=request.params.evaluate.labeller,
            thresholds=thresholds if thresholds.is_file() else None,
            training=out / "training.csv" if scans else None,
            samples=request.params.evaluate.bootstrap_samples,
            seed=request.params.seed,
        )
    )


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    write_text_atomic(path, text.getvalue())


def _refuse_fitted(model: Path, test: Sequence[Case]) -> str:
    """Refuse to score cases that this model was fitted on, and say what was compared.

    The record is in the classifier's folder, which lies beside that of the reports where a run left
    them; it counts only if the weights are the same.
    """
    from uvlm.data.leaks.fitted_on import FITTED_ON
    from uvlm.model.folder import read_config

    beside = model.resolve().parent / "cls"
    record = beside / FITTED_ON
    if not record.is_file():
        return "unknown: no record beside the model"
    configs = read_config(model, ("report",)), read_config(beside, ("cls",))
    if len({config.weights["classifier"] for config in configs}) > 1:
        return "unknown: the record beside the model is of another one"
    document = json.loads(record.read_text(encoding="utf-8"))
    fitted = {name for sides in document.values() for ids in sides.values() for name in ids}
    met = [case.case_id for case in test if fitted & {case.case_id, case.scan_id}]
    if met:
        fact = f"was fitted on {len(met)} of the {len(test)} cases to be scored, {met[0]} the first"
        raise DataError(model, fact, "score a split that it has not seen")
    return f"none of the {len(fitted)} cases that it was fitted on"

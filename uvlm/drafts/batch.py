"""`uvlm predict`: CTs in, a draft each, and a table of what became of every one.

    drafted    all files are there
    withheld   the CT is unlike the training's: masks and the reason, no report
    kept       an earlier run of the same model on the same files wrote the draft
    refused    the CT cannot be read, or its folder cannot be written; nothing is left of it
    failed     a bug; the others go on

Only of several CTs, or with `batch`, is a draft kept, and cases.csv written.
"""

from __future__ import annotations

import csv
import io
import json
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from uvlm.data.contract import contract_sha256
from uvlm.data.ct.io import read_volume
from uvlm.data.ct.origin import salted_id
from uvlm.dicom.place import FOLDER, check_installed, remove_objects
from uvlm.drafts.build import DraftMaker
from uvlm.drafts.case_result import CaseResult
from uvlm.drafts.evidence import digests_of
from uvlm.drafts.folder import FILES, check_places, read_of, said_of, write_draft
from uvlm.drafts.inputs import CtInput, inputs_of, opened, signature
from uvlm.drafts.privacy import line_of, reason_of
from uvlm.errors import DataError, SetupError, UvlmError, as_known
from uvlm.evaluation.said import spans_of_model
from uvlm.files import file_sha256, write_text_atomic
from uvlm.inference.draft_folder import CLASS_NAMES, SEGMENTATION, written
from uvlm.inference.predictor import Clock, Predictor, Tell
from uvlm.text.draft import FILE_NAME, FORMAT_VERSION, Draft

CASES: Final = "cases.csv"
Status = Literal["drafted", "withheld", "kept", "refused", "failed"]
_COLUMNS: Final = ("number", "case_id", "status", "reason", "seconds")
_REQUEST_DIGITS: Final = 16


@dataclass(frozen=True)
class Outcome:
    """What became of a CT; `line` says it to the user, `error` is what was raised.

    `no_dicom` says why there are no DICOM objects although they were asked for.
    """

    ct: CtInput
    status: Status
    reason: str
    seconds: float
    line: str
    error: BaseException | None = None
    no_dicom: str = ""


@dataclass(frozen=True)
class Options:
    """What a user may choose.

    Args:
        names: write real names of files and series, not only their salted ids.
        unlike_training: write a report of a CT that is unlike the training's, and mark it.
        batch: a folder for each CT even if there is one, and drafts of an earlier run are kept.
        dicom: write DICOM objects too (uvlm/dicom/objects.py).
        claim_more: added to what the classifier believes, before reports are written.
    """

    names: bool = False
    unlike_training: bool = False
    batch: bool = False
    dicom: bool = False
    claim_more: float = 0.0


def predict(
    cts: Sequence[Path],
    model_dir: Path,
    out: Path,
    options: Options | None = None,
    tell: Tell = lambda line: None,
    tell_step: Tell = lambda step: None,
) -> list[Outcome]:
    """Write a draft for each CT; drafts/folder.py lists its files.

    A single CT goes to `out` itself, several go to `out`/<case_id>. A CT that is refused leaves
    nothing behind and does not stop the others.

    Args:
        cts: image files, folders or zips with one CT, or tables of such paths.
        model_dir: report folder, data/models/report.
        out: created if missing; other files in it are left alone.
        options: see there.
        tell: gets a line for each part of the model that says nothing, and for each CT.
        tell_step: gets each of drafts/steps.py when it has ended.

    Raises:
        UvlmError: the model, or at least one of the CTs, was refused; its class is that of the
            worst reason.
    """
    options = options or Options()
    if options.dicom:
        check_installed()
    inputs = inputs_of(cts, out, names=options.names, batch=options.batch)
    check_places(inputs)
    predictor = Predictor.load(model_dir, options.claim_more, spans_of_model(model_dir))
    maker = DraftMaker(predictor, model_dir, options.names)
    for line in said_of(maker.predictor.not_trained):
        tell(line)
    in_folders = options.batch or len(inputs) > 1
    run = _Run(maker, options, in_folders, tell_step)
    outcomes: list[Outcome] = []
    start = time.monotonic()
    try:
        for number, ct in enumerate(inputs, start=1):
            outcome = run.one(ct)
            outcomes.append(outcome)
            left = _left(time.monotonic() - start, number, len(inputs))
            tell(f"{number}/{len(inputs)}  {outcome.line}{left}")
    finally:
        if in_folders and outcomes:
            with written(out):
                write_text_atomic(out / CASES, _table(outcomes))
    _raise_worst(outcomes, out, names=options.names)
    return outcomes


@dataclass(frozen=True)
class _Run:
    maker: DraftMaker
    options: Options
    keeps: bool
    tell_step: Tell

    def one(self, ct: CtInput) -> Outcome:
        """Draft one CT; whatever goes wrong with it is its outcome."""
        start = time.perf_counter()
        try:
            return self._drafted(ct, start)
        except Exception as error:
            status: Status = "failed" if as_known(error) is None else "refused"
            seconds = round(time.perf_counter() - start, 3)
            line = line_of(error, ct.who, ct.path, names=self.options.names)
            return Outcome(ct, status, reason_of(error), seconds, line, error)

    def _drafted(self, ct: CtInput, start: float) -> Outcome:
        request = self._request(ct)
        if self.keeps and (draft := _kept(ct.folder, request)):
            reason = "" if draft.withheld is None else "unlike_training"
            return Outcome(ct, "kept", reason, 0.0, f"{draft.case_id}: kept, as nothing changed")
        clock = Clock(self.tell_step)
        with opened(ct.path) as (path, packed):
            volume = read_volume(path)
            clock.lap("read")
            anyway = self.options.unlike_training
            found = self.maker.predictor.predict_volume(
                volume, unlike_training=anyway, tell=self.tell_step
            )
            found.seconds.update(clock.seconds)
            result = self.maker.make(ct.case_id, volume, found, request, packed)
            self.tell_step("check")
            no_dicom, told = self._objects(ct.folder, result)
            write_draft(ct.folder, result)
            self.tell_step("write")
        draft, seconds = result.draft, round(time.perf_counter() - start, 3)
        said = f"{draft.case_id}: {read_of(draft)}; {seconds:.1f} s"
        said += told
        if draft.unlike_training.written_anyway:
            said += "; UNLIKE THE TRAINING"
        if draft.withheld is None:
            return Outcome(ct, "drafted", "", seconds, said, no_dicom=no_dicom)
        line = f"{said}; REPORT WITHHELD: {draft.withheld}"
        return Outcome(ct, "withheld", "unlike_training", seconds, line, no_dicom=no_dicom)

    def _objects(self, folder: Path, result: CaseResult) -> tuple[str, str]:
        """Write DICOM objects if they are wanted, before the draft.

        Returns:
            Why there are none, if so, and what to tell the user.
        """
        if not self.options.dicom:
            remove_objects(folder / FOLDER)  # they would pass for those of this draft
            return "", ""
        from uvlm.dicom.objects import Content, write_objects  # highdicom takes long to import

        content = Content(result.draft, result.volume, result.label_map, result.class_names)
        try:
            notes = write_objects(content, folder / FOLDER).notes
        except DataError as error:
            remove_objects(folder / FOLDER)
            why = f"{error.fact}; {error.remedy}"
            return why, f"; NO DICOM: {why}"
        return "", "".join(f"; DICOM: {note}" for note in notes)

    def _request(self, ct: CtInput) -> str:
        """Name what decides a draft: the files, the model, the options, this release's format."""
        if not ct.path.exists():
            raise DataError(ct.path, "no such file", "check the path")
        predictor, options = self.maker.predictor, self.options
        thresholds = self.maker.directory / "thresholds.json"
        parts = [
            FORMAT_VERSION,
            signature(ct.path),
            predictor.model.sha256,
            contract_sha256(predictor.preprocess),
            predictor.population_sha256,
            file_sha256(thresholds) if thresholds.is_file() else None,
            digests_of(self.maker.directory),
            [options.names, options.unlike_training, options.dicom],
            *([predictor.claim_more] if predictor.claim_more else []),
        ]
        return salted_id(json.dumps(parts), digits=_REQUEST_DIGITS)


def _kept(folder: Path, request: str) -> Draft | None:
    """Find the whole draft that an earlier run wrote for the same request."""
    try:
        draft = Draft.load(folder / FILE_NAME)
    except DataError:
        return None
    missing = {name for name in FILES if not (folder / name).is_file()}
    if "segmentation" in draft.not_trained:
        missing -= {SEGMENTATION, CLASS_NAMES}
    return draft if draft.provenance.request == request and not missing else None


def _left(seconds: float, done: int, total: int) -> str:
    """Say how long the rest takes."""
    if done == total:
        return ""
    minutes, rest = divmod(round(seconds / done * (total - done)), 60)
    return f" ({minutes}:{rest:02d} left)"


def _table(outcomes: Sequence[Outcome]) -> str:
    """Return the content of cases.csv."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for each in outcomes:
        row = (each.ct.number, each.ct.case_id, each.status, each.reason, each.seconds)
        table.writerow(row)
    return text.getvalue()


def _raise_worst(outcomes: Sequence[Outcome], out: Path, *, names: bool) -> None:
    """Raise an error whose class is the worst of those that occurred, and whose line names all."""
    bad = [each for each in outcomes if each.error is not None]
    if not bad:
        return
    known = [as_known(each.error) for each in bad if each.error is not None]
    codes = {UvlmError.exit_code if error is None else error.exit_code for error in known}
    kinds = {3: DataError, 4: SetupError}
    kind = kinds.get(max(codes), UvlmError)
    if len(outcomes) == 1:
        subject, _, fact = bad[0].line.partition(": ")
        found = kind(subject, fact)
    else:
        many = f"{len(bad)} of {len(outcomes)} CTs were refused"
        found = kind(out, f"{many}: {' | '.join(each.line for each in bad)}")
    if names:  # a traceback may hold anything
        bugs = [each.error for each in bad if each.error and as_known(each.error) is None]
        found.details = "".join("".join(traceback.format_exception(bug)) for bug in bugs)
    raise found from None

"""The folder of a draft, which is written whole or not at all.

report.txt               the disclaimer, then the report
report.json              all that is known; uvlm/text/draft.py says what
segmentation.nii.gz      class ids on the CT's own grid and axes
segmentation.json        the name of every class id
evidence.html            CT and draft on one page, and why each sentence is there

What a part of the model would say that was never trained is left out, and the draft says so.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from uvlm.config import SYNTHETIC
from uvlm.dicom.place import FOLDER
from uvlm.drafts import evidence
from uvlm.drafts.case_result import CaseResult, Output
from uvlm.drafts.inputs import CtInput
from uvlm.errors import ConfigError, DataError
from uvlm.files import write_text_atomic
from uvlm.inference.draft_folder import (
    CLASS_NAMES,
    ELSEWHERE,
    SEGMENTATION,
    check_writable,
    filling,
    write_segmentation,
    written,
)
from uvlm.model.trained import Part
from uvlm.text.draft import FILE_NAME, Draft
from uvlm.text.report import FINDINGS_HEADING, IMPRESSION_HEADING

REPORT_TXT: Final = "report.txt"
FILES: Final = (REPORT_TXT, FILE_NAME, SEGMENTATION, CLASS_NAMES, evidence.FILE_NAME)
# What else is written of every CT, beside the files above; each names its files in FILES.
OUTPUTS: Final[tuple[Output, ...]] = (evidence.write_evidence,)
_DRAFT: Final = (
    "UNREVIEWED RESEARCH DRAFT, written by a machine. Not a medical device: "
    "not for diagnosis or treatment."
)
_PHANTOM: Final = (
    "This model was trained on synthetic phantoms only and has never seen a patient: "
    "whatever it says about a real CT is meaningless."
)
_UNKNOWN: Final = "Its config.json does not say what this model was trained on."
_LOOKED_AT: Final = (
    "Its config.json does not say which of its parts were trained; their weights were looked at."
)
_NOT_TRAINED: Final[dict[Part, str]] = {
    "encoder": "The encoder was not trained: all that follows rests on random features of the CT.",
    "segmentation": "Segmentation was not trained: there are no masks.",
    "classifier": "The classifier was not trained: there are no probabilities.",
    "language": "The language decoder was not trained: there is no report.",
}


def said_of(not_trained: Collection[Part]) -> list[str]:
    """Say what is missing of parts that were not trained."""
    return [_NOT_TRAINED[part] for part in not_trained]


def disclaimer_of(params: Mapping[str, Any], says_trained: bool = True) -> str:
    """Say how far to trust a draft, from what a model folder records, its trained parts or not."""
    notes, trained_on = [_DRAFT], params.get("download", {}).get("source")
    if trained_on is None or trained_on in SYNTHETIC:
        notes.append(_PHANTOM if trained_on else _UNKNOWN)
    return " ".join(notes if says_trained else [*notes, _LOOKED_AT])


def check_places(inputs: Sequence[CtInput]) -> None:
    """Refuse, before any work is done, what would overwrite an input or cannot be written.

    Raises:
        DataError: the only CT is missing.
        ConfigError: a result would overwrite an input, or a folder is none.
        SetupError: a folder cannot be written.
    """
    if len(inputs) == 1:
        _check_there(inputs[0])
    real = {Path(os.path.realpath(each.path)) for each in inputs}
    for folder in {each.folder for each in inputs}:
        with written(folder):
            _check_place(folder, real)
    for folder in _distinct_parents(each.folder for each in inputs):
        check_writable(folder)


def _distinct_parents(folders: Iterable[Path]) -> list[Path]:
    """Name a folder for each place: to try thousands of folders beside each other takes long."""
    return list(
        {folder if folder.exists() else folder.parent: folder for folder in folders}.values()
    )


def _check_there(ct: CtInput) -> None:
    try:
        if not ct.path.exists():
            raise DataError(ct.path, "no such file", "check the path")
    except OSError as error:  # a folder that may not be searched, a name that is too long
        fact = f"cannot be read ({error.strerror})"
        raise DataError(ct.path, fact, "check the path and its permissions") from None


def _check_place(folder: Path, inputs: Collection[Path]) -> None:
    """Refuse a folder where a draft would overwrite an input, or anything but a draft."""
    real = Path(os.path.realpath(folder))  # unlike Path.resolve, it takes a link to itself
    if any(above in inputs for above in (real, *real.parents)):
        raise ConfigError("--out", "lies inside an input", ELSEWHERE)
    if any(each.is_relative_to(real / FOLDER) for each in inputs):
        raise ConfigError(f"--out: {FOLDER}", "is an input", ELSEWHERE)
    for name in FILES:
        if Path(os.path.realpath(folder / name)) in inputs:
            raise ConfigError(f"--out: {name}", "is an input", ELSEWHERE)
        if (folder / name).is_dir():
            raise ConfigError(f"--out: {name}", "is a folder", ELSEWHERE)


def write_draft(folder: Path, result: CaseResult) -> None:
    """Write all files of a draft or none."""
    with filling(folder) as temporary:
        write_text_atomic(temporary / REPORT_TXT, text_of(result.draft))
        result.draft.write(temporary)
        if result.label_map is not None:
            write_segmentation(temporary, result.label_map, result.class_names)
        for output in OUTPUTS:
            output(result, temporary)
        for name in FILES:  # an older draft's masks would pass for those of this one
            if not (temporary / name).exists():
                (folder / name).unlink(missing_ok=True)


def text_of(draft: Draft) -> str:
    """Return the content of report.txt."""
    body = list(draft.notes)
    if draft.withheld is not None:
        body.append(f"REPORT WITHHELD: {draft.withheld}")
    sections = {FINDINGS_HEADING: draft.findings, IMPRESSION_HEADING: draft.impression}
    body += [f"{heading} {text}" for heading, text in sections.items() if text]
    if draft.report == "" and "language" not in draft.not_trained:
        body.append("The model wrote nothing.")
    body += _doubts(draft)
    ct = f"CT: {draft.case_id}\nRead: {read_of(draft)}"
    return "\n\n".join([draft.disclaimer, ct, *body]) + "\n"


def read_of(draft: Draft) -> str:
    """Say in a line which file or series was read, and what was left out."""
    read = draft.provenance.read
    return "; ".join([read.text, *read.grid_notes])


def _doubts(draft: Draft) -> list[str]:
    """List the sentences that something speaks against."""
    lines = []
    for sentence in draft.sentences:
        beyond = sentence.unsupported_by_one_ct
        against = [*sentence.contradictions, *([f"{beyond}: no CT shows that"] if beyond else [])]
        if against:
            lines.append(f"- {sentence.text}\n  " + "; ".join(against))
    return ["\n".join(["To check:", *lines])] if lines else []

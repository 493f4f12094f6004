"""What `predict` leaves behind for one CT, whole or not at all.

report.txt               the disclaimer, then the report
report.json              the same with probabilities, hashes, versions, seconds
segmentation.nii.gz      class ids on the CT's own grid and axes
segmentation.json        the name of every class id

What a part of the model would say that was never trained is left out, and the draft says so.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

import uvlm
from uvlm.config import SYNTHETIC
from uvlm.data.ct.find import without_suffix
from uvlm.data.ct.io import write_label_map
from uvlm.data.ct.origin import CtOrigin
from uvlm.data.ct.volume import LabelMap
from uvlm.errors import ConfigError, DataError, SetupError
from uvlm.files import filling_folder, try_filling, write_json_atomic, write_text_atomic
from uvlm.model.trained import Part
from uvlm.text.report import FINDINGS_HEADING, IMPRESSION_HEADING, Report

REPORT_TXT: Final = "report.txt"
REPORT_JSON: Final = "report.json"
SEGMENTATION: Final = "segmentation.nii.gz"
CLASS_NAMES: Final = "segmentation.json"
FILES: Final = (REPORT_TXT, REPORT_JSON, SEGMENTATION, CLASS_NAMES)
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
_ELSEWHERE: Final = "choose another --out"


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model says about one CT; `label_map` is on the CT's own grid and axes.

    Of a part that was not trained there is no label map, no probability or no report. `origin` says
    which file or series was read, `grid_notes` what the network's grid left out or made up.
    """

    report: Report
    probabilities: dict[str, float]
    label_map: LabelMap | None
    class_names: tuple[str, ...]
    not_trained: tuple[Part, ...]
    origin: CtOrigin | None
    grid_notes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, eq=False)
class Draft(Prediction):
    """A prediction and what is written beside it."""

    case_id: str
    model_sha256: str
    contract_sha256: str
    disclaimer: str
    real_names: bool
    contradictions: Sequence[Mapping[str, Any]]

    @property
    def read(self) -> str:
        """Say in a line which file or series was read, and what was left out."""
        origin = self.origin.to_text(names=self.real_names) if self.origin else "unknown"
        return "; ".join([origin, *self.grid_notes])

    def document(self) -> dict[str, Any]:
        """Return the content of report.json."""
        told = self.origin.to_json(names=self.real_names) if self.origin else {}
        return {
            "case_id": self.case_id,
            "read": {**told, "grid_notes": list(self.grid_notes)},
            "disclaimer": self.disclaimer,
            "report": self.report.text,
            "findings": self.report.findings,
            "impression": self.report.impression,
            "probabilities": dict(self.probabilities),
            "contradictions": list(self.contradictions),
            "not_trained": list(self.not_trained),
            "model_sha256": self.model_sha256,
            "contract_sha256": self.contract_sha256,
            "versions": {
                "uvlm": uvlm.__version__,
                "torch": str(torch.__version__),
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            "seconds": self.seconds,
        }

    def text(self) -> str:
        """Return the content of report.txt."""
        findings, impression = self.report.findings, self.report.impression
        sections = {FINDINGS_HEADING: findings, IMPRESSION_HEADING: impression}
        body = said_of(self.not_trained)
        body += [f"{heading} {text}" for heading, text in sections.items() if text]
        if not self.report.text and "language" not in self.not_trained:
            body.append("The model wrote nothing.")
        ct = f"CT: {self.case_id}\nRead: {self.read}"
        return "\n\n".join([self.disclaimer, ct, *body]) + "\n"


def said_of(not_trained: Collection[Part]) -> list[str]:
    """Say what is missing of parts that were not trained."""
    return [_NOT_TRAINED[part] for part in not_trained]


def disclaimer_of(params: Mapping[str, Any], says_trained: bool = True) -> str:
    """Say how far to trust a draft, from what a model folder records, its trained parts or not."""
    notes, source = [_DRAFT], params.get("download", {}).get("source")
    if source is None or source in SYNTHETIC:
        notes.append(_PHANTOM if source else _UNKNOWN)
    return " ".join(notes if says_trained else [*notes, _LOOKED_AT])


def claim_folders(cts: Sequence[Path], out: Path) -> dict[str, tuple[Path, Path]]:
    """Assign every CT a case id and a folder, before any work is done.

    Raises:
        DataError: a CT is missing.
        ConfigError: two CTs share an id, or a result would overwrite an input.
        SetupError: a folder cannot be written.
    """
    folders: dict[str, tuple[Path, Path]] = {}
    for ct in cts:
        _check_there(ct)
        case_id = case_id_of(ct)
        if case_id in folders:
            other = folders[case_id][0]
            if ct.resolve() == other.resolve():
                raise ConfigError(ct, "is named twice", "name it once")
            remedy = "name the folder of each, if it holds one CT, or run each with its own --out"
            raise ConfigError(ct, f"has the case id {case_id} of {other}", remedy)
        folders[case_id] = (ct, out / case_id if len(cts) > 1 else out)
    inputs = {ct.resolve() for ct, _ in folders.values()}
    for _, folder in folders.values():
        with _written(folder):
            _check_place(folder, inputs)
        check_writable(folder)
    return folders


def _check_there(ct: Path) -> None:
    try:
        if not ct.exists():
            raise DataError(ct, "no such file", "check the path")
    except OSError as error:  # a folder that may not be searched, a name that is too long
        fact = f"cannot be read ({error.strerror})"
        raise DataError(ct, fact, "check the path and its permissions") from None


def check_writable(folder: Path) -> None:
    """Refuse, before any work is done, a folder that cannot be filled.

    Raises:
        ConfigError: it is a file.
        SetupError: the operating system does not allow it.
    """
    with _written(folder):
        if os.path.lexists(folder) and not folder.is_dir():
            raise ConfigError(folder, "is a file, not a folder", _ELSEWHERE)
        try_filling(folder)


def _check_place(folder: Path, inputs: Collection[Path]) -> None:
    """Refuse a folder where a draft would overwrite an input, or anything but a draft."""
    real = Path(os.path.realpath(folder))  # unlike Path.resolve, it takes a link to itself
    if any(ct.is_dir() and real.is_relative_to(ct) for ct in inputs):
        raise ConfigError(folder, "lies inside an input", _ELSEWHERE)
    for name in FILES:
        if Path(os.path.realpath(folder / name)) in inputs:
            raise ConfigError(folder / name, "is an input", _ELSEWHERE)
        if (folder / name).is_dir():
            raise ConfigError(folder / name, "is a folder", _ELSEWHERE)


def case_id_of(ct: Path) -> str:
    """Return the name of the folder, or of the file without its ending."""
    ct = ct if ct.name else ct.resolve()  # "." has no name
    return without_suffix(ct.name) or ct.name


def write_draft(folder: Path, draft: Draft) -> None:
    """Write all files of a draft or none."""
    with filling(folder) as temporary:
        write_text_atomic(temporary / REPORT_TXT, draft.text())
        write_json_atomic(temporary / REPORT_JSON, draft.document())
        if draft.label_map is not None:
            write_segmentation(temporary, draft.label_map, draft.class_names)
        for name in FILES:  # an older draft's masks would pass for those of this one
            if not (temporary / name).exists():
                (folder / name).unlink(missing_ok=True)


def write_segmentation(folder: Path, label_map: LabelMap, class_names: Sequence[str]) -> None:
    """Write a label map and the names of its ids."""
    write_label_map(folder / SEGMENTATION, label_map)
    write_json_atomic(folder / CLASS_NAMES, {str(i): name for i, name in enumerate(class_names)})


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder whose files move into `folder` at the end, if all went well.

    Files of other names in `folder` are left alone.
    """
    with _written(folder), filling_folder(folder, keep_others=True) as temporary:
        yield temporary


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Turn an error of the operating system into one line about `folder`."""
    try:
        yield
    except OSError as error:
        fact = f"cannot be written ({error.strerror or error})"
        raise SetupError(folder, fact, _ELSEWHERE) from None

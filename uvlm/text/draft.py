"""report.json: what `uvlm predict` knows about one CT, and the only place that says how it is kept.

    Draft
    ├── sentences: every sentence of the report, and what checks of it found
    │   └── claims: each abnormality that it says is there, or denies
    ├── unlike_training: in what the CT is outside of what the model was trained on
    ├── structures: volumes of the masks
    └── provenance: what was read, by which model, with which versions, in how many seconds

A withheld draft has `withheld` set, and neither report nor sentences nor probabilities. All text of
a report was generated: whoever shows it has to escape it. Axes are (z, y, x), millimetres are LPS.
A field that is added, dropped or means something else raises FORMAT_VERSION.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from uvlm.errors import DataError
from uvlm.files import write_json_atomic

FORMAT_VERSION: Final = 2  # 1 had no sentences
FILE_NAME: Final = "report.json"
Part = Literal["findings", "impression"]
Triple = tuple[float, float, float]


class _Record(BaseModel):
    """Unknown keys are errors, values never change, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Claim(_Record):
    """What a sentence says of one abnormality, and what classifier and masks say of the same.

    `side`, `lobe` and `size` are words of uvlm/text/attributes.py, empty where nothing is said.
    `probability` is the classifier's, `threshold` the one above which it says yes; `structures` are
    the classes of the masks that show such an abnormality, `volume_ml` all of them together; each
    is None (or empty) where the model has no such part. `contradiction` says in one line what
    disagrees with the sentence, None where nothing does.
    """

    abnormality: str
    present: bool  # False: the sentence denies it
    side: tuple[str, ...] = ()
    lobe: tuple[str, ...] = ()
    size: tuple[str, ...] = ()
    probability: float | None = None
    threshold: float | None = None
    structures: tuple[str, ...] = ()
    volume_ml: float | None = None
    contradiction: str | None = None


class Sentence(_Record):
    """A sentence of the report; most have one claim or none ("The bones are intact.").

    `unsupported_by_one_ct` names what no single CT can show ("comparison with an earlier
    examination", "clinical history"); None where there is nothing of the kind.
    """

    text: str
    part: Part
    claims: tuple[Claim, ...] = ()
    unsupported_by_one_ct: str | None = None

    @property
    def contradictions(self) -> tuple[str, ...]:
        """What disagrees with the sentence."""
        return tuple(c.contradiction for c in self.claims if c.contradiction)


class Structure(_Record):
    """A class of the masks: its id in segmentation.nii.gz, and its volume."""

    class_id: int
    name: str
    volume_ml: float


class Unlike(_Record):
    """One thing in which a CT is outside of what the model was trained on."""

    kind: str  # "field of view", "contrast phase", ...: the reason in a word
    what: str  # what was measured, such as "volume of liver"
    unit: str
    value: float | None
    low: float | None  # what training cases have; None if it is not a matter of numbers
    high: float | None
    text: str  # the same in words


class UnlikeTraining(_Record):
    """The comparison with the training cases.

    `checked` is False for a model without population.json, which cannot be compared. With
    `written_anyway` a report was written although the CT is unlike; every output says so.
    """

    checked: bool
    found: tuple[Unlike, ...] = ()
    written_anyway: bool = False


class Read(_Record):
    """Which file or series was read; names and paths only if they were asked for.

    `shape`, `spacing_mm` and `affine` (index (z, y, x, 1) to LPS millimetres) are those of the CT's
    own voxels, as in segmentation.nii.gz. `id` is salted.
    """

    text: str  # all of it in a line
    kind: Literal["file", "series"]
    packed: bool = False  # in a zip
    id: str
    series_number: str | None = None
    files: int
    slices: int
    shape: tuple[int, int, int]
    spacing_mm: Triple
    orientation: str
    affine: tuple[tuple[float, float, float, float], ...]
    contrast: tuple[str, ...] = ()
    grid_notes: tuple[str, ...] = ()
    left_out: tuple[dict[str, Any], ...] = ()
    name: str | None = None
    paths: tuple[str, ...] | None = None


class Provenance(_Record):
    """Where a draft comes from.

    `voxels_sha256` is of the CT's Hounsfield units and affine, `request` of everything that decides
    the draft: the same request need not be answered twice. `seconds` are by step.
    """

    read: Read
    voxels_sha256: str
    request: str
    model_sha256: str
    contract_sha256: str
    population_sha256: str | None
    trained_on: str | None  # the kind of data set, as the model folder says
    versions: dict[str, str]
    device: str
    precision: str
    seconds: dict[str, float]


class Draft(_Record):
    """The content of report.json; the module says what it holds.

    `notes` belong on every output, below the disclaimer. `report` is the text as a model writes it,
    with `findings` and `impression` as its parts. `labeller` read the abnormalities.
    """

    format_version: Literal[2] = FORMAT_VERSION
    case_id: str
    disclaimer: str
    notes: tuple[str, ...]
    report: str | None
    findings: str | None
    impression: str | None
    withheld: str | None
    unlike_training: UnlikeTraining
    labeller: str | None
    sentences: tuple[Sentence, ...]
    probabilities: dict[str, float]
    thresholds: dict[str, float]
    structures: tuple[Structure, ...]
    not_trained: tuple[str, ...]
    provenance: Provenance

    def write(self, folder: Path) -> None:
        """Write report.json into a folder."""
        write_json_atomic(folder / FILE_NAME, self.model_dump(mode="json"))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a report.json.

        Raises:
            DataError: it is missing, damaged or of another version.
        """
        remedy = "run `uvlm predict` again"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            version = document.get("format_version", 1)
        except (OSError, ValueError, AttributeError) as error:
            fact = f"not readable as a draft ({type(error).__name__})"
            raise DataError(path, fact, remedy) from None
        if version != FORMAT_VERSION:
            fact = f"format_version is {version!r}, this release reads {FORMAT_VERSION}"
            raise DataError(path, fact, remedy)
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            raise DataError(path, f"{where}: {problem['msg']}", remedy) from None

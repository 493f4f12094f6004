"""The record of a finished arm: what a table is made from, on any machine, without data or models.

    <records>/<profile>/<arm>-seed<seed>.json

It is one JSON object of `ArmRecord`'s fields with a line for each case, so that git shows which
cases changed. It holds flags, probabilities and counts of n-grams of the test cases, and no text of
any report. `key` covers whatever decides the result (commands, parameters and code of every stage
up to the last), so a record with the key of today's arm is that arm's result, whoever ran it.
`seconds` and `versions` are told beside it and decide nothing.

A string of flags such as "0100" has one digit for each name of `abnormalities`, in their order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from uvlm.errors import DataError
from uvlm.files import write_text_atomic

VERSION: Final = 1

Digits = Annotated[str, Field(pattern="^[01]*$")]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
NGrams = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=10, max_length=10)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CaseResult(_Strict):
    """One test case.

    Args:
        case_id: as in the index; its patient is what intervals resample.
        labels: what is true of it.
        read: what the labeller reads in the reference report; None where no report is scored.
        claimed: what it reads in the generated report; None where there is none, which counts as
            wrong in every class.
        probabilities: of each abnormality; None where the classifier has not learned.
        ngrams: what its report adds to corpus BLEU, as `bleu_counts` counts it under the headline
            protocol; None where no report is scored, and in records made before there were any.
    """

    case_id: str
    patient_id: str
    labels: Digits
    read: Digits | None = None
    claimed: Digits | None = None
    probabilities: tuple[Probability, ...] | None = None
    ngrams: NGrams | None = None


class ArmRecord(_Strict):
    """One arm with one seed, run to its end.

    Args:
        version: of this format; another one is refused.
        table: what the arm belongs to, such as `table4`; its row, or "" if it is none.
        scored: whether reports were scored, or only the classifier.
        key: digest of what decides the result.
        params: the whole of params.yaml.
        code: digest of the code of each stage, by script.
        inputs: sha256 of the manifests that the result is from, by path.
        git: commit, and whether files differed from it.
        notes: what a table has to say about the arm.
        thresholds: of each abnormality, tuned on validation; None where 0.5 is used.
        metrics: what the last stage wrote.
        seconds: how long each stage took when it ran.
        versions: of the packages.
    """

    version: Literal[1] = 1
    table: str
    row: str
    arm: str
    profile: str
    seed: int = Field(ge=0)
    scored: Literal["classification", "report"]
    key: str
    params: dict[str, Any]
    code: dict[str, str]
    inputs: dict[str, str]
    git: dict[str, str]
    notes: tuple[str, ...] = ()
    abnormalities: tuple[str, ...]
    thresholds: tuple[Probability, ...] | None = None
    metrics: dict[str, Any]
    seconds: dict[str, float] = {}
    versions: dict[str, str] = {}
    cases: tuple[CaseResult, ...]

    @model_validator(mode="after")
    def _every_case_fits(self) -> Self:
        if len({case.case_id for case in self.cases}) < len(self.cases):
            raise ValueError("a case occurs twice")
        for case in self.cases:
            rows: list[Sequence[object] | None] = [
                case.labels, case.read, case.claimed, case.probabilities,
            ]  # fmt: skip
            if any(row is not None and len(row) != len(self.abnormalities) for row in rows):
                raise ValueError(f"{case.case_id} has not {len(self.abnormalities)} flags")
        return self


def record_path(records: Path, profile: str, arm: str, seed: int) -> Path:
    """Name the file of one arm below the folder of records."""
    return records / profile / f"{arm}-seed{seed}.json"


def write_record(records: Path, record: ArmRecord) -> Path:
    """Write a record whole; the same record gives the same bytes."""
    path = record_path(records, record.profile, record.arm, record.seed)
    write_text_atomic(path, record_text(record))
    return path


def record_text(record: ArmRecord) -> str:
    """Say a record in JSON, with a line for each case."""
    document = record.model_dump(mode="json")
    cases = document.pop("cases")
    head = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
    lines = ",\n".join(f"  {json.dumps(case, ensure_ascii=False)}" for case in cases)
    return f'{head},\n "cases": [\n{lines}\n ]\n}}\n'


def load_record(path: Path) -> ArmRecord:
    """Read one record.

    Raises:
        DataError: it is not readable, damaged or of another version.
    """
    remedy = "take it from git again, or delete it and run `uvlm sweep` again"
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        found = document["version"]
        if found != VERSION:
            fact = f"a record of version {found}, and this program reads version {VERSION}"
            is_newer = isinstance(found, int) and found > VERSION
            raise DataError(path, fact, "use the release that wrote it" if is_newer else remedy)
        return ArmRecord.model_validate(document)
    except (ValueError, KeyError, TypeError) as error:
        fact = f"not readable as the record of an arm ({_first_problem(error)})"
        raise DataError(path, fact, remedy) from None


def load_records(records: Path, profile: str | None = None) -> Iterator[ArmRecord]:
    """Read every record of a profile, or of all, in the order of their names.

    Raises:
        DataError: a file is damaged, or its name is not that of the record in it.
    """
    for path in sorted(records.glob(f"{profile or '*'}/*.json")):
        record = load_record(path)
        named = record_path(records, record.profile, record.arm, record.seed)
        if path != named:
            fact = f"holds {record.arm}, seed {record.seed}, of {record.profile}"
            raise DataError(path, fact, f"name it {named.relative_to(records)}, or delete it")
        yield record


def digits(present: Sequence[int | bool]) -> str:
    """Write flags as a string of 0 and 1."""
    return "".join(str(int(one)) for one in present)


def _first_problem(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place}: {first['msg']}" if place else str(first["msg"])
    return f"{type(error).__name__}: {error}"

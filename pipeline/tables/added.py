"""A row of the reader's own: somebody's predictions, scored as our rows are.

The reports of the test split come from the workspace, if its parameters are of this profile.
Without them the labels of a record are enough for F1, but not for BLEU.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.paths import manifest
from pipeline.profiles import compose
from pipeline.tables.document import COLUMNS
from pipeline.tables.ours import RECORDS, read_results
from pipeline.tables.results import case_samples
from uvlm.arm_record import ArmRecord, digits
from uvlm.config import Params, params_here, parse_params
from uvlm.data.cases import read_index
from uvlm.errors import ConfigError, DataError
from uvlm.evaluation.bootstrap import with_intervals
from uvlm.evaluation.evaluate import gather_reference
from uvlm.evaluation.labeller import get_labeller
from uvlm.evaluation.missing import is_missing
from uvlm.evaluation.reference import TextLabels
from uvlm.evaluation.score_inputs import Columns, Texts, read_aligned
from uvlm.evaluation.scores import report_samples


def add_row(root: Path, document: dict[str, Any], added: str) -> None:
    """Append a row to the document of Table 2.

    Args:
        root: the project, which is the working directory.
        document: of `table_document`.
        added: NAME=FILE; the file as `uvlm score` reads predictions.

    Raises:
        ConfigError: it is not of this form, or the table is another one.
        DataError: the file is refused, or there are no test cases to score it on.
    """
    name, sign, file = added.partition("=")
    if not (name.strip() and sign and file):
        raise ConfigError(f"--add {added}", "is not NAME=FILE", "for example mine=predictions.csv")
    if document["table"] != 2:
        fact = "rows of your own go into Table 2"
        raise ConfigError(f"table {document['table']}", fact, "use `uvlm table 2`")
    profile = document["profile"]
    params = parse_params(compose(root, profile), f"conf/profile/{profile}.yaml")
    samples, n, note = _scored(root, params, Path(file))
    numbers = with_intervals({key.removeprefix("macro_"): v for key, v in samples.items()})
    keys = [key for key, _ in COLUMNS[2] if numbers.get(key) is not None]
    protocol = f"{profile}, split test, average macro, labeller: {params.evaluate.labeller}"
    document["rows"].append(
        {
            "row": None, "name": name.strip(), "status": "added", "paper": {},
            "source": file, "protocol": "", "our_protocol": protocol, "notes": note,
            "ours": {k: {"mean": numbers[k], "interval": numbers.get(f"{k}_ci")} for k in keys},
            "seeds": [], "n": [n],
        }
    )  # fmt: skip


def _scored(root: Path, params: Params, file: Path) -> tuple[Mapping[str, Any], int, list[str]]:
    here = params_here()
    if manifest("index").is_file() and here is not None and here.profile == params.profile:
        return _against_reports(params, file)
    records = [
        r
        for result in read_results(root / RECORDS, params.profile).values()
        for r in result.records
    ]
    if not records:
        fact = "no test cases of this profile: neither the stage index nor a record"
        remedy = f"run `uvlm use {params.profile}` and `dvc repro index`, or `uvlm sweep table5`"
        raise DataError(f"profile {params.profile}", fact, remedy)
    samples, n = _against_labels(records[0], params, file)
    return samples, n, [f"scored on the labels of seed {records[0].seed}, so without BLEU"]


def _against_reports(params: Params, file: Path) -> tuple[Mapping[str, Any], int, list[str]]:
    reference = gather_reference(params, read_index(manifest("index")), manifest("index"))
    texts = Texts(file, "case_id", (), dict(zip(reference.case_ids, reference.texts, strict=True)))
    written = read_aligned(file, Columns(), texts).reports
    label = TextLabels(get_labeller(params.evaluate.labeller, reference.names))
    claimed = reference.claims(written, label)
    return report_samples(reference, written, claimed), len(written), []


def _against_labels(record: ArmRecord, params: Params, file: Path) -> tuple[Mapping[str, Any], int]:
    """Put what the labeller reads in the place of what the record's reports claim."""
    ids = [case.case_id for case in record.cases]
    written = read_aligned(
        file, Columns(), Texts(file, "case_id", (), dict.fromkeys(ids, ""))
    ).reports
    label = TextLabels(get_labeller(params.evaluate.labeller, record.abnormalities))
    pairs = zip(record.cases, label(written), is_missing(written), strict=True)
    cases = tuple(
        case.model_copy(update={"claimed": None if missing else digits(flags), "ngrams": None})
        for case, flags, missing in pairs
    )
    changed = record.model_copy(update={"scored": "report", "cases": cases})
    return case_samples(changed), len(cases)

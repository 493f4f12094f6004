"""The index: which cases there are, in which split, and which were refused, by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uvlm.config import Params
from uvlm.data.accounts import Account
from uvlm.data.cases import Case, write_index
from uvlm.data.leaks.search import Use, find_leaks
from uvlm.data.sets.catalogue import choose_set
from uvlm.data.sets.dataset import DataSet, Files
from uvlm.data.sets.lesion_set import withhold_masks
from uvlm.data.sets.selection import EXCLUSIONS, NOT_SELECTED
from uvlm.data.splits import carve_validation, missing_positives
from uvlm.store import Refusal, check_quarantine_share, rows_by_case, write_quarantine


@dataclass(frozen=True)
class IndexSummary:
    """What the index holds; always candidates = kept + refused."""

    candidates: int
    kept: dict[str, int]  # by split
    refused: dict[str, int]  # by reason
    annotated: int  # cases with a findings mask
    shared_texts: int  # report texts of more than one patient: normal, but counted
    missing_positives: tuple[str, ...]  # "abnormality in split"
    scans: int
    patients: int
    accounts: tuple[Account, ...]  # of every table
    facts: Mapping[str, int]  # of the data set itself

    def to_json(self) -> dict[str, Any]:
        """Return the numbers that people read as JSON values."""
        return {
            "cases": sum(self.kept.values()),
            "scans": self.scans,
            "patients": self.patients,
            "report_texts_of_several_patients": self.shared_texts,
            **self.facts,
            "accounts": [asdict(account) for account in self.accounts],
        }


def build(params: Params, download_manifest: Path, out: Path, quarantine: Path) -> IndexSummary:
    """Read the downloaded tables, split by patient, audit, and write the index.

    Args:
        params: the sections `index` and `download` and the seed count.
        download_manifest: rows whose `case` is the path inside the data set's root.
        out: the index manifest.
        quarantine: where refused cases are listed.
    """
    data_set = choose_set(params)
    files = rows_by_case(download_manifest)
    cases, refusals = data_set.cases(files)
    faults = [refusal for refusal in refusals if refusal.reason not in EXCLUSIONS]
    listed = [refusal for refusal in refusals if refusal.reason != NOT_SELECTED]
    write_quarantine(quarantine, listed)
    candidates, limit = len(cases) + len(listed), params.index.max_quarantined_share
    check_quarantine_share("index", len(faults), candidates, limit)
    cases = carve_validation(cases, params.seed, params.index.val_fraction)
    find_leaks(Use("index", case.split, case) for case in cases).check("the splits")
    cases, accounts = _account(cases, refusals, data_set, files)
    write_index(out, cases)
    return _summary(cases, refusals, accounts, data_set.facts)


def _account(
    cases: Sequence[Case], refusals: Sequence[Refusal], data_set: DataSet, files: Files
) -> tuple[list[Case], list[Account]]:
    """Withhold the masks that must not teach; account for the rows of every table."""
    refused = {refusal.case: refusal.reason for refusal in refusals}
    kept, lesions = withhold_masks(cases, data_set.lesion_parts(files), refused)
    fate: dict[str, str | None] = {**refused, **dict.fromkeys((c.case_id for c in cases), None)}
    rows_by_table = {"cases": list(fate), **data_set.rows_by_table(files)}
    accounts = [Account.of(name, ids, fate) for name, ids in rows_by_table.items()]
    return kept, [account for account in (*accounts, lesions) if account.rows]


def _summary(
    cases: list[Case], refusals: list[Refusal], accounts: list[Account], facts: Mapping[str, int]
) -> IndexSummary:
    patients_by_text: dict[str, set[str]] = {}
    for case in cases:
        patients_by_text.setdefault(case.report.text, set()).add(case.patient_id)
    return IndexSummary(
        candidates=len(cases) + len(refusals),
        kept=dict(Counter(case.split for case in cases)),
        refused=dict(Counter(refusal.reason for refusal in refusals)),
        annotated=sum(case.findings_mask is not None for case in cases),
        shared_texts=sum(len(patients) > 1 for patients in patients_by_text.values()),
        missing_positives=tuple(missing_positives(cases)),
        scans=len({case.scan_id for case in cases}),
        patients=len({case.patient_id for case in cases}),
        accounts=tuple(accounts),
        facts=facts,
    )

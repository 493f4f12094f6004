"""Which version of `uvlm-report` is the champion.

The alias `champion` moves to another version only if that one is better on the same test cases:
the paired 95 % interval of the difference in report macro F1 lies above zero. Patients are
resampled, and both models are scored on the same ones. Without a champion, the first version
becomes it. `--force` moves the alias all the same; the reason stays with the version.

The stage `evaluate` leaves test_cases.json in its run: flags of every test case, and no text.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.runs.case_results import TEST_CASES
from pipeline.runs.mlflow_calls import is_local
from pipeline.runs.mlflow_models import REGISTERED, SHA
from pipeline.runs.mlflow_publish import MlflowStore
from pipeline.tables.results import Estimate, Result, difference
from uvlm import environment
from uvlm.arm_record import ArmRecord, load_record
from uvlm.errors import ConfigError, DataError, SetupError, first_line

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

NAME: Final = REGISTERED["report"]
CHAMPION: Final = "champion"
_TAG: Final = "uvlm.promotion"
_METRIC: Final = "f1"
_SHORT: Final = 12


@dataclass(frozen=True)
class Verdict:
    """Whether a version may become the champion, and why."""

    is_better: bool
    why: str
    numbers: dict[str, Any]


def promote(wanted: str | None, reason: str | None, *, force: bool) -> list[str]:
    """Move the alias `champion`, if the candidate is better or `force` says so.

    Args:
        wanted: the version; None for the newest.
        reason: why it is forced.
        force: move it whatever the numbers say.

    Returns:
        What was compared and done, in lines.

    Raises:
        ConfigError: there is no such version; `force` without a reason, or a reason without it.
        DataError: it is not better, or cannot be compared.
    """
    if force != bool(reason and reason.strip()):
        fact = "needs a reason" if force else "is given without --force"
        raise ConfigError("--force" if force else "--reason", fact, "pass both, or neither")
    with _open_store() as store:
        candidate, champion = _candidate(store, wanted), _champion(store)
        if champion is not None and champion.version == candidate.version:
            return [f"{NAME} {candidate.version} is the champion already"]
        verdict = _compare(store, candidate, champion)
        if not (verdict.is_better or force):
            remedy = "train a better one, or pass --force and --reason"
            raise DataError(f"{NAME} {candidate.version}", verdict.why, remedy)
        _move(store, candidate, champion, verdict, reason)
    forced = [f"forced: {reason}"] if force and not verdict.is_better else []
    return [verdict.why, *forced, f"{NAME} {candidate.version} is now the {CHAMPION}"]


@contextmanager
def _open_store() -> Iterator[MlflowStore]:
    """Open the store of this project or of the server; neither is made here."""
    database = environment.project_root() / "mlflow.db"
    if is_local() and not database.is_file():
        remedy = "run this in the project, after `dvc repro`, or set MLFLOW_TRACKING_URI"
        raise SetupError(database, "no such file", remedy)
    from mlflow.exceptions import MlflowException

    try:
        with MlflowStore.open() as store:
            yield store
    except MlflowException as error:
        remedy = "see whether the server of MLFLOW_TRACKING_URI runs"
        raise SetupError("MLflow", first_line(error), remedy) from None


def compare(candidate: ArmRecord, champion: ArmRecord) -> Estimate | None:
    """Subtract the champion's macro F1 from the candidate's; None if the test cases differ."""
    # As runs of one seed, so that two models are one pair.
    first, second = (
        Result((each.model_copy(update={"seed": 0}),)) for each in (candidate, champion)
    )
    return difference(first, second, _METRIC)


def _compare(store: MlflowStore, candidate: ModelVersion, champion: ModelVersion | None) -> Verdict:
    if champion is None:
        return Verdict(True, "there is no champion yet", {})
    sides = [_record_of(store, version) for version in (candidate, champion)]
    for version, record in zip((candidate, champion), sides, strict=True):
        if record is None:
            why = f"version {version.version} was never evaluated, so nothing can be compared"
            return Verdict(False, why, {})
    first, second = sides
    found = compare(first, second) if first and second else None
    if found is None or found.interval is None:
        return Verdict(False, f"version {champion.version} was scored on other test cases", {})
    low, high = found.interval
    numbers = {"difference": round(found.mean, 6), "interval": [round(low, 6), round(high, 6)]}
    why = (
        f"report macro F1 minus that of version {champion.version}: {found.mean:+.4f}, "
        f"95 % interval {low:+.4f} to {high:+.4f} on {len(first.cases if first else ())} test cases"
    )
    return Verdict(low > 0, why, numbers)


def _move(
    store: MlflowStore,
    candidate: ModelVersion,
    champion: ModelVersion | None,
    verdict: Verdict,
    reason: str | None,
) -> None:
    """Note on the version why it became the champion, then let the alias name it."""
    note = verdict.numbers | {
        "instead_of": champion.version if champion else None,
        "forced": reason,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    store.client.set_model_version_tag(NAME, candidate.version, _TAG, json.dumps(note))
    store.client.set_registered_model_alias(NAME, CHAMPION, candidate.version)


def _candidate(store: MlflowStore, wanted: str | None) -> ModelVersion:
    found = {str(v.version): v for v in store.client.search_model_versions(f"name = '{NAME}'")}
    if not found:
        raise ConfigError(NAME, "has no version yet", "run `dvc repro`")
    if wanted is not None and wanted not in found:
        known = ", ".join(sorted(found, key=int))
        raise ConfigError(f"{NAME} {wanted}", "no such version", f"choose one of {known}")
    return found[wanted or max(found, key=int)]


def _champion(store: MlflowStore) -> ModelVersion | None:
    """Find the present champion; None if the alias names none."""
    from mlflow.exceptions import MlflowException

    try:
        return store.client.get_model_version_by_alias(NAME, CHAMPION)
    except MlflowException:
        return None


def _record_of(store: MlflowStore, version: ModelVersion) -> ArmRecord | None:
    """Read the test cases of the newest evaluation of a version's model."""
    sha = version.tags.get(SHA, "")[:_SHORT]
    experiments = store.client.search_experiments(filter_string="name LIKE 'uvlm-%'")
    runs = store.client.search_runs(
        [experiment.experiment_id for experiment in experiments],
        f"tags.`uvlm.scored` = '{sha}' and tags.`dvc.stage` = 'evaluate'",
        order_by=["attributes.start_time DESC"],
    )
    for run in runs:
        artifacts = store.artifacts(run.info.artifact_uri)
        if any(file.path == TEST_CASES for file in artifacts.list_artifacts()):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(artifacts.download_artifacts(TEST_CASES, folder))
                return load_record(path)
    return None

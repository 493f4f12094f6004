"""`uvlm promote` moves the alias only for a model that is better on the same test cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.runs.case_results import TEST_CASES
from pipeline.runs.mlflow_publish import MlflowStore
from pipeline.runs.registry.promote import CHAMPION, NAME, compare, promote
from tests.pipeline.tables.records import flags, mistaken, record
from uvlm.arm_record import ArmRecord, record_text
from uvlm.errors import ConfigError, DataError, SetupError

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)
LABELS = flags(0)


def said(share: float, labels: Any = LABELS, seed: int = 1) -> ArmRecord:
    """Reports that are wrong in a share of the flags."""
    return record({}, "table3_01", 0, mistaken(labels, share, seed), labels)


def register(tmp_path: Path, scored: ArmRecord | None) -> str:
    """Register a version, and the evaluation of its model if there is one; return its number."""
    with MlflowStore.open() as store:
        experiment = store.experiment("phantom")
        number = len(store.client.search_model_versions(f"name = '{NAME}'")) + 1
        sha = f"{number:064}"
        model = store.client.create_logged_model(experiment, "uvlm-report", tags={})
        store.client.finalize_logged_model(str(model.model_id), "READY")
        if number == 1:
            store.client.create_registered_model(NAME)
        store.client.create_model_version(
            NAME, f"models:/{model.model_id}", tags={"uvlm.sha256": f"{number:012}{sha}"},
            model_id=str(model.model_id),
        )  # fmt: skip
        if scored is not None:
            tags = {"uvlm.scored": f"{number:012}", "dvc.stage": "evaluate"}
            run = store.client.create_run(experiment, tags=tags)
            (tmp_path / TEST_CASES).write_text(record_text(scored))
            store.log_path(run.info.run_id, tmp_path / TEST_CASES)
    return str(number)


def champion() -> Any:
    with MlflowStore.open() as store:
        return store.client.get_model_version_by_alias(NAME, CHAMPION)


@pytest.mark.slow
def test_the_first_version_and_then_only_a_better_one(workspace: Path) -> None:
    with pytest.raises(ConfigError, match="no version yet"):
        promote(None, None, force=False)
    register(workspace, said(0.2))
    promote(None, None, force=False)
    assert str(champion().version) == "1"
    register(workspace, said(0.2, seed=2))  # as good
    with pytest.raises(DataError, match=r"95 % interval -"):
        promote(None, None, force=False)
    assert str(champion().version) == "1"
    register(workspace, said(0.05))
    lines = promote(None, None, force=False)
    assert lines[-1] == "uvlm-report 3 is now the champion"
    note = json.loads(champion().tags["uvlm.promotion"])
    assert note["instead_of"] in (1, "1")
    assert note["interval"][0] > 0
    assert promote("3", None, force=False) == ["uvlm-report 3 is the champion already"]
    with pytest.raises(DataError):  # back to a worse one
        promote("1", None, force=False)


@pytest.mark.slow
@pytest.mark.parametrize("other", [None, said(0.0, flags(9))])
def test_what_cannot_be_compared_needs_force_and_a_reason(
    other: ArmRecord | None, workspace: Path
) -> None:
    register(workspace, said(0.2))
    promote(None, None, force=False)
    number = register(workspace, other)
    with pytest.raises(DataError, match=r"never evaluated|other test cases"):
        promote(number, None, force=False)
    for force, reason in ((True, None), (True, " "), (False, "because")):
        with pytest.raises(ConfigError):
            promote(number, reason, force=force)
    promote(number, "another hospital", force=True)
    assert str(champion().version) == number
    assert json.loads(champion().tags["uvlm.promotion"])["forced"] == "another hospital"


def test_a_version_that_does_not_exist_is_refused(workspace: Path) -> None:
    register(workspace, said(0.2))
    with pytest.raises(ConfigError, match="no such version; choose one of 1"):
        promote("7", None, force=False)


def test_outside_a_project_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SetupError, match=r"mlflow\.db: no such file"):
        promote(None, None, force=False)
    assert list(tmp_path.iterdir()) == []


def test_two_seeds_of_one_model_can_be_compared() -> None:
    better, worse = said(0.05), said(0.2).model_copy(update={"seed": 5})
    found = compare(better, worse)
    assert found is not None
    assert found.interval is not None
    assert found.interval[0] > 0
    back = compare(worse, better)
    assert back is not None
    assert back.mean == pytest.approx(-found.mean)

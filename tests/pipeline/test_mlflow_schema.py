"""A database of an older MLflow is brought up to date, one of a newer MLflow is refused."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import URL, create_engine

from pipeline.runs.mlflow_publish import MlflowStore
from pipeline.runs.mlflow_schema import schema_of, upgrade_schema
from pipeline.runs.mlflow_tracker import with_store
from uvlm.errors import SetupError

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)
BEHIND = 12  # schemas, about a year of releases


def config_of(path: Path) -> Config:
    config = Config()
    folder = Path(mlflow.__file__).parent / "store" / "db_migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("sqlalchemy.url", f"sqlite:///{path}".replace("%", "%%"))
    return config


@pytest.fixture
def old_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database as an earlier MLflow left it, made by its own migrations, with a run in it."""
    from mlflow.store.tracking.dbmodels.initial_models import Base

    project = tmp_path / "mein Projekt #1 100%"
    project.mkdir()
    monkeypatch.setenv("DVC_ROOT", str(project))
    path = project / "mlflow.db"
    config = config_of(path)
    revisions = [s.revision for s in ScriptDirectory.from_config(config).walk_revisions()]
    engine = create_engine(URL.create("sqlite", database=str(path)))
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revisions[BEHIND])
    engine.dispose()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "INSERT INTO experiments (experiment_id, name, lifecycle_stage, artifact_location) "
            f"VALUES (1, 'uvlm-phantom', 'active', '{(project / 'mlruns').as_uri()}')"
        )
        database.execute(
            "INSERT INTO runs (run_uuid, name, status, lifecycle_stage, experiment_id, start_time, "
            "source_type, source_name, entry_point_name, user_id, source_version) "
            f"VALUES ('{'a' * 32}', 'old', 'FINISHED', 'active', 1, 0, 'LOCAL', '', '', '', '')"
        )
    return path


@pytest.mark.slow
def test_an_old_database_keeps_its_runs_and_a_copy_of_itself(
    old_database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, found = old_database.read_bytes(), schema_of(old_database)
    with MlflowStore.open() as store:
        assert store.client.get_run("a" * 32).info.run_name == "old"
        store.client.create_run(store.experiment("phantom"))
    assert schema_of(old_database) != found
    assert (old_database.parent / f"mlflow.db.{found}.bak").read_bytes() == before
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if "brought up to MLflow" in line]) == 1
    with MlflowStore.open():
        pass
    assert "brought up" not in capsys.readouterr().err


@pytest.mark.slow
def test_an_upgrade_that_was_killed_is_done_again(old_database: Path) -> None:
    (old_database.parent / "mlflow.db.new").write_bytes(b"half")
    upgrade_schema(old_database.parent)
    names = {path.name for path in old_database.parent.iterdir()} - {".uvlm"}
    assert len(names) == 2
    assert "mlflow.db.new" not in names


def test_a_newer_database_is_refused_in_one_line_and_left_alone(
    tmp_path: Path,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    path = Path(shutil.copy(empty_database, tmp_path / "mlflow.db"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    before = path.read_bytes()
    with pytest.raises(SetupError, match="does not know"):
        upgrade_schema(tmp_path)
    assert not with_store(lambda store: None)
    (line,) = capsys.readouterr().err.splitlines()
    assert "mlflow.db" in line
    assert "install the newer MLflow" in line
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [None, b""])
def test_a_new_project_has_nothing_to_upgrade(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "mlflow.db").write_bytes(content)
    upgrade_schema(tmp_path)
    assert schema_of(tmp_path / "mlflow.db") is None


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"x" * 200)
    with pytest.raises(SetupError, match="is no database of MLflow"):
        upgrade_schema(tmp_path)

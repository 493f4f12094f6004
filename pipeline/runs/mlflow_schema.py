"""The database of an older MLflow, brought up to the installed one; that of a newer one is refused.

The new database is made beside the old one and takes its place when it is whole. The old one stays
as mlflow.db.<schema>.bak.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from pipeline.paths import state_root
from uvlm.errors import SetupError
from uvlm.files import write_json_atomic


def upgrade_schema(root: Path) -> None:
    """Let mlflow.db of the project at `root` have the schema of the installed MLflow.

    Raises:
        SetupError: it was written by a newer MLflow, or is no database of MLflow.
    """
    database = root / "mlflow.db"
    found = schema_of(database)
    if found is None or found == _noted():
        return
    revisions, newest = _known_schemas()
    if found not in revisions:
        fact = f"has a schema ({found}) that the installed MLflow does not know"
        raise SetupError(database, fact, "install the newer MLflow that wrote it, or move it away")
    if found != newest:
        _upgrade(database, found)
    write_json_atomic(_note(), {"mlflow": _version(), "schema": newest})


def schema_of(database: Path) -> str | None:
    """Read which schema a database has; None if it is empty or not there."""
    if not database.is_file():
        return None
    try:
        with closing(sqlite3.connect(database)) as connection:
            tables = {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master")}
            if "alembic_version" not in tables:
                return None
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # locked, or a full disk: not its fault
            raise
        remedy = "move it away; MLflow makes a new one, and the records in .uvlm stay"
        raise SetupError(database, f"is no database of MLflow ({error})", remedy) from None
    return None if row is None else str(row[0])


def _upgrade(database: Path, found: str) -> None:
    """Upgrade a copy, then let it take the place of the original, which stays beside it."""
    from mlflow.store.db.utils import _upgrade_db
    from sqlalchemy import URL, create_engine

    copy = database.with_name(f"{database.name}.new")
    copy.unlink(missing_ok=True)  # of an upgrade that was killed
    with closing(sqlite3.connect(database)) as old, closing(sqlite3.connect(copy)) as new:
        old.backup(new)
    engine = create_engine(URL.create("sqlite", database=str(copy)))
    try:
        _upgrade_db(engine)  # type: ignore[no-untyped-call]
    finally:
        engine.dispose()
    kept = database.with_name(f"{database.name}.{found}.bak")
    kept.unlink(missing_ok=True)
    os.link(database, kept)
    copy.replace(database)
    sys.stderr.write(
        f"{database.name}: brought up to MLflow {_version()}; {kept.name} is as it was\n"
    )


def _known_schemas() -> tuple[set[str], str]:
    """List every schema that the installed MLflow can upgrade from, and the newest."""
    import mlflow
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    folder = Path(mlflow.__file__).parent / "store" / "db_migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    return {script.revision for script in scripts.walk_revisions()}, str(scripts.get_current_head())


def _noted() -> str | None:
    """Read which schema the installed MLflow has, if that was found out before."""
    try:
        noted = json.loads(_note().read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    return str(noted["schema"]) if noted["mlflow"] == _version() else None


def _version() -> str:
    from mlflow.version import VERSION

    return str(VERSION)


def _note() -> Path:
    return state_root() / "mlflow_schema.json"

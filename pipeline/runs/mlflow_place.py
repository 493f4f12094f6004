"""Keep MLflow's artifacts in the project, wherever it lies now.

MLflow stores the artifact folder of each experiment, run and model as an absolute address. After
the project was moved, copied or mounted elsewhere, these still name the old folder, and the next
run would write there. The database comes along with the project, so it is corrected there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

ARTIFACTS: Final = "mlruns"
# Where MLflow 3 keeps addresses; an older database has fewer tables.
_ADDRESSES: Final = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)


def keep_artifacts_in(root: Path) -> None:
    """Let mlflow.db name the artifacts of the project at `root`, where it named those of another.

    Addresses on a server or in a folder that a user chose are not touched.
    """
    database, here = root.resolve() / "mlflow.db", root.resolve() / ARTIFACTS
    if not database.is_file():
        return
    with closing(sqlite3.connect(database)) as connection, connection:
        for old in sorted(_places(connection) - {here}):
            _rewrite(connection, old.as_uri(), here.as_uri())
            _rewrite(connection, str(old), str(here))


def running_in(root: Path) -> set[str]:
    """List the runs of this project that mlflow.db holds as RUNNING; none if it cannot be read."""
    database, found = root / "mlflow.db", set[str]()
    if not database.is_file():
        return found
    query = (
        "SELECT run_uuid FROM runs JOIN experiments USING (experiment_id) "
        "WHERE runs.status = 'RUNNING' AND runs.lifecycle_stage = 'active' "
        "AND experiments.name LIKE 'uvlm-%'"
    )
    with suppress(sqlite3.Error), closing(sqlite3.connect(database)) as connection:
        found = {str(row[0]) for row in connection.execute(query)}
    return found


def _places(connection: sqlite3.Connection) -> set[Path]:
    """Collect the folders called mlruns that hold the artifacts of our experiments."""
    if not list(_columns(connection, "experiments")):
        return set()
    query = "SELECT artifact_location FROM experiments WHERE name LIKE 'uvlm-%'"
    parts = [urlsplit(str(address)) for (address,) in connection.execute(query)]
    local = [
        Path(unquote(p.path) if p.scheme else p.path) for p in parts if p.scheme in ("", "file")
    ]
    return {
        folder
        for path in local
        for folder in (path, path.parent)  # MLflow itself makes a folder for each experiment
        if folder.name == ARTIFACTS and folder.is_absolute()
    }


def _rewrite(connection: sqlite3.Connection, old: str, new: str) -> None:
    """Exchange the beginning of every address that is `old` or lies in it."""
    for table, column in _ADDRESSES:
        if column in _columns(connection, table):
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
            )


def _columns(connection: sqlite3.Connection, table: str) -> Iterator[str]:
    return (str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})"))

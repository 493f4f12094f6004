"""Files that are written whole or not at all, and keys that belong to their content."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

from uvlm import environment


def store_root() -> Path:
    """`$UVLM_DATA_ROOT`, else data/store below the project."""
    return environment.DATA_ROOT.read() or environment.project_root() / "data" / "store"


def write_bytes_atomic(path: Path, payload: bytes, *, durable: bool = True) -> None:
    """Write all of a file or nothing of it.

    Args:
        path: the file; its folder is made.
        payload: the whole content.
        durable: also wait for the disk; not worth it for bytes that a stage can make again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text_atomic(path: Path, text: str) -> None:
    """`write_bytes_atomic` for UTF-8 text."""
    write_bytes_atomic(path, text.encode("utf-8"))


def write_json_atomic(path: Path, document: object) -> None:
    """Write readable JSON in the order given."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    write_text_atomic(path, text + "\n")


def file_sha256(path: Path) -> str:
    """Hash the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(*parts: object) -> str:
    """16 hex digits that belong to these JSON values."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]

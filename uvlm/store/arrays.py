"""Arrays in the store: blosc2 files that carry their own digest.

blosc2 does not checksum the payload, so a flipped bit would go unnoticed; every reader that has a
manifest row passes its digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from uvlm.arrays import Array
from uvlm.errors import DataError
from uvlm.files import write_bytes_atomic

_BLOCK: Final = (24, 32, 32)
_CHUNK: Final = (96, 128, 128)  # whole blocks: chunks that cut blocks double the time per patch
_ONE_CHUNK_BYTES: Final = 2**23
_NOTE: Final = "uvlm"
_REMAKE: Final = "delete it and force the stage that made it"


def array_sha256(array: Array) -> str:
    """Hash dtype, shape and voxels, whatever the memory layout or compression."""
    # Little-endian and C-contiguous, so that the same values hash alike on every machine.
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode("ascii"))
    digest.update(array.data)
    return digest.hexdigest()


def array_path(stage: str, key: str) -> str:
    """Return the path of a key's array, relative to the store."""
    return f"{stage}/{key[:2]}/{key}.b2nd"


def save_array(path: Path, array: Array, note: Mapping[str, Any] | None = None) -> str:
    """Write an array with its digest, atomically; returns the digest.

    Args:
        path: the .b2nd file.
        array: any shape; the last three axes are blocked for reading patches.
        note: small JSON values that `read_note` returns without reading the array.
    """
    import blosc2

    array = np.ascontiguousarray(array)
    sha256 = array_sha256(array)
    meta = {_NOTE: json.dumps({"sha256": sha256, **(note or {})})}
    cparams = blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=1, nthreads=1)
    container = blosc2.asarray(array, **_layout(array), cparams=cparams, meta=meta)
    # Not durable: what a power cut damages fails its digest and is made again.
    write_bytes_atomic(path, container.to_cframe(), durable=False)
    return sha256


def _layout(array: Array) -> dict[str, tuple[int, ...]]:
    """Choose chunks and blocks; blosc2 chooses what is left out."""
    layout = {}
    if array.ndim >= 3 and array.size:
        lead = (1,) * (array.ndim - 3)
        layout["blocks"] = tuple(map(min, (*lead, *_BLOCK), array.shape))
        layout["chunks"] = tuple(map(min, (*lead, *_CHUNK), array.shape))
    if array.size and array.nbytes < _ONE_CHUNK_BYTES:
        layout["chunks"] = array.shape
    return layout


def read_note(path: Path) -> dict[str, Any] | None:
    """Read the digest and note of a stored array; None when it is missing or unreadable."""
    if not path.is_file():
        return None
    try:
        container = _open(path)  # keep a reference: its schunk must not outlive it
        return dict(json.loads(container.schunk.meta[_NOTE]))
    except (DataError, KeyError, ValueError):
        return None


def load_array(path: Path, sha256: str | None = None) -> Array:
    """Read a stored array; with a digest, refuse any other content."""
    array = np.asarray(_open(path)[...])
    if sha256 is not None and array_sha256(array) != sha256:
        raise DataError(path, f"its content is not {sha256[:12]}", _REMAKE)
    return array


def load_region(path: Path, slices: tuple[slice, ...]) -> Array:
    """Read part of a stored array; only the blocks it touches are decompressed."""
    return np.asarray(_open(path)[slices])


def _open(path: Path) -> Any:
    """Open a blosc2 file with one thread: stages already run cases in parallel."""
    import blosc2

    try:
        return blosc2.open(str(path), mode="r", dparams=blosc2.DParams(nthreads=1))
    except FileNotFoundError:
        raise DataError(path, "is not in the store", "force the stage that makes it") from None
    except RuntimeError as error:
        raise DataError(path, f"not a readable array ({error})", _REMAKE) from None

"""Arrays in the store: blosc2 files that carry their own digest.

blosc2 has no checksum of the payload, so a flipped bit would be read in silence; every reader
that has a manifest row passes its digest.
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
_CHUNK: Final = (96, 128, 128)  # whole blocks: a chunk that cuts blocks doubles a patch's time
_ONE_CHUNK_BYTES: Final = 2**23
_NOTE: Final = "uvlm"


def array_sha256(array: Array) -> str:
    """Hash dtype, shape and voxels, whatever the memory layout or compression."""
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode("ascii"))
    digest.update(array.data)
    return digest.hexdigest()


def array_path(stage: str, key: str) -> str:
    """Say where the array of a key lies, relative to the store."""
    return f"{stage}/{key[:2]}/{key}.b2nd"


def save_array(path: Path, array: Array, note: Mapping[str, Any] | None = None) -> str:
    """Write an array with its digest, atomically; returns the digest.

    Args:
        path: the .b2nd file.
        array: any shape; the last three axes are blocked for reading patches.
        note: small JSON values that `read_note` gives back without reading the array.
    """
    import blosc2

    array = np.ascontiguousarray(array)
    sha256 = array_sha256(array)
    chunks, blocks = _layout(array)
    container = blosc2.asarray(
        array,
        blocks=blocks,
        chunks=chunks,
        cparams=blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=1, nthreads=1),
        meta={_NOTE: json.dumps({"sha256": sha256, **(note or {})})},
    )
    write_bytes_atomic(path, container.to_cframe(), durable=False)
    return sha256


def _layout(array: Array) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Choose chunks and blocks; None leaves them to blosc2."""
    if not array.size:
        return None, None
    lead = (1,) * (array.ndim - 3)
    blocks = tuple(map(min, (*lead, *_BLOCK), array.shape)) if array.ndim >= 3 else None
    if array.nbytes < _ONE_CHUNK_BYTES:
        return array.shape, blocks
    return tuple(map(min, (*lead, *_CHUNK), array.shape)) if blocks else None, blocks


def read_note(path: Path) -> dict[str, Any] | None:
    """Read the digest and note of a stored array; None when there is no readable one."""
    if not path.is_file():
        return None
    try:
        container = _open(path)  # its schunk must not outlive it
        return dict(json.loads(container.schunk.meta[_NOTE]))
    except (DataError, KeyError, ValueError):
        return None


def load_array(path: Path, sha256: str | None = None) -> Array:
    """Read a stored array; with a digest, refuse any other content."""
    array = np.asarray(_open(path)[...])
    if sha256 is not None and array_sha256(array) != sha256:
        raise DataError(
            path, f"its content is not {sha256[:12]}", "delete it and force the stage that made it"
        )
    return array


def load_region(path: Path, slices: tuple[slice, ...]) -> Array:
    """Read part of a stored array; only the blocks touched are decompressed."""
    return np.asarray(_open(path)[slices])


def _open(path: Path) -> Any:
    """Open a blosc2 file, single-threaded: stages are parallel over cases."""
    import blosc2

    try:
        return blosc2.open(str(path), mode="r", dparams=blosc2.DParams(nthreads=1))
    except FileNotFoundError:
        raise DataError(path, "is not in the store", "force the stage that makes it") from None
    except RuntimeError as error:
        raise DataError(
            path, f"not a readable array ({error})", "delete it and force the stage that made it"
        ) from None

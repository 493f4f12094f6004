"""Damage to good files, each a function of the file's bytes and a random generator.

`DETECTABLE` leaves a trace in the file itself: a checksum, a size or a second copy of the fact is
wrong. `SILENT` does not: the voxels or the field are stored once and any value could be meant.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import numpy as np
from isal import igzip

Bytes = bytes | bytearray
Damage = Callable[[bytes, np.random.Generator], bytes]

_igzip: Any = igzip  # half typed
_HEADER_BYTES: Final = 352
_SCALING: Final = range(112, 120)  # scl_slope, scl_inter
_OFFSETS: Final = (*range(292, 296), *range(308, 312), *range(324, 328))  # of the sform
_DATA_START: Final = 2048  # behind any text header here


def cut(payload: bytes, generator: np.random.Generator) -> bytes:
    """Leave the first bytes only."""
    return payload[: int(generator.integers(0, len(payload)))]


def tail(payload: bytes, generator: np.random.Generator) -> bytes:
    """Append zeros, noise, or the file once more."""
    more = int(generator.integers(1, 5000))
    return payload + (bytes(more), generator.bytes(more), payload)[int(generator.integers(3))]


def flip(payload: bytes, generator: np.random.Generator) -> bytes:
    """Flip one bit anywhere."""
    return _flipped(payload, int(generator.integers(len(payload))), generator)


def flip_behind_header(payload: bytes, generator: np.random.Generator) -> bytes:
    """Flip one bit of the voxels or their stream."""
    return _flipped(payload, int(generator.integers(_DATA_START, len(payload))), generator)


def flip_trailer(payload: bytes, generator: np.random.Generator) -> bytes:
    """Flip one bit of the last eight bytes: checksum and length of a gzip stream."""
    return _flipped(payload, len(payload) - 1 - int(generator.integers(8)), generator)


def blank_block(payload: bytes, generator: np.random.Generator) -> bytes:
    """Overwrite 512 bytes with zeros, as a bad sector does."""
    start = int(generator.integers(_DATA_START, len(payload) - 512))
    return payload[:start] + bytes(512) + payload[start + 512 :]


def flip_header(payload: bytes, generator: np.random.Generator) -> bytes:
    """Flip one bit of a NIfTI header, except of fields that are stored once."""
    raw = _opened(payload)
    once = {*_SCALING, *(() if has_qform(payload) else _OFFSETS)}
    places = [place for place in range(_HEADER_BYTES) if place not in once]
    return _closed(_flipped(raw, int(generator.choice(places)), generator), payload)


def flip_single_field(payload: bytes, generator: np.random.Generator) -> bytes:
    """Flip one bit of a NIfTI field that is stored once: slope, intercept, a lone origin."""
    raw = _opened(payload)
    places = [*_SCALING, *(() if has_qform(payload) else _OFFSETS)]
    return _closed(_flipped(raw, int(generator.choice(places)), generator), payload)


def change_digit(payload: bytes, generator: np.random.Generator) -> bytes:
    """Change one digit of the spacing, direction or origin in a text header."""
    lines = payload[:_DATA_START].split(b"\n")
    names = (b"ElementSpacing", b"TransformMatrix", b"Offset", b"space directions", b"space origin")
    at, places = 0, []
    for line in lines:
        if line.startswith(names):
            places += [at + i for i, byte in enumerate(line) if chr(byte).isdigit()]
        at += len(line) + 1
    damaged = bytearray(payload)
    place = int(generator.choice(places))
    damaged[place] = ord("0") + (damaged[place] - ord("0") + int(generator.integers(1, 10))) % 10
    return bytes(damaged)


def edit_header(edit: Callable[[bytearray], None]) -> Damage:
    """Change the decompressed header of a NIfTI file on purpose."""

    def damage(payload: bytes, _: np.random.Generator) -> bytes:
        raw = bytearray(_opened(payload))
        edit(raw)
        return _closed(bytes(raw), payload)

    return damage


def put(layout: str, offset: int, *values: float | bytes) -> Callable[[bytearray], None]:
    """Write values into a header."""
    return lambda raw: struct.pack_into("<" + layout, raw, offset, *values)


def scale(offset: int, factor: float) -> Callable[[bytearray], None]:
    """Multiply one float of a header."""

    def edit(raw: bytearray) -> None:
        (value,) = struct.unpack_from("<f", raw, offset)
        struct.pack_into("<f", raw, offset, value * factor)

    return edit


def add(offset: int, number: int) -> Callable[[bytearray], None]:
    """Add to one short of a header."""

    def edit(raw: bytearray) -> None:
        (value,) = struct.unpack_from("<h", raw, offset)
        struct.pack_into("<h", raw, offset, value + number)

    return edit


def _split_z(raw: bytearray) -> None:
    """Declare two volumes of half the slices."""
    (z,) = struct.unpack_from("<h", raw, 46)
    struct.pack_into("<h", raw, 40, 4)
    struct.pack_into("<2h", raw, 46, z // 2, 2)


def mirror_sform(raw: bytearray) -> None:
    """Swap left and right in the sform; a qform, if there is one, stays."""
    row = struct.unpack_from("<4f", raw, 280)
    struct.pack_into("<4f", raw, 280, *(-value for value in row))


HEADER_EDITS: Final[dict[str, Callable[[bytearray], None]]] = {
    "spacing 0": put("f", 80, 0.0),
    "spacing NaN": put("f", 84, np.nan),
    "spacing infinite": put("f", 88, np.inf),
    "spacing negative": put("f", 80, -1.0),
    "spacing 1e-30": put("f", 80, 1e-30),
    "spacing 1e30": put("f", 80, 1e30),
    "spacing a quarter larger than by the affine": scale(80, 1.25),
    "neither qform nor sform": put("2h", 252, 0, 0),
    "sform of zeros": put("12f", 280, *(0.0,) * 12),
    "sform sheared": put("2f", 280, 0.5, 0.5),
    "sform NaN": put("f", 292, np.nan),
    "quaternion longer than 1": put("2h3f", 252, 1, 1, 1.0, 1.0, 1.0),
    "one column more": add(42, 1),
    "one slice fewer": add(46, -1),
    "32767 voxels a side": put("3h", 42, 32767, 32767, 32767),
    "negative length": put("h", 42, -14),
    "no axes": put("h", 40, 0),
    "two axes": put("h", 40, 2),
    "two volumes": _split_z,
    "RGB": put("2h", 70, 128, 24),
    "complex": put("2h", 70, 32, 64),
    "float32 instead of int16": put("2h", 70, 16, 32),
    "uint16 instead of int16": put("2h", 70, 512, 16),
    "8 bits a voxel": put("h", 72, 8),
    "voxels start 4 bytes early": put("f", 108, 348.0),
    "voxels start 2 bytes late": put("f", 108, 354.0),
    "slope NaN": put("f", 112, np.nan),
    "slope 1000": put("f", 112, 1000.0),
    "intercept -8192": put("2f", 112, 1.0, -8192.0),
    "intercept -1024, a second time": put("2f", 112, 1.0, -1024.0),
    "intercept +1024": put("2f", 112, 1.0, 1024.0),
    "metres": put("B", 123, 1),
    "half of a pair of files": put("4s", 344, b"ni1\0"),
    "no magic": put("i", 344, 0),
}


@lru_cache(maxsize=1)
def _opened(payload: bytes) -> bytes:
    return _igzip.decompress(payload) if payload[:2] == b"\x1f\x8b" else payload


def _closed(raw: bytes, like: bytes) -> bytes:
    return _igzip.compress(raw, 1) if like[:2] == b"\x1f\x8b" else raw


def has_qform(payload: bytes) -> bool:
    """Whether a NIfTI file has the position of its voxels twice, as sform and as qform."""
    code: int = struct.unpack_from("<h", _opened(payload), 252)[0]
    return code > 0


def _flipped(payload: bytes, place: int, generator: np.random.Generator) -> bytes:
    damaged = bytearray(payload)
    damaged[place] ^= 1 << int(generator.integers(8))
    return bytes(damaged)

"""The archive on the other side, and how objects get to it."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from pydicom import dcmread, uid

from uvlm.errors import ConfigError, SetupError

_PEER: Final = re.compile(r"([\x21-\x5b\x5d-\x7e]{1,16})@([^\s@:]+):([0-9]{1,5})")
_PORTS: Final = 65536
_WAITS_S: Final = (0.0, 2.0, 10.0)  # before each try
_STORED: Final = (0x0000, 0xB000, 0xB006, 0xB007)  # success, and stored with a remark
_CLASSES: Final = (
    uid.SegmentationStorage,
    uid.ComprehensiveSRStorage,
    uid.SecondaryCaptureImageStorage,
    uid.EncapsulatedPDFStorage,
)


@dataclass(frozen=True)
class Peer:
    """An archive: its AE title, and where it listens."""

    title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read TITLE@HOST:PORT.

        Raises:
            ConfigError: it is something else, or not on this computer.
        """
        found = _PEER.fullmatch(text)
        if not found or not 0 < int(found[3]) < _PORTS:
            raise ConfigError("--peer", f"is {text!r}", "write TITLE@HOST:PORT")
        if not _is_here(found[2]):
            fact = f"{found[2]} is another computer, and patient data would leave this one"
            raise ConfigError("--peer", fact, "name a port of 127.0.0.1, such as that of a tunnel")
        return cls(found[1], found[2], int(found[3]))


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def send(files: Sequence[Path], peer: Peer, own_title: str) -> None:
    """Store all files in the archive; what failed is tried again.

    Raises:
        SetupError: after some tries the archive still lacks a file.
    """
    left, why = list(files), ""
    for wait in _WAITS_S:
        if left:
            time.sleep(wait)
            left, why = _try(left, peer, own_title)
    if not left:
        return
    fact = f"did not take {len(left)} of {len(files)} objects ({why})"
    raise SetupError(f"{peer.title}@{peer.host}:{peer.port}", fact, "check that it is running")


def _try(files: Sequence[Path], peer: Peer, own_title: str) -> tuple[list[Path], str]:
    """Send once; return what is left, and why."""
    from pynetdicom import AE

    node = AE(ae_title=own_title)
    for sop_class in _CLASSES:
        node.add_requested_context(sop_class, [uid.ExplicitVRLittleEndian])
    link = node.associate(peer.host, peer.port, ae_title=peer.title)
    if not link.is_established:
        return list(files), "no association"
    left, why = [], ""
    try:
        for file in files:
            status = _store(link, file)
            if status not in _STORED:
                left.append(file)
                why = f"status {status:#06x}"
    finally:
        link.release()
    return left, why


def _store(link: Any, file: Path) -> int:
    try:
        answer = link.send_c_store(dcmread(file))
    except (ValueError, RuntimeError):  # it accepts no such object, or the association is gone
        return 0x0122
    return int(answer.Status) if "Status" in answer else 0x0110

"""The node: it takes CTs by C-STORE, and answers each study with the objects of its draft.

    archive --C-STORE--> inbox --quiet for some seconds--> one study at a time: answer --> archive

It listens on 127.0.0.1 only, to one archive only, and takes CT images only, so that what it sends
never comes back to it. A study is removed when its answer has been sent, or was refused.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydicom import uid

from uvlm.errors import SetupError, as_known
from uvlm.node.inbox import Inbox, private_folder, remove
from uvlm.node.peer import Peer, send

HOST: Final = "127.0.0.1"
_CTS: Final = (
    uid.CTImageStorage,
    uid.EnhancedCTImageStorage,
    uid.LegacyConvertedEnhancedCTImageStorage,
)
_ECHO: Final = uid.UID("1.2.840.10008.1.1")
_SYNTAXES: Final = [
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.RLELossless,
]
_SUCCESS, _NO_ROOM, _NOT_UNDERSTOOD = 0x0000, 0xA700, 0xC000
_LOOK_S: Final = 0.2
# Makes the objects of the CT in a folder, in another new folder; returns their files.
Answer = Callable[[Path, Path], Sequence[Path]]


@dataclass(frozen=True)
class Node:
    """How this node is called, where it listens, and when a study counts as complete."""

    title: str
    port: int
    peer: Peer
    quiet_s: float


def listen(
    node: Node,
    answer: Answer,
    tell: Callable[[str], object] = lambda line: None,
    go_on: Callable[[], bool] = lambda: True,
) -> None:
    """Receive and answer until `go_on` says no, or an exception such as Ctrl-C ends it.

    Raises:
        SetupError: the port is taken.
    """
    with private_folder() as root:
        inbox = Inbox(root / "studies")
        with _server(node, inbox):
            tell(f"{node.title} listens on {HOST}:{node.port} for {node.peer.title}")
            number = 0
            while go_on():
                folder = inbox.take(node.quiet_s)
                if folder is None:
                    time.sleep(_LOOK_S)
                    continue
                number += 1
                tell(f"study {number}: {_answered(node, answer, folder, root / 'out')}")


def _answered(node: Node, answer: Answer, folder: Path, out: Path) -> str:
    """Answer one study and remove it; whatever goes wrong is told, and names nobody."""
    count = sum(1 for _ in folder.iterdir())
    try:
        files = answer(folder, out)
        send(files, node.peer, node.title)
        return f"{count} files received, {len(files)} objects sent"
    except Exception as error:
        known = as_known(error)
        if known is None:
            return f"{count} files received, no answer: a bug ({type(error).__name__})"
        return f"{count} files received, no answer: {known.fact}"
    finally:
        remove(folder)
        remove(out)


@contextmanager
def _server(node: Node, inbox: Inbox) -> Iterator[None]:
    from pynetdicom import AE, evt

    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # it would name patients
    own = AE(ae_title=node.title)
    own.require_called_aet, own.require_calling_aet = True, [node.peer.title]
    own.add_supported_context(_ECHO)
    for sop_class in _CTS:
        own.add_supported_context(sop_class, _SYNTAXES)

    def store(event: Any) -> int:
        return _store(event, inbox)

    try:
        server = own.start_server(
            (HOST, node.port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
        )
    except OSError as error:
        fact = f"cannot be listened on ({error.strerror})"
        raise SetupError(f"{HOST}:{node.port}", fact, "choose another --port") from None
    try:
        yield
    finally:
        if server is not None:
            server.shutdown()


def _store(event: Any, inbox: Inbox) -> int:
    """Keep what was sent as it was sent."""
    try:
        headers = event.dataset
        # Without UIDs, what comes in one association belongs together.
        study = headers.get("StudyInstanceUID") or headers.get("SeriesInstanceUID")
        study = str(study or f"association {id(event.assoc)}")
        instance = str(event.request.AffectedSOPInstanceUID)
        kept = inbox.keep(study, instance, event.encoded_dataset())
    except OSError:
        return _NO_ROOM
    except Exception:  # pydicom's errors have no common base class
        return _NOT_UNDERSTOOD
    return _SUCCESS if kept else _NO_ROOM

"""Listening: on the loopback address only, with nothing left when it ends."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from uvlm.drafts.private import private_folder
from uvlm.errors import SetupError
from uvlm.inference.predictor import check_claim_more
from uvlm.model.folder import read_config
from uvlm.serve.app import Limits, make_app
from uvlm.serve.guard import HOST, Guard, new_key
from uvlm.serve.jobs import Jobs

_MOST_CONNECTIONS = 32
_GRACE_S = 3


def serve(
    model: Path,
    port: int,
    limits: Limits,
    tell: Callable[[str], object] = lambda line: None,
    claim_more: float = 0.0,
) -> None:
    """Answer until a signal ends it.

    Args:
        model: report folder.
        port: 0 for any that is free.
        limits: see there.
        tell: gets the link, then a line for each CT.
        claim_more: of the reports, see Predictor.

    Raises:
        DataError: the model is none.
        SetupError: the port is taken.
    """
    read_config(model, ("report",))
    check_claim_more(model, claim_more)
    logging.disable(logging.CRITICAL)  # what packages log quotes addresses and uploads
    key = new_key()
    with _bound(port) as listening, private_folder("serve") as root:
        number = int(listening.getsockname()[1])
        jobs = Jobs(root, model, limits.keep_s, tell, claim_more=claim_more)
        app = Guard(make_app(jobs, limits), number, key)
        tell(f"Open http://{HOST}:{number}/?key={key} in a browser on this computer; Ctrl-C ends.")
        settings = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=_GRACE_S,
            ws="none",
        )
        with jobs.working():
            uvicorn.Server(settings).run(sockets=[listening])


def _bound(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen()  # before the link is told
    except OSError as error:
        listening.close()
        fact = f"cannot be listened on ({error.strerror})"
        raise SetupError(f"{HOST}:{port}", fact, "choose another --port") from None
    return listening

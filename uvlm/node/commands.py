"""The command `listen`, which the `uvlm` command mounts.

Nothing heavy is imported until it runs.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uvlm.errors import DataError

if TYPE_CHECKING:
    from uvlm.drafts.batch import Options


def listen(
    model: Annotated[
        Path, typer.Option(help="Model folder, such as data/models/report.", readable=False)
    ],
    peer: Annotated[
        str, typer.Option(metavar="TITLE@HOST:PORT", help="The archive, on this computer.")
    ],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where to listen.")] = 11112,
    title: Annotated[str, typer.Option(help="AE title of this node.")] = "UVLM",
    quiet: Annotated[
        float, typer.Option(min=0.5, help="Seconds without a new file that end a study.")
    ] = 10.0,
    unlike_training: Annotated[
        bool,
        typer.Option("--unlike-training", help="Write and mark reports that would be withheld."),
    ] = False,
    claim_more: Annotated[
        float,
        typer.Option(metavar="X", help="Reports claim more (X > 0) or less; needs cues."),
    ] = 0.0,
) -> None:
    """Answer CTs that an archive sends by DICOM with their drafts, until Ctrl-C."""
    from uvlm.dicom.place import check_installed
    from uvlm.drafts.batch import Options
    from uvlm.inference.predictor import check_claim_more
    from uvlm.node.listen import Node
    from uvlm.node.listen import listen as run
    from uvlm.node.peer import Peer

    options = Options(unlike_training=unlike_training, dicom=True, claim_more=claim_more)

    def answer(study: Path, out: Path) -> Sequence[Path]:
        return draft_objects(study, out, model, options)

    check_installed("highdicom", "pynetdicom")
    check_claim_more(model, claim_more)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to remove what was received
    with suppress(KeyboardInterrupt):
        run(Node(title, port, Peer.parse(peer), quiet), answer, typer.echo)
    typer.echo("stopped; nothing that was received is left")


def draft_objects(study: Path, out: Path, model: Path, options: Options) -> list[Path]:
    """Draft a study into a new folder; return its DICOM objects.

    The model is read for each study, so that a node that waits needs no memory for it.

    Raises:
        DataError: the CT was refused, or cannot carry objects.
    """
    from uvlm.dicom.place import FOLDER
    from uvlm.drafts.batch import predict

    (outcome,) = predict([study], model, out, options)
    if outcome.no_dicom:
        raise DataError(study, outcome.no_dicom)
    return sorted((out / FOLDER).glob("*.dcm"))

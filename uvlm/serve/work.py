"""One CT in a process of its own: whatever a file does to its reader, the page goes on.

    python -m uvlm.serve.work CT MODEL OUT CLAIM_MORE [--unlike-training]

Lines on stdout are JSON: {"step": ...} for each step that has ended, at last {"status", "line"}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from uvlm.drafts.batch import Options, predict
from uvlm.drafts.privacy import line_of
from uvlm.serve.jobs import UNLIKE


def work(ct: Path, model: Path, out: Path, options: Options) -> None:
    """Draft one CT and tell of it."""

    def tell(**told: str) -> None:
        sys.stdout.write(f"{json.dumps(told)}\n")
        sys.stdout.flush()

    try:
        (found,) = predict([ct], model, out, options, tell_step=lambda step: tell(step=step))
        tell(status=found.status, line=found.line)
    except Exception as error:
        tell(status="refused", line=line_of(error, "CT", ct, names=False))


if __name__ == "__main__":
    ct, model, out = map(Path, sys.argv[1:4])
    shift, *extra = sys.argv[4:]
    work(ct, model, out, Options(unlike_training=UNLIKE in extra, claim_more=float(shift)))

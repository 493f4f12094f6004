"""DVC stage `preprocess`: every CT in one orientation, clipped, on one grid; see `shares`."""

from __future__ import annotations

import sys
from typing import NoReturn

from pipeline.shares import refuse, run_cases
from uvlm.data.preprocess import Volumes


def main(options: list[str]) -> NoReturn:
    """Run the stage, or the share of it that the command line names."""
    run_cases("preprocess", Volumes.of, options)
    refuse("preprocess", f"{options} is not an option", "pass nothing or --shard i/n")


if __name__ == "__main__":
    main(sys.argv[1:])

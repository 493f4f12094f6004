"""DVC stage `preprocess`: every CT in one orientation, clipped, on one grid; see `shares`."""

from __future__ import annotations

import sys

from pipeline.shares import run_cases
from uvlm.data.preprocess import Volumes

if __name__ == "__main__":
    run_cases("preprocess", Volumes.of, sys.argv[1:])

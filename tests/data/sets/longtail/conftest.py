"""The disease of `longtail` as its profile has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.profiles import compose
from uvlm.config import LongtailConfig, parse_params


@pytest.fixture(scope="session")
def config(root: Path) -> LongtailConfig:
    longtail = parse_params(compose(root, "longtail"), "longtail").download.longtail
    assert longtail is not None
    return longtail

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.profiles import compose
from tests.pipeline.tables.records import ROOT


@pytest.fixture(scope="session")
def params() -> dict[str, Any]:
    """The phantom's parameters, as a record holds them."""
    return dict(json.loads(json.dumps(compose(ROOT, "phantom"))))

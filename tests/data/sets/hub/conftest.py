"""A hub with one small and one large file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from huggingface_hub import close_session, constants

from tests.data.sets.hub.server import FILES, FakeHub, serve


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub of this test, reachable although the tests are offline otherwise."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "a-token")
    with serve(FakeHub(dict(FILES))) as hub:
        yield hub
    close_session()

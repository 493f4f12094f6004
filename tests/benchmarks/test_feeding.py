"""The benchmark of feeding runs at a tiny size, and a GPU is handed less than a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import feeding, sizes
from uvlm.train.loop.faults import tensors_of


@pytest.mark.slow
@pytest.mark.parametrize("on_device", [True, False])
def test_every_stage_is_read_and_timed(on_device: bool, tmp_path: Path) -> None:
    readers = feeding.readers(sizes.tiny(), tmp_path, on_device=on_device)
    feeds = {
        name: feeding.measure(*reader, repeats=3, hand_over=on_device)
        for name, reader in readers.items()
    }
    assert feeds.keys() == feeding.BARS_MS.keys()
    assert all(0 < feed.reading < feed.whole for feed in feeds.values())
    assert feeding.page(feeds, feeds).count("\n") == 2 + 3


@pytest.mark.slow
def test_a_gpu_is_handed_half_of_the_bytes_at_most(tmp_path: Path) -> None:
    both = [feeding.readers(sizes.tiny(), tmp_path, on_device=d) for d in (True, False)]
    for name in ("stage 2", "stage 3"):
        read: list[Any] = [readers[name][0].read(1) for readers in both]
        gpu, cpu = (sum(t.nbytes for t in tensors_of(batch.x, "").values()) for batch in read)
        assert 2 * gpu == cpu, name

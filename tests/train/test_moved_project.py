"""A project that is renamed, moved or copied while a training is stopped, and goes on there."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.train.chain import Chain
from uvlm.config import Params
from uvlm.errors import Interrupted


class Stop:
    """Counts the steps, and has the training stopped after one of them."""

    def __init__(self, after: int) -> None:
        self.after, self.steps = after, list[int]()

    def update(self, step: int, total: int, loss: float | None = None) -> None:
        self.steps.append(step)
        if step == self.after:
            os.kill(os.getpid(), signal.SIGTERM)


def elsewhere(project: Any, root: Path) -> Any:
    """The same project below another folder."""
    paths = {f.name: getattr(project, f.name) for f in fields(project)}
    moved = {name: root / path.relative_to(project.root) for name, path in paths.items()}
    return type(project)(**moved)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_stopped_training_goes_on_in_the_new_place(
    how: str,
    params: Params,
    project: Any,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = Chain(params, project)
    metrics = whole.seg()
    expected = whole.bytes_of("seg/unet")
    shutil.rmtree(whole.models / "seg")
    with pytest.raises(Interrupted, match="SIGTERM after step 2 of 4"):
        whole.seg(Stop(2))

    target = tmp_path_factory.mktemp("new") / "Röntgen, 2. Kopie #1 100%"
    if how == "moved":
        project.root.rename(target)
    else:
        shutil.copytree(project.root, target)
    monkeypatch.setenv("DVC_ROOT", str(target))
    there, rest = Chain(params, elsewhere(project, target)), Stop(0)
    assert there.seg(rest) == metrics
    assert rest.steps[0] == 3
    assert there.bytes_of("seg/unet") == expected
    state = project.root / ".uvlm/state"
    assert state.exists() == (how == "copied")  # the original may go on as well
    if how == "copied":
        assert list(state.glob("*/state.safetensors"))

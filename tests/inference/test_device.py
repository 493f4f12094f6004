from __future__ import annotations

import pytest
import torch

from uvlm.errors import ConfigError, SetupError
from uvlm.inference.device import choose_device, choose_precision, set_threads


def test_the_environment_chooses_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVLM_DEVICE", "cpu")
    assert choose_device() == torch.device("cpu")
    monkeypatch.setenv("UVLM_DEVICE", "toaster")
    with pytest.raises(ConfigError, match="toaster is no device"):
        choose_device()


def test_a_missing_device_is_a_setup_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("UVLM_DEVICE", "cuda:1")
    with pytest.raises(SetupError, match="cuda:1 is not available"):
        choose_device()


@pytest.mark.parametrize(("has_tiles", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_cpu_uses_bf16_only_with_amx_tiles(
    has_tiles: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UVLM_PRECISION")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_tiles, raising=False)
    assert choose_precision(torch.device("cpu")) == expected


def test_the_environment_overrides_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVLM_PRECISION", "32-true")
    assert choose_precision(torch.device("cuda")) == "32-true"
    monkeypatch.setenv("UVLM_PRECISION", "8")
    with pytest.raises(ConfigError, match="8 is unknown"):
        choose_precision(torch.device("cpu"))


def test_threads_follow_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("UVLM_WORKERS", "2")
    set_threads()
    found = torch.get_num_threads()
    torch.set_num_threads(before)
    assert found == 2

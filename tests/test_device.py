from __future__ import annotations

import pytest
import torch

from uvlm import environment
from uvlm.device import choose_device, choose_device_of_published, choose_precision, set_threads
from uvlm.errors import ConfigError, SetupError


def test_the_environment_chooses_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVLM_DEVICE", "cpu")
    assert choose_device() == torch.device("cpu")
    monkeypatch.setenv("UVLM_DEVICE", "toaster")
    with pytest.raises(ConfigError, match="is 'toaster'; use auto, cpu, cuda"):
        choose_device()


def test_a_missing_device_is_a_setup_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("UVLM_DEVICE", "cuda:1")
    with pytest.raises(SetupError, match="cuda:1 is not available"):
        choose_device()


@pytest.mark.parametrize("text", ["cuda:2", "cuda:256", "cuda:99999999999999", "mps"])
def test_of_two_gpus_there_is_no_third(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch itself keeps eight bits of an index: 256 would be the first one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setenv("UVLM_DEVICE", "cuda:1")
    assert choose_device() == torch.device("cuda", 1)
    monkeypatch.setenv("UVLM_DEVICE", text)
    with pytest.raises(SetupError, match=f"{text} is not available here") as caught:
        choose_device()
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("name", "has_cuda", "ours", "published"),
    [
        ("auto", False, "mps", "cpu"),
        ("auto", True, "cuda", "cuda"),
        ("mps", False, "mps", "mps"),  # who asks for it gets it
        ("cpu", True, "cpu", "cpu"),
    ],
)
def test_auto_never_tries_published_networks_on_mps(
    name: str, has_cuda: bool, ours: str, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setenv("UVLM_DEVICE", name)
    found = choose_device().type, choose_device_of_published().type
    assert found == (ours, published)


@pytest.mark.parametrize(
    ("has_tiles", "has_dot_product", "expected"),
    [(True, False, "bf16-mixed"), (False, True, "bf16-mixed"), (False, False, "32-true")],
)
def test_a_cpu_uses_bf16_only_where_it_multiplies_it(
    has_tiles: bool, has_dot_product: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UVLM_PRECISION")
    support = {"_is_amx_tile_supported": has_tiles, "_is_avx512_bf16_supported": has_dot_product}
    for name, value in support.items():
        monkeypatch.setattr(torch.cpu, name, lambda value=value: value, raising=False)
    assert choose_precision(torch.device("cpu")) == expected
    assert choose_precision(torch.device("cpu"), width=512) == expected
    assert choose_precision(torch.device("cpu"), width=64) == "32-true"
    assert choose_precision(torch.device("cuda"), width=64) == "bf16-mixed"


def test_the_environment_overrides_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVLM_PRECISION", "32-true")
    assert choose_precision(torch.device("cuda")) == "32-true"
    monkeypatch.setenv("UVLM_PRECISION", "8")
    with pytest.raises(ConfigError, match="is '8'"):
        choose_precision(torch.device("cpu"))


def test_threads_follow_their_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("UVLM_WORKERS", "3")
    monkeypatch.setenv("UVLM_THREADS", "2")
    set_threads()
    found = torch.get_num_threads()
    torch.set_num_threads(before)
    assert found == 2


def test_an_unknown_strategy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVLM_STRATEGY", "fsdp")
    with pytest.raises(ConfigError, match="is 'fsdp'; use ddp or fsdp2"):
        environment.STRATEGY.read()

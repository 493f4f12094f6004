"""Out of memory: the table, the advice, and real allocations that fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from tests.train.chain import Chain, changed
from uvlm.config import Params
from uvlm.errors import SetupError
from uvlm.train.loop.memory import is_out_of_memory, saved_for_backward


def real_cpu_error() -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    return caught.value


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), True),
        (MemoryError(), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("shape '[2]' is invalid for input of size 3"), False),
        (OSError(2, "No such file or directory"), False),
        (KeyError("out of memory"), False),
    ],
)
def test_running_out_of_memory_has_many_names(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected


def test_torchs_own_cpu_error_is_recognised() -> None:
    assert is_out_of_memory(real_cpu_error())


def test_what_is_kept_for_the_backward_pass_is_counted_once_and_without_the_weights() -> None:
    linear = nn.Linear(8, 8, bias=False)
    x = torch.randn(100, 8)

    def forward() -> Tensor:
        hidden: Tensor = linear(x)  # keeps x
        return hidden.exp() * hidden  # keeps exp and hidden, exp twice

    size, complete = saved_for_backward(forward, linear)
    assert complete
    assert size == 3 * x.nbytes


class AtLoss:
    """Raises at the first loss of a training, through the hook of a module's forward."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.times = error, times

    def __call__(self, module: nn.Module, inputs: Any) -> None:
        if module.training and isinstance(module, nn.Conv3d | nn.Linear) and self.times:
            self.times -= 1
            raise self.error


def refused(
    chain: Chain, name: str, error: Exception, times: int = 1, **changes: Any
) -> SetupError:
    hook = register_module_forward_pre_hook(AtLoss(error, times))
    try:
        with pytest.raises(SetupError) as caught:
            getattr(chain, name)(**changes)
    finally:
        hook.remove()
    return caught.value


def rows(error: SetupError) -> dict[str, float]:
    """MiB by what holds them."""
    lines = error.details.splitlines()[1:]
    return {line[:14].strip(): float(line[14:26].replace(",", "")) for line in lines}


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), real_cpu_error(), MemoryError()]
)
def test_a_step_that_does_not_fit_shows_a_table_and_names_the_parameter(
    chain: Chain, error: Exception
) -> None:
    told = refused(chain, "seg", error, batch_size=4)
    assert told.exit_code == 4
    assert "\n" not in str(told)
    assert "lower train_seg.batch_size from 4 to 2, and double train_seg.accumulate" in str(told)
    table = rows(told)
    chain.seg(steps=1)
    weights = sum(t.nbytes for t in chain.tensors("seg/unet").values()) / 2**20
    assert table["weights"] == pytest.approx(weights, abs=0.05)
    assert table["gradients"] == table["weights"]
    assert table["optimiser"] == pytest.approx(2 * weights, abs=0.1)  # AdamW has two moments
    assert table["batch"] == pytest.approx(4 * 8 * 8 * 8 * 5 / 2**20, abs=0.05)
    assert table["activations"] > 10 * table["batch"]
    parts = ("weights", "gradients", "optimiser", "batch", "activations")
    assert table["together"] == pytest.approx(sum(table[part] for part in parts), abs=0.3)
    assert table["there is"] > 1000


def test_a_single_case_that_does_not_fit_asks_for_a_smaller_one(chain: Chain) -> None:
    told = refused(chain, "seg", MemoryError(), times=2, batch_size=1)
    assert "at least; not even one case fits" in told.details
    assert "lower" in told.remedy


def test_each_training_names_its_own_parameter(chain: Chain) -> None:
    chain.seg(steps=0)
    told = refused(chain, "cls", MemoryError(), batch_size=2, head_warmup_steps=0)
    assert "train_cls.batch_size from 2 to 1" in told.remedy


@pytest.mark.slow
def test_the_table_of_the_report_training_counts_the_decoder(chain: Chain) -> None:
    chain.params = changed(chain.params, "decoder", width=128, ffn=512)
    chain.seg(steps=0)
    chain.cls(steps=0)
    chain.encode()
    told = refused(chain, "report", MemoryError(), batch_size=4)
    assert "lower train_report.batch_size from 4 to 2" in told.remedy
    table = rows(told)
    chain.report(steps=0)
    weights = sum(t.nbytes for t in chain.tensors("report/decoder").values()) / 2**20
    assert weights > 4
    assert table["weights"] == pytest.approx(weights, abs=0.05)
    assert table["gradients"] == table["weights"]
    assert table["optimiser"] == pytest.approx(2 * weights, abs=0.1)
    assert table["activations"] > 10 * table["batch"]
    parts = ("weights", "gradients", "optimiser", "batch", "activations")
    assert table["together"] == pytest.approx(sum(table[part] for part in parts), abs=0.3)


def test_other_errors_pass_as_they_are(chain: Chain) -> None:
    hook = register_module_forward_pre_hook(AtLoss(RuntimeError("shapes differ"), 1))
    try:
        with pytest.raises(RuntimeError, match="shapes differ"):
            chain.seg()
    finally:
        hook.remove()


_LIMITED = """
import resource, sys
from pathlib import Path
import lightning_fabric
from tests.train.serve import project_of
from tests.train.chain import Chain
from uvlm.config import load_params
root = Path(sys.argv[1])
chain = Chain(load_params(root / "params.yaml"), project_of(root))
chain.seg(steps=1)
def used():
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used() + 100 * 2**20,) * 2)
from uvlm.errors import UvlmError
try:
    chain.seg(steps=2, batch_size=4096)
except UvlmError as error:
    sys.stderr.write(f"{error.details}\\n{error}\\n")
    sys.exit(error.exit_code)
"""


@pytest.mark.slow
def test_a_real_allocation_that_fails_is_explained(
    chain: Chain, params: Params, tmp_path: Path, root: Path
) -> None:
    from pipeline.profiles import write_params

    write_params(tmp_path, params.model_dump(mode="json"))
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    assert "lower train_seg.batch_size from 4096 to 2048" in done.stderr
    assert "activations" in done.stderr
    assert "limit of this process" in done.stderr

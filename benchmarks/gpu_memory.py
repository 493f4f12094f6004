"""What stage 3 holds on a GPU by row of the paper's tables, beside the imagined run's estimate.

    python -m benchmarks.gpu_memory     prints the table and keeps it in reports/benchmarks.md

The very step that `uvlm plan` imagines (uvlm/estimates/networks.py) runs on the device, twice, with
a validation behind it: batch 2, reports of full length, Qwen3's vocabulary. Qwen3-4B has random
weights: its sizes decide, not its numbers. Held is the most that tensors took, reserved what the
allocator had from the driver.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch

from benchmarks.gpu import on_the_gpu
from benchmarks.measure import setting, table
from benchmarks.sizes import ROOT
from pipeline.arms.resolve import compose_arm
from uvlm import environment
from uvlm.config import Params
from uvlm.errors import SetupError
from uvlm.estimates.networks import autocast, report_training, training_sizes

TITLE: Final = "What stage 3 holds on a GPU"
ARMS: Final = {
    "from scratch, encoder frozen": "table5_07",
    "from scratch, encoder trained too": "table5_16",
    "Qwen3-4B, LoRA, encoder frozen": "table5_12",
    "Qwen3-4B, whole, encoder frozen": "table5_13",
}
# As published at huggingface.co/Qwen/Qwen3-4B.
QWEN3_4B: Final = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 2560,
    "initializer_range": 0.02,
    "intermediate_size": 9728,
    "max_position_embeddings": 40960,
    "model_type": "qwen3",
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000,
    "tie_word_embeddings": True,
    "vocab_size": 151936,
}
_PEAK: Final = ("weights", "gradients", "optimiser", "batch", "activations")


def rows(device: torch.device) -> Iterator[list[str]]:
    """Measure each arm, plain and with layers computed again."""
    for name, arm in ARMS.items():
        params = compose_arm(ROOT, arm, "chest", seed=0).params
        for again in (False, True):
            config = params.train_report.model_copy(update={"gradient_checkpointing": again})
            chosen = params.model_copy(update={"train_report": config})
            sizes = training_sizes(report_training, chosen)
            estimate = sum(sizes[part][0] for part in _PEAK)
            found = _measured(chosen, device)
            yield [name, "yes" if again else "no", f"{estimate / 2**30:.1f}", *found]


def _measured(params: Params, device: torch.device) -> list[str]:
    """Take two steps and validate; GiB held and reserved, and milliseconds of the second step."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    took = "does not fit"
    try:
        with torch.device(device):
            training = report_training(params)
            training.step(device)
            torch.cuda.synchronize(device)
            start = time.perf_counter()
            training.step(device)
            torch.cuda.synchronize(device)
            milliseconds = 1e3 * (time.perf_counter() - start)
            training.model.eval()
            with torch.no_grad(), autocast(device, training.width):
                training.validate()
            took = f"{milliseconds:,.0f} ms"
    except torch.OutOfMemoryError:
        pass
    held, reserved = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
    return [f"{held / 2**30:.1f}", f"{reserved / 2**30:.1f}", took]


@contextmanager
def _qwen() -> Iterator[None]:
    """Let UVLM_QWEN3 name a folder with the sizes of Qwen3-4B and no weights."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(QWEN3_4B), encoding="utf-8")
        with setting(environment.QWEN3, folder):
            yield


def main() -> None:
    """Measure on the first GPU."""
    columns = ["decoder and encoder", "layers computed again", "estimate, GiB", "held, GiB",
               "reserved, GiB", "a step"]  # fmt: skip

    def parts(device: torch.device, _: str) -> Iterator[str]:
        found = []
        for row in rows(device):
            sys.stderr.write(" | ".join(row) + "\n")
            found.append(row)
        yield table(columns, found)

    with _qwen():
        on_the_gpu(TITLE, "benchmarks.gpu_memory", parts)


if __name__ == "__main__":
    try:
        main()
    except SetupError as error:
        sys.exit(str(error))

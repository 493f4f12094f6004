"""Named weights of a module: each tensor once, and loaded only if every one fits.

nnU-Net's blocks register a convolution under two names, and its U-Net decoder also holds the
encoder. safetensors refuses such aliases, so a state keeps only the first name of each tensor.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from uvlm.errors import DataError

State = dict[str, Tensor]


def weights_of(module: nn.Module) -> State:
    """Return the parameters and saved buffers of `module`, detached, without aliases."""
    return without_aliases(module.state_dict())


def without_aliases(state: Mapping[str, Tensor]) -> State:
    """Keep the first name of each tensor (same memory, same shape)."""
    first_names: dict[object, str] = {}
    for name, tensor in state.items():
        pointer = tensor.data_ptr()  # 0 for empty and meta tensors, which are no aliases
        first_names.setdefault((pointer, tuple(tensor.shape)) if pointer else name, name)
    return {name: state[name] for name in first_names.values()}


def load_weights(module: nn.Module, state: Mapping[str, Tensor], subject: object) -> None:
    """Copy `state` into `module`; unless every tensor is there and fits, nothing is copied.

    `state` may leave aliases out; `subject` names the file or folder in the error.
    """
    expected = module.state_dict()
    missing, unknown = weights_of(module).keys() - state.keys(), state.keys() - expected.keys()
    problems = [f"no tensor {name}" for name in sorted(missing)]
    problems += [f"unknown tensor {name}" for name in sorted(unknown)]
    problems += [
        f"{name} has shape {tuple(tensor.shape)}, expected {tuple(expected[name].shape)}"
        for name, tensor in state.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        fact = f"weights do not fit {type(module).__name__}: {problems[0]}{more}"
        remedy = "use the weights of a model with the same `encoder`, `decoder` and class counts"
        raise DataError(subject, fact, remedy)
    module.load_state_dict(state, strict=False)

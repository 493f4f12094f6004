"""What nnU-Net's plans and dataset.json say about a network, in this project's terms.

Only what `EncoderConfig` can express is accepted: a 3D residual-encoder U-Net with one stride per
stage, kernels of 3, instance norm and leaky ReLU, on axes in the order (z, y, x).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from uvlm.config import EncoderConfig
from uvlm.errors import DataError

_NETWORK: Final = "ResidualEncoderUNet"
_EXPECTED: Final[dict[str, Any]] = {  # of a dotted name, its last part
    "conv_op": "Conv3d",
    "norm_op": "InstanceNorm3d",
    "nonlin": "LeakyReLU",
    "dropout_op": None,
    "conv_bias": True,
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "nonlin_kwargs": {"inplace": True},
}
_SIZES: Final = {
    "n_stages", "features_per_stage", "strides", "kernel_sizes", "n_blocks_per_stage",
    "n_conv_per_stage_decoder", "dropout_op_kwargs", "deep_supervision",
}  # fmt: skip


def encoder_config(
    plans: Mapping[str, Any], chosen: Mapping[str, Any], subject: object
) -> EncoderConfig:
    """Translate the architecture of one configuration.

    Args:
        plans: nnU-Net's plans.json.
        chosen: the `settings` of the configuration, such as `3d_fullres`.
        subject: names the file in an error.

    Raises:
        DataError: the network has a part that this project's encoder lacks.
    """
    order = list(plans.get("transpose_forward", [0, 1, 2]))
    if order != [0, 1, 2]:
        fact = f"its network reads the axes in the order {order}, not (z, y, x)"
        raise DataError(subject, fact, "plan and train it with `suppress_transpose`")
    architecture = chosen.get("architecture")
    if not isinstance(architecture, Mapping):
        fact = "its plans have no `architecture`"
        raise DataError(subject, fact, "plan it with nnU-Net 2.4 or newer")
    name = str(architecture.get("network_class_name")).rpartition(".")[2]
    arguments = dict(architecture.get("arch_kwargs", {}))
    problems = [] if name == _NETWORK else [f"network is {name}, not {_NETWORK}"]
    problems += _other_operations(arguments)
    if problems:
        raise DataError(subject, "; ".join(problems), "use a checkpoint of a ResEnc preset")
    try:
        return EncoderConfig(
            channels=arguments["features_per_stage"],
            strides=tuple(_one(stride, "strides", subject) for stride in arguments["strides"]),
            blocks=arguments["n_blocks_per_stage"],
            decoder_convs=_one(arguments["n_conv_per_stage_decoder"], "decoder blocks", subject),
        )
    except (KeyError, ValidationError) as error:
        raise DataError(subject, f"its architecture is incomplete ({error!r})") from None


def class_names(dataset: Mapping[str, Any], num_classes: int, subject: object) -> tuple[str, ...]:
    """List the labels of dataset.json by number; number the classes if there are none."""
    labels = {name: n for name, n in dataset.get("labels", {}).items() if name != "ignore"}
    if not labels:
        return tuple(f"class_{number}" for number in range(num_classes))
    if any(isinstance(number, list | tuple) for number in labels.values()):
        fact = "its labels are overlapping regions"
        raise DataError(subject, fact, "use a network with one label per voxel")
    numbers = {int(number): name for name, number in labels.items()}
    if sorted(numbers) != list(range(num_classes)):
        fact = f"its labels are {sorted(numbers)} but the network has {num_classes} classes"
        raise DataError(subject, fact, "use the plans and labels it was trained with")
    return tuple(numbers[number] for number in range(num_classes))


def settings(plans: Mapping[str, Any], configuration: str, subject: object) -> dict[str, Any]:
    """Read a configuration, including what it inherits from others."""
    configurations = plans.get("configurations", {})
    if configuration not in configurations:
        fact = f"its plans have no configuration {configuration!r}"
        raise DataError(subject, fact, f"they have {', '.join(configurations) or 'none'}")
    own = dict(configurations[configuration])
    parent = own.pop("inherits_from", None)
    return {**settings(plans, parent, subject), **own} if parent else own


def _other_operations(arguments: Mapping[str, Any]) -> list[str]:
    """List what differs from this project's encoder."""
    problems = []
    for key, expected in _EXPECTED.items():
        value = arguments.get(key)
        found = value.rpartition(".")[2] if isinstance(value, str) else value
        if found != expected:
            problems.append(f"{key} is {found}, not {expected}")
    kernels = arguments.get("kernel_sizes", 3)
    sizes = {size for kernel in _listed(kernels) for size in _listed(kernel)}
    if sizes != {3}:
        problems.append(f"kernel sizes are {kernels}, not 3")
    unknown = sorted(arguments.keys() - _EXPECTED.keys() - _SIZES)
    return problems + [f"unknown setting {key}" for key in unknown if arguments[key] is not None]


def _one(value: Any, what: str, subject: object) -> int:
    """Return the number that a list repeats."""
    numbers = {int(number) for number in _listed(value)}
    if len(numbers) != 1:
        fact = f"its {what} are {value}, which differ by axis or stage"
        remedy = "use one number for all, as the ResEnc presets plan for isotropic data"
        raise DataError(subject, fact, remedy)
    return numbers.pop()


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]

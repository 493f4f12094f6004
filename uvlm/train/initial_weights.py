"""Where stage 1 starts: from a seeded network, or from the weights of a model folder.

The parameter `train_seg.initial_weights` names the model by its digest; the environment variable
UVLM_INITIAL_WEIGHTS says where to find it. So the parameters alone determine a result.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

from uvlm.config import EncoderConfig, Params
from uvlm.data.contract import contract
from uvlm.environment import INITIAL_WEIGHTS
from uvlm.errors import DataError
from uvlm.model.folder import check_contract
from uvlm.model.load import load_segmenter
from uvlm.model.trained import Part
from uvlm.model.weights import load_weights, weights_of

PREFIX: Final = "sha256:"
_HEAD: Final = "decoder.seg_layers."


class Start(NamedTuple):
    """What a training starts from: what to record, and the parts that have learned already."""

    record: dict[str, Any]
    trained: Collection[Part]


def start_from(unet: ResidualEncoderUNet, params: Params, class_names: Sequence[str]) -> Start:
    """Load the weights that `params` name into a seeded network; without a name, change nothing.

    A model of other classes provides all weights except those of its classification layers.

    Returns:
        The model's digest and how many tensors keep their seeded values, to be recorded; a U-Net
        with a seeded head has not learned to draw masks.

    Raises:
        SetupError: the environment variable is not set.
        DataError: the folder holds another model, or its encoder or preprocessing differ.
    """
    wanted = params.train_seg.initial_weights
    if wanted is None:
        return Start({}, ())
    folder = INITIAL_WEIGHTS.needed(
        "export the folder of that model, as `uvlm import-nnunet` printed it",
        f"is not set, but train_seg.initial_weights is {wanted}",
    )
    model = load_segmenter(folder)
    if not model.sha256.startswith(wanted.removeprefix(PREFIX)):
        fact = f"holds model {PREFIX}{model.sha256[:12]}, train_seg.initial_weights is {wanted}"
        raise DataError(folder, fact, "use the other folder, or change the parameter")
    check_contract(folder, contract(params.preprocess))
    _check_encoder(folder, model.config.encoder, params.encoder)
    state, given = weights_of(unet), weights_of(model.unet)
    if tuple(model.config.class_names) != tuple(class_names):
        given = {name: tensor for name, tensor in given.items() if not name.startswith(_HEAD)}
    load_weights(unet, state | given, folder)
    seeded = len(state.keys() - given.keys())
    record = {"initial_weights": f"{PREFIX}{model.sha256}", "seeded_tensors": seeded}
    return Start(record, model.trained - {"segmentation"} if seeded else model.trained)


def _check_encoder(folder: object, found: EncoderConfig, expected: EncoderConfig) -> None:
    for name, value in expected.model_dump().items():
        other = getattr(found, name)
        if other != value:
            fact = f"encoder.{name} is {other} in the model but {value} in params.yaml"
            raise DataError(folder, fact, "copy the model's encoder section to params.yaml")

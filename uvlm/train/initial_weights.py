"""Where stage 1 starts: the seeded network, or the weights of a model folder.

The parameter `train_seg.initial_weights` says which model, by its digest; the environment variable
UVLM_INITIAL_WEIGHTS says where it lies. So a result follows from the parameters alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

from uvlm.config import EncoderConfig, Params
from uvlm.data.contract import contract
from uvlm.environment import INITIAL_WEIGHTS
from uvlm.errors import DataError
from uvlm.model.folder import check_contract
from uvlm.model.load import load_segmenter
from uvlm.model.weights import load_weights, weights_of

PREFIX: Final = "sha256:"
_HEAD: Final = "decoder.seg_layers."


def start_from(
    unet: ResidualEncoderUNet, params: Params, class_names: Sequence[str]
) -> dict[str, Any]:
    """Put the weights that `params` name into a seeded network; nothing is named, nothing is put.

    A model of other classes gives all weights but those of the layers that tell classes apart.

    Returns:
        What to record: the model's digest, and how many tensors stay as they were seeded.

    Raises:
        SetupError: the environment variable is missing.
        DataError: the folder holds another model, or one of another encoder or preprocessing.
    """
    wanted = params.train_seg.initial_weights
    if wanted is None:
        return {}
    folder = INITIAL_WEIGHTS.needed(
        "export the folder of that model, as `uvlm import-nnunet` printed it",
        f"is not set, but train_seg.initial_weights is {wanted}",
    )
    model = load_segmenter(folder)
    if not model.sha256.startswith(wanted.removeprefix(PREFIX)):
        raise DataError(
            folder,
            f"holds model {PREFIX}{model.sha256[:12]}, train_seg.initial_weights is {wanted}",
            "name the other folder, or set the parameter",
        )
    check_contract(folder, contract(params.preprocess))
    _check_encoder(folder, model.config.encoder, params.encoder)
    state = weights_of(unet)
    given = weights_of(model.unet)
    if tuple(model.config.class_names) != tuple(class_names):
        given = {name: tensor for name, tensor in given.items() if not name.startswith(_HEAD)}
    load_weights(unet, state | given, folder)
    return {
        "initial_weights": f"{PREFIX}{model.sha256}",
        "seeded_tensors": len(state.keys() - given.keys()),
    }


def _check_encoder(folder: object, found: EncoderConfig, expected: EncoderConfig) -> None:
    for name, value in expected.model_dump().items():
        other = getattr(found, name)
        if other != value:
            raise DataError(
                folder,
                f"encoder.{name} is {other} in the model but {value} in params.yaml",
                "set the encoder section as the model has it",
            )

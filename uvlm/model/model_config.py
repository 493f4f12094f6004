"""What config.json of a model folder says: enough to rebuild its modules without params.yaml.

There are three kinds, one per training. `folder.save_model` fills in `weights`, the sha256 of each
weights file; `params` records whatever other sections the training used. `trained` lists the parts
that have learned; None in a folder of an earlier release, which did not say.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, TypeAdapter

from uvlm import config
from uvlm.model.pretrained import Pretrained
from uvlm.model.trained import Part
from uvlm.model.uvlm import SpecialIds

EVIDENCE: Final = "evidence"
METADATA = {
    "axes": "arrays and grids are (z, y, x); z to superior, y to posterior, x to left",
    "units": "input Hounsfield units, prepared as contract.json says",
    "intended_use": "research only; not a medical device; every output is an unreviewed draft",
}


class ModelConfig(config.Section):
    """What model folders of every kind say."""

    module_names: ClassVar[tuple[str, ...]]
    optional_names: ClassVar[tuple[str, ...]] = ()

    format_version: Literal[1] = 1
    encoder: config.EncoderConfig
    grid: config.Grid
    params: dict[str, Any] = Field(default_factory=dict)
    trained: tuple[Part, ...] | None = None
    weights: dict[str, str] = Field(default_factory=dict)
    metadata: dict[str, str] = Field(default_factory=lambda: dict(METADATA))


class SegModelConfig(ModelConfig):
    """Objective 1: a U-Net that separates `class_names` (index 0 is background)."""

    module_names = ("unet", "encoder")

    kind: Literal["seg"] = "seg"
    class_names: tuple[str, ...]


class ClsModelConfig(ModelConfig):
    """Objective 2: an encoder and a classifier of `abnormalities`, and of their `attributes`.

    `evidence` is no module: logits (A, 1 + V) of every training case, by its id, of classifiers
    that had not met the case. Stage 3 learns from it how far its cues may be trusted.
    """

    module_names = ("encoder", "classifier")
    optional_names = (EVIDENCE,)

    kind: Literal["cls"] = "cls"
    classifier: config.ClassifierConfig
    abnormalities: tuple[str, ...]
    attributes: tuple[str, ...] = ()


class ReportModelConfig(ModelConfig):
    """Objective 3: everything `predict` needs.

    `pretrained` is the Qwen3 behind the kinds qwen3_*. With qwen3_lora, the weights of `decoder`
    are the adapter and the projections, and `predict` reads the same Qwen3 from UVLM_QWEN3.
    If stage 3 trained the encoder too, `classifier_encoder` is the one that the classifier and its
    thresholds were made for.
    """

    module_names = ("unet", "encoder", "classifier", "decoder")
    optional_names = ("classifier_encoder",)

    kind: Literal["report"] = "report"
    class_names: tuple[str, ...]
    classifier: config.ClassifierConfig
    abnormalities: tuple[str, ...]
    attributes: tuple[str, ...] = ()
    decoder: config.DecoderConfig
    injection: config.InjectionConfig
    vocabulary_size: int
    specials: SpecialIds
    pretrained: Pretrained | None = None

    @property
    def classifier_encoder(self) -> str:
        """Name of the weights of the encoder that the classifier reads."""
        return "classifier_encoder" if "classifier_encoder" in self.weights else "encoder"


AnyModelConfig = SegModelConfig | ClsModelConfig | ReportModelConfig
MODEL_CONFIG: TypeAdapter[AnyModelConfig] = TypeAdapter(
    Annotated[AnyModelConfig, Field(discriminator="kind")]
)

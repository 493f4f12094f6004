"""From parameter sections to modules: the only file that knows both for objectives 2 and 3.

`unet.py` does the same for the encoder and the U-Net. Stages and layers count from 1.
"""

from __future__ import annotations

from uvlm.config import ClassifierConfig, DecoderConfig, EncoderConfig, Grid, InjectionConfig
from uvlm.errors import ConfigError
from uvlm.model.align import feature_grids, num_visual_tokens, token_counts
from uvlm.model.classifier import Classifier
from uvlm.model.decoder import LanguageDecoder
from uvlm.model.inject import injection_plan
from uvlm.model.pretrained import QwenSource, find_qwen
from uvlm.model.projection import Projection
from uvlm.model.qwen import build_qwen
from uvlm.model.uvlm import UVLM, Decoder, SpecialIds

FRAMING_POSITIONS = 4  # start and end of image, <bos>, <eos>


def build_classifier(
    encoder: EncoderConfig, classifier: ClassifierConfig, grid: Grid, num_classes: int
) -> Classifier:
    """Build the query classifier over the deepest stage of an encoder that reads `grid` voxels."""
    channels = encoder.channels[-1]
    if channels % classifier.heads:
        raise ConfigError(
            "classifier.heads",
            f"{classifier.heads} heads do not divide the {channels} channels of the last stage",
            "choose a divisor",
        )
    depth, height, width = feature_grids(grid, encoder.strides)[-1]
    return Classifier(
        channels,
        num_classes,
        num_queries=classifier.num_queries,
        heads=classifier.heads,
        grid_tokens=depth * height * width,
        dropout=classifier.dropout,
    )


def build_uvlm(
    encoder: EncoderConfig,
    decoder: DecoderConfig,
    injection: InjectionConfig,
    grid: Grid,
    vocabulary_size: int,
    specials: SpecialIds,
    qwen: QwenSource | None = None,
) -> UVLM:
    """Build decoder, projections and plan for an encoder that reads `grid` voxels.

    `qwen` is what a Qwen3 decoder starts from; else the folder of UVLM_QWEN3 is.
    """
    reference = injection.reference_stage
    plan = injection_plan(injection.kind, injection.layer_by_stage)
    input_stage = None if injection.input_tokens == "zeros" else reference
    stages = set(plan.values()) | ({input_stage} if input_stage else set())
    if not stages:
        raise ConfigError(
            "injection.input_tokens",
            "with kind input_only and zeros at the input no visual feature reaches the decoder",
            "use `reference`",
        )
    own_tokens = token_counts(grid, encoder.strides, reference, injection.deeper)
    projections = {
        stage: Projection(
            encoder.channels[stage - 1], decoder.width, injection.projection, own_tokens[stage - 1]
        )
        for stage in sorted(stages)
    }
    num_tokens = num_visual_tokens(grid, encoder.strides, reference)
    max_positions = num_tokens + decoder.max_report_tokens + FRAMING_POSITIONS
    language: Decoder
    if decoder.kind == "scratch":
        language = LanguageDecoder(vocabulary_size, decoder, max_positions, injection.position)
    else:
        language = build_qwen(decoder, qwen or find_qwen(), vocabulary_size, injection.position)
    gated = injection.gate == "scalar"
    return UVLM(language, projections, plan, input_stage, specials, gated)

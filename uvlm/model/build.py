"""From parameter sections to modules: the only file that knows both.

Stages and layers count from 1. B batch, C channels, (D, H, W) = (z, y, x) voxels, S stages.
"""

from __future__ import annotations

from math import prod

from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder

from uvlm.config import ClassifierConfig, DecoderConfig, EncoderConfig, Grid, InjectionConfig
from uvlm.errors import ConfigError
from uvlm.model.align import feature_grids, num_visual_tokens, token_counts
from uvlm.model.attribute_head import AttributeHead
from uvlm.model.classifier import Classifier
from uvlm.model.cues import CueForm, CueReadout, CueSizes, CueTokens
from uvlm.model.decoder import DecoderSizes, LanguageDecoder
from uvlm.model.inject import Position, injection_plan
from uvlm.model.pooled import PooledTokens, num_pooled
from uvlm.model.pretrained import SIZES, QwenOrigin, check_sizes, find_qwen
from uvlm.model.projection import Projection
from uvlm.model.qwen import QwenDecoder, adapted, qwen3
from uvlm.model.unet import encoder_arguments, use_safe_convolutions
from uvlm.model.uvlm import UVLM, Decoder, SpecialIds

FRAMING_POSITIONS = 4  # start and end of image, <bos>, <eos>


def build_unet(
    encoder: EncoderConfig, num_classes: int, deep_supervision: bool = True
) -> ResidualEncoderUNet:
    """Build a He-initialised U-Net: (B, 1, D, H, W) -> logits (B, num_classes, D, H, W).

    With deep supervision the output is a list of logits instead, full resolution first, one per
    stage but the deepest. Setting `unet.decoder.deep_supervision` switches a built network.
    """
    unet = ResidualEncoderUNet(
        num_classes=num_classes,
        n_conv_per_stage_decoder=encoder.decoder_convs,
        deep_supervision=deep_supervision,
        **encoder_arguments(encoder.channels, encoder.strides, encoder.blocks),
    )
    unet.apply(ResidualEncoderUNet.initialize)
    use_safe_convolutions(unet)
    return unet


def build_encoder(config: EncoderConfig) -> ResidualEncoder:
    """Build the encoder alone: (B, 1, D, H, W) -> S features (B, C_i, D_i, H_i, W_i)."""
    arguments = encoder_arguments(config.channels, config.strides, config.blocks)
    encoder = ResidualEncoder(return_skips=True, **arguments)
    encoder.apply(ResidualEncoderUNet.initialize)
    use_safe_convolutions(encoder)
    return encoder


def build_classifier(
    encoder: EncoderConfig,
    classifier: ClassifierConfig,
    grid: Grid,
    num_classes: int,
    num_values: int = 0,
) -> Classifier:
    """Build the query classifier over the deepest stage of an encoder that reads `grid` voxels.

    With `num_values` of attributes it has a second head, which draws no random number.
    """
    channels = encoder.channels[-1]
    if channels % classifier.heads:
        fact = f"{classifier.heads} heads do not divide the {channels} channels of the last stage"
        raise ConfigError("classifier.heads", fact, "choose a divisor")
    grid_tokens = prod(feature_grids(grid, encoder.strides)[-1])
    queries, heads, dropout = classifier.num_queries, classifier.heads, classifier.dropout
    built = Classifier(channels, num_classes, queries, heads, grid_tokens, dropout)
    if num_values:
        deepest = feature_grids(grid, encoder.strides)[-1]
        built.attributes = AttributeHead(channels, num_classes, num_values, deepest)
    return built


def build_qwen(
    decoder: DecoderConfig, origin: QwenOrigin, vocabulary_size: int, position: Position
) -> QwenDecoder:
    """Build Qwen3 for kind qwen3_lora or qwen3_full; the sizes given must be Qwen3's own."""
    check_sizes(decoder.model_dump(include=set(SIZES)), origin.pretrained.architecture)
    model = qwen3(origin, vocabulary_size, decoder.dropout)
    is_adapted = decoder.kind == "qwen3_lora"
    if is_adapted:
        model = adapted(model, decoder.lora_rank, decoder.lora_alpha, decoder.lora_dropout)
    return QwenDecoder(model, vocabulary_size, position, is_adapted)


def build_uvlm(
    encoder: EncoderConfig,
    decoder: DecoderConfig,
    injection: InjectionConfig,
    grid: Grid,
    vocabulary_size: int,
    specials: SpecialIds,
    qwen: QwenOrigin | None = None,
    cue_sizes: CueSizes | None = None,
) -> UVLM:
    """Build decoder, projections and plan for an encoder that reads `grid` voxels.

    A Qwen3 decoder starts from `qwen`, or from the folder of UVLM_QWEN3. With `injection.cues`
    or `injection.pooled`, `cue_sizes` count what the classifier knows; these are seeded last.
    """
    reference = injection.reference_stage
    plan = injection_plan(injection.kind, injection.layer_by_stage)
    input_stage = None if injection.input_tokens == "zeros" else reference
    stages = set(plan.values()) | ({input_stage} if input_stage else set())
    if not stages:
        fact = "with kind input_only and zeros at the input no visual feature reaches the decoder"
        raise ConfigError("injection.input_tokens", fact, "use `reference`")
    own_tokens = token_counts(grid, encoder.strides, reference, injection.deeper)
    projections = {
        stage: Projection(
            encoder.channels[stage - 1], decoder.width, injection.projection, own_tokens[stage - 1]
        )
        for stage in sorted(stages)
    }
    cues, num_further = _cues(injection, cue_sizes), _num_pooled(injection, cue_sizes)
    language: Decoder
    if decoder.kind == "scratch":
        num_tokens = num_visual_tokens(grid, encoder.strides, reference)
        num_cues = cues[0].num_classes * len(cues[1].parts(cues[0].kinds)) if cues else 0
        num_tokens += num_cues + num_further
        max_positions = num_tokens + decoder.max_report_tokens + FRAMING_POSITIONS
        sizes = DecoderSizes(
            decoder.layers, decoder.width, decoder.heads, decoder.ffn, decoder.dropout
        )
        language = LanguageDecoder(vocabulary_size, sizes, max_positions, injection.position)
    else:
        language = build_qwen(decoder, qwen or find_qwen(), vocabulary_size, injection.position)
    uvlm = UVLM(language, projections, plan, input_stage, specials, injection.gate == "scalar")
    if num_further:
        uvlm.pooled = PooledTokens(num_further, encoder.channels[-1], decoder.width)
    if cues:
        uvlm.cues = CueTokens(cues[0], decoder.width, cues[1])
    if cues and injection.cue_readout:
        uvlm.readout = CueReadout(decoder.width, decoder.heads)
    return uvlm


def _num_pooled(injection: InjectionConfig, sizes: CueSizes | None) -> int:
    if injection.pooled != "none" and sizes is None:
        raise ConfigError("injection.pooled", "it needs a classifier", "train stage 2 first")
    return num_pooled(injection.pooled, sizes.num_queries if sizes else 0)


def _cues(injection: InjectionConfig, sizes: CueSizes | None) -> tuple[CueSizes, CueForm] | None:
    """Say how many cues there are and what they say; None without cues."""
    if injection.cues == "none":
        return None
    if sizes is None:
        raise ConfigError("injection.cues", "cues need a classifier", "train stage 2 first")
    return sizes, CueForm(injection.cues, injection.cue_tokens, injection.cue_values)

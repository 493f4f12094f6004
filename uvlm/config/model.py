"""Sections of the modules that several stages build: encoder, classifier, language decoder."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from uvlm.config.section import Count, Fraction, Section, forbid


class TokenizerConfig(Section):
    """Byte-pair encoding of the training reports, or Qwen3's vocabulary for parity."""

    kind: Literal["bpe", "qwen3"]
    vocabulary_size: int = Field(ge=300)


class EncoderConfig(Section):
    """ResidualEncoderUNet: one entry per stage, shallow to deep."""

    channels: tuple[Count, ...]
    strides: tuple[Count, ...]
    blocks: tuple[Count, ...]
    decoder_convs: int = Field(ge=1)

    @model_validator(mode="after")
    def _one_entry_per_stage(self) -> Self:
        lengths = len(self.channels), len(self.strides), len(self.blocks)
        fact = "{} channels, {} strides, {} blocks: one of each per stage".format(*lengths)
        forbid((len({*lengths}) != 1, fact))
        return self


class ClassifierConfig(Section):
    """Query pooling over the deepest stage (paper eq. 2).

    `attributes` adds a head for side, lobe and size, taught by what the training reports say.
    """

    num_queries: int = Field(ge=1)
    heads: int = Field(ge=1)
    dropout: Fraction = Field(ge=0, lt=1)
    attributes: bool = False  # as an earlier release, which has no such key


class DecoderConfig(Section):
    """The language decoder: our own, or Qwen3 with an adapter (LoRA) or fully trained.

    For Qwen3 the sizes must equal those in its config.json, and `dropout` is that of its attention.
    Only qwen3_lora reads `lora_*`.
    """

    kind: Literal["scratch", "qwen3_lora", "qwen3_full"]
    layers: int = Field(ge=1)
    width: int = Field(ge=8)
    heads: int = Field(ge=1)
    ffn: int = Field(ge=8)
    dropout: Fraction = Field(ge=0, lt=1)
    lora_rank: int = Field(ge=1)
    lora_alpha: float = Field(gt=0)
    lora_dropout: Fraction = Field(ge=0, lt=1)
    max_report_tokens: int = Field(ge=8)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        # Rotary positions turn pairs of numbers, so the width of a head is even.
        fact = f"width {self.width} is not a multiple of 2 x {self.heads} heads"
        forbid((self.width % (2 * self.heads), fact))
        return self


class InjectionConfig(Section):
    """Alignment (eq. 4) and multi-layer injection (eq. 5); stages and layers count from 1.

    deeper: what fills up stages deeper than the reference: zero tokens at the end (the paper), or
        the deeper stage's nearest voxel for every reference voxel.
    position: where a layer receives its features: before it (eq. 5), or between its attention and
        its feed-forward, as in the authors' release.
    gate: `scalar` multiplies each injection by a learned number that starts at 1.
    cues: one more token for each abnormality, moved by what the classifier believes of its
        presence, of its attributes (side, lobe, size), or of both.
    cue_tokens: `by_kind` splits it into one of presence and one of each attribute.
    cue_readout: text reads the cues once more, by an attention of its own behind the last layer.
    pooled: further visual tokens: what the classifier's queries pool of the deepest stage, its
        averages over eight regions of the body, or both.
    cue_values: attributes as sure as the classifier is (`graded`), or as its first choice.
    """

    kind: Literal["multi_layer", "input_only"]
    reference_stage: int = Field(ge=1)
    layer_by_stage: dict[int, int]
    pooling: Literal["average", "max"]
    deeper: Literal["zeros", "interpolated"]
    position: Literal["before_layer", "after_attention"]
    gate: Literal["none", "scalar"]
    projection: Literal["linear", "mlp"]
    input_tokens: Literal["reference", "zeros"]
    # As an earlier release, which has no such key.
    cues: Literal["none", "presence", "attributes", "both"] = "none"
    cue_tokens: Literal["one", "by_kind"] = "one"
    cue_readout: bool = False
    pooled: Literal["none", "queries", "regions", "both"] = "none"
    cue_values: Literal["graded", "likeliest"] = "graded"

"""Sections of the stages that use a trained model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from uvlm.config.section import Section


class EncodeConfig(Section):
    """How the frozen encoder's aligned tokens are stored.

    Training cases have `views`: the first as they are, the others with `train_report.augment`.
    """

    dtype: Literal["float16", "float32"]
    views: int = Field(ge=1, le=8)


class GenerateConfig(Section):
    """Decoding of test reports: `temperature: 0` is greedy."""

    batch_size: int = Field(ge=1)
    temperature: float = Field(ge=0)


class EvaluateConfig(Section):
    """Labeller and intervals; METEOR is computed where there is also a Java that runs it."""

    labeller: Literal["phantom", "rules", "radbert", "llm"]
    meteor: bool
    bootstrap_samples: int = Field(ge=0)


class SummarizeConfig(Section):
    """What the summary page shows."""

    num_examples: int = Field(ge=1)

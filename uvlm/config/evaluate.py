"""Sections of the stages that use a trained model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from uvlm.config.section import Section


class EncodeConfig(Section):
    """How the frozen encoder's aligned tokens are stored.

    Training cases have `views`: the first as they are, the others with `train_report.augment`.
    """

    dtype: Literal["float16", "float32"]
    views: int = Field(ge=1, le=8)


class GenerateConfig(Section):
    """Decoding of test reports; `uvlm.inference.decoding.Decoding` says what each number does.

    `max_tokens: null` is as long as the reports trained on (decoder.max_report_tokens).
    """

    batch_size: int = Field(ge=1)
    max_tokens: int | None = Field(ge=1)
    min_tokens: int = Field(ge=0)
    temperature: float = Field(ge=0)
    top_p: float = Field(gt=0, le=1)
    repetition_penalty: float = Field(gt=0)
    no_repeat_ngram: int = Field(ge=0)
    num_beams: int = Field(ge=1)
    length_penalty: float = Field(ge=0)
    stop_after_repeats: int = Field(ge=0)

    @model_validator(mode="after")
    def _every_number_has_an_effect(self) -> Self:
        if self.temperature == 0 and self.top_p < 1:
            raise ValueError(
                f"top_p {self.top_p} draws nothing at temperature 0; raise one of them"
            )
        if self.temperature > 0 and self.num_beams > 1:
            raise ValueError(
                f"{self.num_beams} beams do not draw; set temperature 0 or num_beams 1"
            )
        if self.num_beams == 1 and self.length_penalty != 1:
            raise ValueError(
                f"length_penalty {self.length_penalty} compares beams; raise num_beams"
            )
        if self.no_repeat_ngram == 1:
            raise ValueError("no_repeat_ngram 1 allows every word once; use 0 or 2 and more")
        if self.stop_after_repeats == 1:
            raise ValueError("stop_after_repeats 1 stops every report; use 0 or 2 and more")
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} exceeds max_tokens {self.max_tokens}")
        return self


class EvaluateConfig(Section):
    """Labeller and intervals; METEOR is computed where there is also a Java that runs it."""

    labeller: Literal["phantom", "rules", "radbert", "llm"]
    meteor: bool
    bootstrap_samples: int = Field(ge=0)


class SummarizeConfig(Section):
    """What the summary page shows; `goals` are minima of headline numbers by dotted name."""

    num_examples: int = Field(ge=1)
    goals: tuple[tuple[str, float], ...] = ()  # files from before there were goals have none

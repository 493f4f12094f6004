"""Sections of the stages that use a trained model."""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import Field, model_validator

from uvlm.config.section import Section, forbid


class EncodeConfig(Section):
    """How the frozen encoder's aligned tokens are stored.

    A training case has several `views`: the CT as it is, then augmented by `train_report.augment`.
    """

    dtype: Literal["float16", "float32"]
    views: int = Field(ge=1, le=8)


class GenerateConfig(Section):
    """Decoding of test reports; `uvlm.inference.decoding.Decoding` explains each number.

    `max_tokens: null` allows as many as the training reports have (decoder.max_report_tokens).
    `cue_guidance` is how far beyond cues reports go: see docs/training_options.md.
    `cue_shift` is added to the logit of every cue: above 0, reports claim more; below, less.
    `cue_shifts` are those of the precision-recall curve over the validation split.
    `hold_impressions` writes again what an impression names and its findings do not.
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
    cue_guidance: float = Field(ge=0, le=10, default=0.0)
    cue_shift: float = 0.0  # as an earlier release, which has no such key
    cue_shifts: tuple[float, ...] = ()
    hold_impressions: bool = False

    @model_validator(mode="after")
    def _every_number_has_an_effect(self) -> Self:
        least, most = self.min_tokens, self.max_tokens
        forbid(
            (self.temperature == 0 and self.top_p < 1,
             f"top_p {self.top_p} has no effect at temperature 0; raise one of them"),
            (self.temperature > 0 and self.num_beams > 1,
             f"{self.num_beams} beams do not sample; set temperature 0 or num_beams 1"),
            (self.num_beams == 1 and self.length_penalty != 1,
             f"length_penalty {self.length_penalty} compares beams; raise num_beams"),
            (self.num_beams > 1 and self.cue_guidance > 0,
             "cue_guidance does not guide beams; use num_beams 1"),
            (len(set(self.cue_shifts)) < len(self.cue_shifts),
             "cue_shifts names a shift twice"),
            (self.no_repeat_ngram == 1,
             "no_repeat_ngram 1 allows every word only once; use 0, or 2 and more"),
            (self.stop_after_repeats == 1,
             "stop_after_repeats 1 stops every report; use 0, or 2 and more"),
            (most is not None and least > most, f"min_tokens {least} exceeds max_tokens {most}"),
        )  # fmt: skip
        return self


F1_AVERAGES: Final = ("macro_f1", "weighted_f1", "micro_f1")
# The baselines that never look at the image; reports are to be better than the best of them.
TRIVIAL: Final = ("constant_normal", "constant_abnormal", "most_frequent", "random")


class EvaluateConfig(Section):
    """Labeller and intervals; METEOR also needs a Java that runs."""

    labeller: Literal["phantom", "longtail", "rules", "radbert", "llm"]
    meteor: bool
    bootstrap_samples: int = Field(ge=0)


class SummarizeConfig(Section):
    """What the summary page shows; `goals` are minima of headline numbers, by dotted name.

    `note` stands at the top of the page, below the warning; "" for none.
    """

    num_examples: int = Field(ge=1)
    goals: tuple[tuple[str, float], ...] = ()  # files from before there were goals have none
    note: str = ""  # nor did they have notes

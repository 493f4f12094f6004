"""`uvlm evaluate --cues`: reports of a finished model with cues that its classifier did not give.

No stage can do this: it is no parameter. What is written says which cues it was made with, in its
names (predictions_cues_oracle.jsonl, scores_cues_oracle.json), in every line and on the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from uvlm.errors import ConfigError
from uvlm.inference.cue_controls import CONTROLS, Control, oracle, shuffled, unknown

if TYPE_CHECKING:
    from torch import Tensor

    from uvlm.config import Params
    from uvlm.data.examples import Example
    from uvlm.model.load import ReportModel

NOTES: Final[dict[Control, str]] = {
    "oracle": "CUES OF AN ORACLE: every report was given what is true of its case. No result of a "
    "model, but how far its decoder follows cues.",
    "shuffled": "CUES OF OTHER PATIENTS: every report was given what the classifier believes of "
    "another case. A control, no result of a model.",
    "unknown": "NO CUES: every report was written without what the classifier believes. A control.",
}


def parse_control(text: str) -> Control:
    """Read the value of --cues."""
    for control in CONTROLS:
        if text == control:
            return control
    raise ConfigError("--cues", f"is {text!r}", f"choose {', '.join(CONTROLS)}")


def check_control(control: Control, config: Any, *, mirrored: bool) -> None:
    """Refuse a control that would say nothing of this model, `config` of its folder."""
    if control == "own":
        return
    if config.injection.cues == "none":
        remedy = "train one with injection.cues, or leave out --cues"
        raise ConfigError("--cues", "this model was trained without cues", remedy)
    if config.trained is not None and "classifier" not in config.trained:
        raise ConfigError("--cues", "the classifier of this model never learned", "train stage 2")
    if mirrored:
        fact = "mirrored CTs have other labels than the CTs that cues are made for"
        raise ConfigError("--cues", fact, "leave out --mirrored")


def named(file: str, control: Control) -> str:
    """Name a file by the cues it was made with: scores.json, scores_cues_oracle.json."""
    stem, dot, suffix = file.rpartition(".")
    return file if control == "own" else f"{stem}_cues_{control}{dot}{suffix}"


def control_evidence(
    control: Control,
    model: ReportModel,
    examples: Sequence[Example],
    params: Params,
    names: Sequence[str],
) -> Tensor | None:
    """Make the evidence (N, A, 1 + V) that reports of `examples` are given; None for their own."""
    import torch

    from uvlm.data.examples import of_other_patients
    from uvlm.evaluation.labeller import get_attribute_reader
    from uvlm.inference.describe import read_evidence
    from uvlm.train.heads.attributes import told_evidence

    if control == "own":
        return None
    evidence = read_evidence(model, examples, params.preprocess, params.generate.batch_size)
    if control == "unknown":
        return unknown(evidence)
    cases = [example.case for example in examples]
    if control == "shuffled":
        numbers = {case.case_id: number for number, case in enumerate(cases)}
        return shuffled(
            evidence, [numbers[c.case_id] for c in of_other_patients(cases, params.seed)]
        )
    assert model.uvlm.cues is not None
    _, read = get_attribute_reader(params.evaluate.labeller, names)
    truth = torch.from_numpy(told_evidence(cases, names, read)).float()[..., : evidence.shape[2]]
    return oracle(evidence, truth, model.uvlm.cues.cuts.cpu())

"""What an arm means for one profile: the parameters that it sets.

An arm sets every key of the method, so that a default changed in a profile changes no row; the
profile keeps data, sizes, lengths and recipes of the trainings. What would silently do nothing is
refused: a stage that the profile does not train, a number of tokens that no encoder stage has, and
an arm that trains the same as another one.

N stages of the encoder, counted from 1, shallow to deep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.arms.random_qwen import MARK, NOTE, RANDOM_SIZES
from pipeline.arms.read import Arm, Meaning, arm_names, read_arm, read_arms, read_method
from pipeline.profiles import compose, flatten, with_values
from uvlm.config import Params, parse_params
from uvlm.environment import QWEN3
from uvlm.errors import ConfigError
from uvlm.files import key_of
from uvlm.model.align import num_visual_tokens
from uvlm.model.pretrained import SIZES as QWEN_NAMES
from uvlm.model.pretrained import read_architecture

NOTHING: Final[Mapping[str, Any]] = {}
_OTHER: Final[Mapping[str, Any]] = {"average": "max", "max": "average"}
_AFTER_STAGE_2: Final = ("tokenizer", "decoder", "injection", "train_report", "generate")


@dataclass(frozen=True)
class ComposedArm:
    """An arm on a profile, with a seed.

    Args:
        arm: what was asked for.
        profile: a file of conf/profile/.
        overrides: what the arm sets, by dotted key; `injection.layer_by_stage` is one value.
        document: the whole of params.yaml with them.
        params: the same, validated.
        notes: what a table has to say about it, such as random weights in the place of Qwen3's.
    """

    arm: Arm
    profile: str
    overrides: Mapping[str, Any]
    document: dict[Any, Any]
    params: Params
    notes: tuple[str, ...]


class ImpossibleArm(ConfigError):
    """A profile cannot run an arm."""


def compose_arm(root: Path, name: str, profile: str, seed: int) -> ComposedArm:
    """Compose one arm of conf/arm/ on a profile of conf/profile/.

    Raises:
        ImpossibleArm: the profile cannot run it.
        ConfigError: there is no such arm or profile, or two arms train the same.
    """
    found = _compose_all(root, profile, seed)[read_arm(root, name).trained_as]
    if isinstance(found, ImpossibleArm):
        raise found
    return found


def compose_arms(
    root: Path, chosen: str, profile: str, seed: int, instead: Mapping[str, Any] = NOTHING
) -> tuple[list[ComposedArm], list[ImpossibleArm]]:
    """Compose the arms of a group such as `table5`, or the one of this name.

    Args:
        root: the project.
        chosen: group or arm.
        profile: a file of conf/profile/.
        seed: of all stages.
        instead: values by dotted key in the place of the profile's, such as fewer steps.

    Returns:
        The arms to train: an arm that is `same_as` another gives that one, and none comes twice.
        Then why the profile cannot run the others, an error for each.

    Raises:
        ImpossibleArm: the profile can run none of them.
        ConfigError: there is no such arm or profile, or two arms train the same.
    """
    names = dict.fromkeys(arm.trained_as for arm in read_arms(root, chosen))
    everything = _compose_all(root, profile, seed, instead)
    refused = [e for name in names if isinstance(e := everything[name], ImpossibleArm)]
    possible = [c for name in names if isinstance(c := everything[name], ComposedArm)]
    if not possible:
        raise refused[0]
    return possible, refused


def _compose_all(
    root: Path, profile: str, seed: int, instead: Mapping[str, Any] = NOTHING
) -> dict[str, ComposedArm | ImpossibleArm]:
    """Compose every arm that is not `same_as` another, and refuse two that train the same."""
    document = with_values(compose(root, profile), instead, f"profile {profile}")
    method = read_method(root)
    found: dict[str, ComposedArm | ImpossibleArm] = {}
    seen: dict[str, str] = {}
    arms = [read_arm(root, name) for name in arm_names(root)]
    # Rows of the paper first, so that an arm of a user's own is the one that is refused.
    for arm in sorted(arms, key=lambda arm: (arm.row is None, arm.name)):
        if (name := arm.name) != arm.trained_as:
            continue
        try:
            found[name] = composed = compose_on(document, method, arm, profile, seed)
        except ImpossibleArm as error:
            found[name] = error
            continue
        if (other := seen.setdefault(effect(composed), name)) != name:
            fact = f"on profile {profile} it trains the same as {other}"
            raise ConfigError(f"arm {name}", fact, f"write only `same_as: {other}` in it")
    return found


def effect(composed: ComposedArm) -> str:
    """Make a key of all that decides an arm's result: parameters that do nothing do not count."""
    idle = tuple(idle_parameters(composed))
    values = flatten(composed.document)
    kept = {k: v for k, v in values.items() if not f"{k}.".startswith(idle)}
    return key_of(composed.arm.meaning.ends_after, kept)


def idle_parameters(composed: ComposedArm) -> Iterator[str]:
    """Yield the parameters, each with a dot behind it, that do nothing beside the others."""
    params, injection = composed.params, composed.params.injection
    grid, strides = params.preprocess.grid, params.encoder.strides
    yield from ("profile.", "summarize.")
    if params.train_seg.steps == 0:
        yield from ("train_seg.", "label_maps.scheme.")
    if params.train_cls.steps == params.train_cls.head_warmup_steps == 0:
        yield "train_cls."
    if composed.arm.meaning.ends_after == "classification":
        yield from (f"{section}." for section in _AFTER_STAGE_2)
    if injection.kind == "input_only":
        yield from (f"injection.{key}." for key in ("layer_by_stage", "pooling", "deeper"))
    reference, deepest = (
        num_visual_tokens(grid, strides, stage)
        for stage in (injection.reference_stage, len(strides))
    )
    if reference == deepest:
        yield "injection.deeper."
    if params.decoder.kind != "qwen3_lora":
        yield from (f"decoder.lora_{key}." for key in ("rank", "alpha", "dropout"))


def compose_on(
    document: Mapping[Any, Any], method: Mapping[str, Any], arm: Arm, profile: str, seed: int
) -> ComposedArm:
    """Compose an arm on the params document of a profile, beside what all arms have in common."""
    params = parse_params(document, f"conf/profile/{profile}.yaml")
    subject = f"arm {arm.name}"
    try:
        decoder, notes = _decoder(arm.meaning, params)
        overrides = {
            "seed": seed,
            **method,
            **_segmentation(arm.meaning, params),
            **_classification(arm.meaning, params),
            **_injection(arm.meaning, params, int(decoder["decoder.layers"])),
            **_stage_3(arm.meaning, params),
            **decoder,
        }
    except _NotOnThisProfile as error:
        fact, remedy = error.args
        raise ImpossibleArm(f"{subject} on profile {profile}", fact, remedy) from None
    changed = with_values(document, overrides, subject)
    validated = parse_params(changed, f"{subject} on profile {profile}")
    return ComposedArm(arm, profile, overrides, changed, validated, notes)


class _NotOnThisProfile(Exception):
    """Fact and remedy of a profile that cannot run an arm."""


def _segmentation(meaning: Meaning, params: Params) -> dict[str, Any]:
    if meaning.segmentation == "none":
        # Which classes a U-Net that never trains would have decides nothing.
        return {"train_seg.steps": 0, "label_maps.scheme": "coarse"}
    if params.train_seg.steps == 0:
        fact = "it trains segmentation, and the profile's train_seg.steps is 0"
        raise _NotOnThisProfile(fact, "choose a profile with label maps and steps")
    return {
        "train_seg.steps": params.train_seg.steps,
        "label_maps.scheme": meaning.segmentation,
    }


def _classification(meaning: Meaning, params: Params) -> dict[str, Any]:
    config = params.train_cls
    steps = {
        "train_cls.steps": config.steps,
        "train_cls.head_warmup_steps": config.head_warmup_steps,
    }
    shuffled = {"train_cls.shuffle_labels": meaning.shuffled == "labels"}
    if not meaning.classification:
        return dict.fromkeys(steps, 0) | shuffled
    if not any(steps.values()):
        fact = "it trains classification, and the profile's train_cls.steps is 0"
        raise _NotOnThisProfile(fact, "choose a profile with steps")
    return steps | shuffled


def _injection(meaning: Meaning, params: Params, num_layers: int) -> dict[str, Any]:
    """Resolve alignment and injection (eq. 4 and 5): stage N feeds layer 1, N - 1 layer 2, ..."""
    num_stages = len(params.encoder.strides)
    layers = range(1, min(num_stages, num_layers) + 1)
    # The phantoms' findings are two voxels wide; the mean over a larger block hides them.
    usual = "max" if params.audit.plausible == "phantom" else "average"
    return {
        "injection.kind": "multi_layer" if meaning.skip_connections else "input_only",
        "injection.reference_stage": _reference_stage(meaning.visual_tokens, params),
        "injection.layer_by_stage": {num_stages - j + 1: j for j in layers},
        "injection.pooling": usual if meaning.pooling == "usual" else _OTHER[usual],
        "injection.deeper": meaning.deeper,
        "injection.position": meaning.position,
    }


def _reference_stage(times: int, params: Params) -> int:
    """Find the deepest stage with `times` as many voxels as the deepest one, stage N."""
    grid, strides = params.preprocess.grid, params.encoder.strides
    stages = range(len(strides), 0, -1)
    voxels = {stage: num_visual_tokens(grid, strides, stage) for stage in stages}
    wanted = times * voxels[len(strides)]
    if found := next((stage for stage in stages if voxels[stage] == wanted), None):
        return found
    there = ", ".join(str(count) for count in sorted(set(voxels.values())))
    fact = f"no encoder stage has {wanted} voxels, {times} times the tokens; they have {there}"
    raise _NotOnThisProfile(fact, "choose a profile with other encoder.strides")


def _stage_3(meaning: Meaning, params: Params) -> dict[str, Any]:
    is_trained = meaning.encoder == "trained"
    recomputes = is_trained and params.train_report.gradient_checkpointing
    return {
        "train_report.encoder_lr_scale": 0.1 if is_trained else 0.0,
        "train_report.gradient_checkpointing": recomputes,
        "train_report.shuffle_reports": meaning.shuffled == "reports",
    }


def _decoder(meaning: Meaning, params: Params) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Resolve decoder and vocabulary; our own decoder keeps the profile's size and vocabulary."""
    config = params.decoder
    if meaning.decoder == "scratch":
        if config.kind != "scratch":
            fact = f"its decoder is our own, and the profile's sizes are those of {config.kind}"
            raise _NotOnThisProfile(fact, "choose a profile with decoder.kind scratch")
        vocabulary: str = params.tokenizer.kind
        notes: tuple[str, ...] = ()
        sizes = {key: getattr(config, key) for key in (*RANDOM_SIZES, "dropout")}
    else:
        sizes, notes = _qwen_sizes()
        vocabulary = "qwen3"
    named = {f"decoder.{key}": value for key, value in sizes.items()}
    return {"decoder.kind": meaning.decoder, "tokenizer.kind": vocabulary, **named}, notes


def _qwen_sizes() -> tuple[dict[str, Any], tuple[str, ...]]:
    """Read the sizes of UVLM_QWEN3's model; without one, those of the random one."""
    if QWEN3.read() is None:
        return {**RANDOM_SIZES, "dropout": 0.0}, (NOTE,)
    architecture = read_architecture()
    sizes = {key: architecture[name] for key, name in QWEN_NAMES.items()}
    return {**sizes, "dropout": 0.0}, (NOTE,) if architecture.get(MARK) else ()

"""Arms on every profile: they say what the paper says, all differ, and no default moves them."""

from __future__ import annotations

import copy
import shutil
from itertools import combinations
from math import prod
from pathlib import Path
from typing import Any

import pytest

from pipeline.arms.random_qwen import NOTE
from pipeline.arms.read import Arm, arm_names, read_arm, read_arms, read_method
from pipeline.arms.resolve import (
    ComposedArm,
    ImpossibleArm,
    compose_arm,
    compose_arms,
    compose_on,
    effect,
)
from pipeline.profiles import compose, flatten, profile_names, with_values
from pipeline.tables.published import published_rows, settings
from uvlm.errors import ConfigError

ROOT = Path(__file__).parents[3]
PROFILES = profile_names(ROOT)
NAMES = [name for name in arm_names(ROOT) if read_arm(ROOT, name).trained_as == name]
SCHEMES = {
    "None": "none",
    "Seg(C)": "coarse",
    "Seg(C+L)": "coarse_lesion",
    "Seg(F+L)": "fine_lesion",
}
DECODERS = {"0.1B": "scratch", "Q4B-L": "qwen3_lora", "Q4B-F": "qwen3_full"}
# What remains the profile's: data, sizes, lengths and recipes of the trainings, protocol.
OF_THE_PROFILE = (
    "profile", "download.", "index.", "preprocess.", "pseudo_label.", "label_maps.dataset",
    "label_maps.priority", "label_maps.ignore_margin_mm", "label_maps.cases",
    "tokenizer.vocabulary_size", "audit.", "encoder.", "decoder.max_report_tokens", "encode.",
    "classifier.num_queries", "classifier.heads", "classifier.dropout",
    "generate.batch_size", "generate.max_tokens", "evaluate.", "summarize.",
    *(f"train_{stage}.{key}" for stage in ("seg", "cls", "report") for key in (
        "batch_size", "accumulate", "ema_decay", "optim.", "augment.", "balanced_fraction",
        "log_every", "val_every", "val_cases", "checkpoint_minutes")),
    *(f"train_{stage}.gradient_checkpointing" for stage in ("seg", "cls")),
    *(f"train_seg.{key}" for key in (
        "patch", "foreground_fraction", "deep_supervision", "dice_classes", "ce_weight_power",
        "ce_weight_cap")),
    *(f"train_cls.{key}" for key in (
        "encoder_lr_scale", "head_warmup_lr", "head_warmup_batch_size", "pos_weight_cap")),
    *(f"train_report.{key}" for key in (
        "steps", "feature_noise_std", "standardise_features", "adam_beta2")),
)  # fmt: skip
# What an arm takes over from the profile although it is a key of the method: how long a training
# that it has is, and how large our own decoder and its vocabulary are.
LENGTHS_AND_SIZES = {
    "train_seg.steps", "train_cls.steps", "train_cls.head_warmup_steps", "tokenizer.kind",
    "train_report.gradient_checkpointing",
    *(f"decoder.{key}" for key in ("layers", "width", "heads", "ffn", "dropout")),
}  # fmt: skip
OTHER_DEFAULTS: dict[str, Any] = {
    "label_maps.scheme": "coarse", "train_seg.initial_weights": "sha256:" + "0" * 12,
    "train_cls.frozen_stages": [1],
    "train_cls.pos_weight": "balanced", "train_cls.shuffle_labels": True,
    "train_report.shuffle_reports": True, "train_report.encoder_lr_scale": 0.3,
    "train_report.frozen_stages": [2], "decoder.lora_rank": 8, "decoder.lora_alpha": 3.0,
    # Cues cannot be asked for together with an encoder that trains on.
    "classifier.attributes": True, "injection.cues": "none", "train_cls.evidence_folds": 0,
    "train_report.cue_dropout": 0.0, "train_report.cue_case_dropout": 0.0,
    "train_report.cue_truth": 0.0,
    "injection.pooled": "none", "injection.cue_tokens": "one", "injection.cue_values": "graded",
    "injection.cue_readout": False,
    "train_report.deciding_weight": 2.0, "train_report.least_visual_rank": 1.0,
    "decoder.lora_dropout": 0.5, "injection.kind": "multi_layer", "injection.reference_stage": 4,
    "injection.layer_by_stage": {6: 2}, "injection.pooling": "max",
    "injection.deeper": "interpolated", "injection.position": "after_attention",
    "injection.gate": "scalar", "injection.projection": "mlp", "injection.input_tokens": "zeros",
    "generate.min_tokens": 3, "generate.temperature": 0.0, "generate.top_p": 1.0,
    "generate.repetition_penalty": 1.5, "generate.no_repeat_ngram": 4, "generate.num_beams": 3,
    "generate.length_penalty": 0.5, "generate.stop_after_repeats": 2, "generate.cue_shift": 0.0,
    "generate.cue_guidance": 0.0,
    "generate.cue_shifts": [], "generate.hold_impressions": True,
}  # fmt: skip

Everything = dict[str, dict[str, ComposedArm | ImpossibleArm]]


def attempt(document: Any, arm: Arm, profile: str) -> ComposedArm | ImpossibleArm:
    try:
        return compose_on(document, read_method(ROOT), arm, profile, 0)
    except ImpossibleArm as error:
        return error


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    return {profile: compose(ROOT, profile) for profile in PROFILES}


@pytest.fixture(scope="module")
def everything(documents: dict[str, Any]) -> Everything:
    return {
        profile: {n: attempt(document, read_arm(ROOT, n), profile) for n in NAMES}
        for profile, document in documents.items()
    }


def possible(arms: dict[str, ComposedArm | ImpossibleArm]) -> dict[str, ComposedArm]:
    return {name: arm for name, arm in arms.items() if isinstance(arm, ComposedArm)}


def test_all_rows_of_tables_4_and_5_and_our_own_of_2_and_3_are_there() -> None:
    rows = [read_arm(ROOT, name).row for name in arm_names(ROOT)]
    assert [row for row in rows if row] == [
        (2, 7), *((3, n) for n in (3, 4, 5, 6)), *((4, n) for n in range(1, 5)),
        *((5, n) for n in range(1, 18)),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(1, 18))
def test_an_arm_of_table_5_says_what_the_columns_of_its_row_say(number: int) -> None:
    meaning, row = read_arm(ROOT, f"table5_{number:02d}").meaning, settings()[number]
    trainings = row.training.split(" -> ")
    assert meaning.segmentation == SCHEMES.get(trainings[0], "none")
    assert meaning.classification == ("Cls" in trainings)
    assert meaning.skip_connections == row.skip_connections
    assert (meaning.encoder == "frozen") == row.frozen
    assert meaning.visual_tokens * 384 == row.visual_tokens
    assert meaning.decoder == DECODERS[row.decoder]
    assert read_arm(ROOT, f"table5_{number:02d}").last_stage == "evaluate"


@pytest.mark.parametrize("number", range(1, 5))
def test_an_arm_of_table_4_ends_after_stage_2_of_its_row(number: int) -> None:
    arm = read_arm(ROOT, f"table4_{number:02d}")
    training = published_rows(4, "CT-RATE")[number].method
    assert training == f"{training.partition(' -> ')[0]} -> Cls"
    assert arm.meaning.segmentation == SCHEMES[training.partition(" -> ")[0]]
    assert (arm.meaning.ends_after, arm.last_stage) == ("classification", "classify")


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_every_arm_differs_from_every_other_in_what_it_does(
    profile: str, everything: Everything, documents: dict[str, Any]
) -> None:
    arms = possible(everything[profile])
    for one, other in combinations(arms.values(), 2):
        assert effect(one) != effect(other), (one.arm.name, other.arm.name)
    refused = set(NAMES) - set(arms)
    if documents[profile]["train_seg"]["steps"]:
        assert not refused
    else:
        assert refused == {n for n in NAMES if read_arm(ROOT, n).meaning.segmentation != "none"}
        assert all("train_seg.steps is 0" in str(everything[profile][n]) for n in refused)


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_an_arm_sets_every_key_that_is_not_the_profiles(
    profile: str, everything: Everything
) -> None:
    for arm in possible(everything[profile]).values():
        keys = {
            key if not key.startswith("injection.layer_by_stage") else "injection.layer_by_stage"
            for key in flatten(arm.document)
        }
        owned = {k for k in keys if k.startswith(OF_THE_PROFILE)}
        assert set(arm.overrides) == keys - owned, arm.arm.name
        assert set(arm.overrides) == {"seed"} | LENGTHS_AND_SIZES | OTHER_DEFAULTS.keys() | {
            "decoder.kind"
        }


@pytest.mark.parametrize("profile", [p for p in PROFILES if p != "folder"])
def test_a_changed_default_changes_no_row(
    profile: str, everything: Everything, documents: dict[str, Any]
) -> None:
    other = with_values(documents[profile], OTHER_DEFAULTS, profile)
    for name, arm in possible(everything[profile]).items():
        again = attempt(other, arm.arm, profile)
        assert isinstance(again, ComposedArm), name
        assert again.overrides == arm.overrides, name


@pytest.mark.parametrize("profile", PROFILES)
def test_eight_times_the_tokens_are_eight_times_the_tokens(
    profile: str, everything: Everything
) -> None:
    """Counted by halving the grid, stage by stage."""
    for arm in possible(everything[profile]).values():
        voxels, size = [], list(arm.params.preprocess.grid)
        for stride in arm.params.encoder.strides:
            size = [edge // stride for edge in size]
            voxels.append(prod(size))
        reference = arm.params.injection.reference_stage
        assert voxels[reference - 1] == arm.arm.meaning.visual_tokens * voxels[-1], arm.arm.name
        assert all(count < voxels[reference - 1] for count in voxels[reference:]) or (
            reference == len(voxels)
        )


def test_the_phantoms_eight_times_are_no_silent_no_op(everything: Everything) -> None:
    """Its last three stages have one size, so the stage before the last would change nothing."""
    arm = everything["phantom"]["table5_11"]
    assert isinstance(arm, ComposedArm)
    assert arm.params.injection.reference_stage == 3


def test_deep_stages_feed_early_layers(everything: Everything) -> None:
    arm = everything["chest"]["table5_09"]
    assert isinstance(arm, ComposedArm)
    assert arm.params.injection.layer_by_stage == {6: 1, 5: 2, 4: 3, 3: 4, 2: 5, 1: 6}


def test_arms_with_qwen_say_that_its_weights_are_random_and_no_other_does(
    everything: Everything, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UVLM_QWEN3", raising=False)
    noted = {name for name, arm in possible(everything["phantom"]).items() if NOTE in arm.notes}
    assert noted == {f"table5_{number}" for number in (12, 13, 14, 15)}


def test_the_same_training_is_run_once() -> None:
    arms, refused = compose_arms(ROOT, "table3", "abdomen", 7)
    assert [arm.arm.name for arm in arms] == ["table5_08", "table5_09"]
    assert [arm.params.seed for arm in arms] == [7, 7]
    assert refused == []


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of conf/ to write arms into."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    return tmp_path


def write_arm(project: Path, like: str, **changes: Any) -> None:
    """Write the arm `mine_own`: another one with other lines."""
    text = (project / "conf" / "arm" / f"{like}.yaml").read_text()
    lines = [line for line in text.splitlines() if line.partition(":")[0] not in changes]
    lines += [f"{key}: {value}" for key, value in changes.items()]
    (project / "conf" / "arm" / "mine_own.yaml").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("like", "changes"),
    [
        ("table5_09", {}),
        ("table5_07", {"pooling": "other"}),  # nothing is pooled without skip connections
        ("table5_09", {"deeper": "interpolated"}),  # no stage is deeper than the deepest
        ("table4_04", {"decoder": "qwen3_full"}),  # no decoder is trained
    ],
)
def test_an_arm_that_trains_what_another_one_trains_is_refused(
    like: str, changes: dict[str, str], project: Path
) -> None:
    write_arm(project, like, **changes)
    said = f"arm mine_own: on profile phantom it trains the same as {like}"
    with pytest.raises(ConfigError, match=said) as error:
        compose_arm(project, like, "phantom", 0)
    assert f"same_as: {like}" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"visual_tokens": 5}, "no encoder stage has 720 voxels"),
        ({"decoders": "scratch"}, "nearest valid key is decoder"),
        ({"segmentation": "fine"}, "segmentation"),
    ],
)
def test_an_arm_that_cannot_be_is_one_line(
    changes: dict[str, Any], said: str, project: Path
) -> None:
    write_arm(project, "table5_09", **changes)
    with pytest.raises(ConfigError, match=said) as error:
        compose_arm(project, "mine_own", "phantom", 0)
    assert "\n" not in str(error.value)


def test_an_unknown_arm_or_group_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="choices, controls, table2, table3, table4, table5"):
        read_arms(ROOT, "table9")
    with pytest.raises(ConfigError, match="no such arm"):
        read_arm(ROOT, "table5_99")


def test_composing_leaves_the_profile_as_it_was(documents: dict[str, Any]) -> None:
    before = copy.deepcopy(documents["phantom"])
    attempt(documents["phantom"], read_arm(ROOT, "table5_17"), "phantom")
    assert documents["phantom"] == before

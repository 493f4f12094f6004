from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.check_params import check_params
from pipeline.profiles import (
    compose,
    default_profile,
    drift,
    flatten,
    profile_names,
    read_document,
    use_profile,
    write_params,
)
from uvlm.config import load_params, parse_params
from uvlm.errors import ConfigError, DataError, Interrupted, SetupError, UvlmError

PROFILES = (
    "abdomen", "chest", "chest_plus", "chest_rules", "chest_small", "folder", "longtail",
    "longtail_shifted", "phantom", "phantom_abdomen", "phantom_plain", "smoke",
)  # fmt: skip


# Tables by abnormality, whose names the data set knows.
SHARES = ("present", "denied")


@pytest.fixture(scope="module")
def documents(root: Path) -> dict[str, dict[Any, Any]]:
    return {name: compose(root, name) for name in PROFILES}


@pytest.fixture
def project(tmp_path: Path, root: Path) -> Path:
    """A copy of conf/ that a test may change."""
    for path in (root / "conf").rglob("*.yaml"):
        copied = tmp_path / path.relative_to(root)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(path.read_bytes())
    return tmp_path


def section_paths(node: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of a document that names a parameter or a section, as a path."""
    for key, value in node.items():
        if isinstance(key, str):
            yield (*prefix, key)
            if isinstance(value, dict) and key not in SHARES:
                yield from section_paths(value, (*prefix, key))


def rename(document: dict[Any, Any], path: tuple[Any, ...], name: str) -> None:
    *parents, key = path
    for parent in parents:
        document = document[parent]
    document[name] = document.pop(key)


def test_there_is_a_profile_for_phantoms_and_for_each_data_set_of_the_paper(root: Path) -> None:
    assert set(PROFILES) <= set(profile_names(root))  # a user may have added some
    assert default_profile(root) == "phantom"


def test_params_yaml_is_what_conf_composes(root: Path) -> None:
    assert drift(root) == []


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_validates_and_survives_being_written(
    profile: str, documents: dict[str, dict[Any, Any]], tmp_path: Path
) -> None:
    write_params(tmp_path, documents[profile])
    assert read_document(tmp_path / "params.yaml") == documents[profile]
    assert load_params(tmp_path / "params.yaml").profile == profile


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["chest", "abdomen"])
def test_the_real_profiles_hold_the_numbers_of_the_paper(
    profile: str, documents: dict[str, dict[Any, Any]]
) -> None:
    params = parse_params(documents[profile], profile)
    assert params.encoder.channels == (32, 64, 128, 256, 320, 320)
    assert params.preprocess.grid == (192, 256, 256)
    assert params.train_seg.patch == (96, 128, 128)
    assert (params.train_seg.optim.optimizer, params.train_seg.optim.lr) == ("sgd", 0.01)
    for section in (params.train_cls, params.train_report):
        assert (section.optim.optimizer, section.optim.lr) == ("adamw", 2e-5)
    for training in (params.train_seg, params.train_cls, params.train_report):
        assert training.batch_size == 2
    assert (params.train_cls.encoder_lr_scale, params.train_report.encoder_lr_scale) == (0.1, 0.0)
    decoder = params.decoder
    assert (decoder.layers, decoder.width, decoder.heads, decoder.ffn) == (8, 512, 8, 2048)
    assert (decoder.lora_rank, decoder.lora_alpha) == (64, 128.0)
    assert params.injection.pooling == "average"
    assert (params.tokenizer.kind, params.label_maps.cases) == ("qwen3", "annotated")


def test_labellers_and_data_of_the_real_profiles_are_those_of_the_paper(
    documents: dict[str, dict[Any, Any]],
) -> None:
    chest, abdomen = (parse_params(documents[name], name) for name in ("chest", "abdomen"))
    assert (chest.evaluate.labeller, abdomen.evaluate.labeller) == ("radbert", "llm")
    assert chest.download.ct_rate is not None
    assert chest.download.ct_rate.reconstructions == "annotated_first"
    assert chest.pseudo_label.airway.backend == "atm22"


@pytest.mark.parametrize("profile", ["chest", "abdomen"])
def test_the_deepest_grid_of_the_real_profiles_gives_384_tokens(
    profile: str, documents: dict[str, dict[Any, Any]]
) -> None:
    params = parse_params(documents[profile], profile)
    tokens = 1
    for size in params.preprocess.grid:
        for stride in params.encoder.strides[: params.injection.reference_stage]:
            size //= stride
        tokens *= size
    assert tokens == 384


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_every_mistyped_key_is_refused_with_the_right_one_named(
    profile: str, documents: dict[str, dict[Any, Any]]
) -> None:
    paths = list(section_paths(documents[profile]))
    assert len(paths) > 100
    for path in paths:
        mistyped = copy.deepcopy(documents[profile])
        rename(mistyped, path, f"{path[-1]}x")
        with pytest.raises(ConfigError) as caught:
            parse_params(mistyped, "params.yaml")
        name = ".".join(path)
        expected = f"unknown parameter {name}x; nearest valid key is {name}"
        assert expected in str(caught.value), path


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("train_clss", "train_cls"),
        ("steps", "train_seg.steps or train_cls.steps or train_report.steps"),
        ("prevalence", "download.phantom.prevalence"),
    ],
)
def test_a_key_that_was_added_in_the_wrong_place_names_where_it_belongs(
    key: str, nearest: str, documents: dict[str, dict[Any, Any]]
) -> None:
    document = documents["phantom"] | {key: {"steps": 3}}
    with pytest.raises(ConfigError) as caught:
        parse_params(document, "params.yaml")
    assert str(caught.value) == (
        f"params.yaml: unknown parameter {key}; nearest valid key is {nearest}"
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_every_missing_key_is_named_unless_it_has_a_default(
    profile: str, documents: dict[str, dict[Any, Any]]
) -> None:
    optional = {"preprocess.spacing_mm", "summarize.goals", "label_maps.cases", "summarize.note"}
    optional |= {"train_cls.shuffle_labels", "train_report.shuffle_reports"}
    optional |= {"classifier.attributes", "injection.cues", "train_cls.evidence_folds"}
    optional |= {"train_report.deciding_weight", "injection.cue_tokens", "injection.cue_values"}
    optional |= {"injection.pooled", "generate.cue_guidance", "injection.cue_readout"}
    optional |= {"generate.cue_shifts", "train_report.least_visual_rank", "train_report.cue_truth"}
    optional |= {"train_report.cue_dropout", "train_report.cue_case_dropout", "generate.cue_shift"}
    optional |= {"generate.hold_impressions"}
    for path in section_paths(documents[profile]):
        name = ".".join(path)
        if name in optional:
            continue
        shortened = copy.deepcopy(documents[profile])
        rename(shortened, path, "gone")
        *parents, _ = path
        section = shortened
        for parent in parents:
            section = section[parent]
        del section["gone"]
        with pytest.raises(ConfigError) as caught:
            parse_params(shortened, "params.yaml")
        assert path[-1] in str(caught.value), path


def test_a_value_of_the_wrong_kind_is_named_with_its_key(
    documents: dict[str, dict[Any, Any]],
) -> None:
    document = copy.deepcopy(documents["phantom_plain"])
    document["train_cls"]["optim"]["lr"] = "fast"
    document["decoder"]["heads"] = 0
    with pytest.raises(ConfigError) as caught:
        parse_params(document, "params.yaml")
    assert "train_cls.optim.lr" in str(caught.value)
    assert "decoder.heads" in str(caught.value)


@pytest.mark.parametrize(
    ("section", "key", "value", "fact"),
    [
        ("injection", "reference_stage", 7, "encoder has 6 stages"),
        ("train_cls", "steps", -1, r"train_cls.steps: .* \(found -1\)"),
        ("train_cls", "steps", "many", r"train_cls.steps: .* \(found 'many'\)"),
        ("train_cls", "steps", True, "train_cls: steps should not be true"),
        ("train_cls", "pos_weight_cap", float("inf"), "train_cls.pos_weight_cap: .* finite"),
        ("preprocess", "grid", [32, 0, 48], r"preprocess.grid.1: .* \(found 0\)"),
        ("encoder", "strides", [1, 2, 2, 2, 1, 0], "encoder.strides.5"),
        ("train_seg", "patch", [40, 16, 16], r"\[40, 16, 16\] exceeds preprocess.grid"),
        ("train_seg", "patch", [16, 12, 16], "not a multiple of 8, the product of encoder.strides"),
        ("train_seg", "patch", [8, 8, 8], "leaves the last stage one voxel"),
        ("injection", "layer_by_stage", {6: 9}, "stage 6 to layer 9"),
        ("preprocess", "window_hu", [100, 100], "from 100 to 100"),
        ("encoder", "strides", [1, 2], "2 strides"),
        ("decoder", "width", 66, "not a multiple"),
        ("train_cls", "frozen_stages", [1, 7], "train_cls.frozen_stages has stage 7"),
        ("train_report", "frozen_stages", [1], "frozen_stages does nothing while encoder_lr_scale"),
        ("encode", "views", 0, "encode.views"),
        ("encode", "views", 9, "encode.views"),
        ("train_seg", "initial_weights", "abc", "train_seg.initial_weights"),
        ("train_cls", "ema_decay", 1.0, "train_cls.ema_decay"),
        ("train_cls", "pos_weight", "yes", "train_cls.pos_weight"),
        ("decoder", "kind", "qwen3_lora", "needs tokenizer.kind qwen3, not bpe"),
        ("generate", "top_p", 0.9, "has no effect at temperature 0"),
        ("generate", "length_penalty", 0.5, "compares beams; raise num_beams"),
        ("generate", "no_repeat_ngram", 1, "allows every word only once"),
        ("generate", "stop_after_repeats", 1, "stops every report"),
        ("generate", "max_tokens", 5000, "5000 tokens but decoder.max_report_tokens is 192"),
        ("generate", "min_tokens", 193, "193 tokens but decoder.max_report_tokens is 192"),
        ("generate", "cue_shift", 0.5, "cue_shift does nothing without cues of presence"),
        ("train_report", "cue_dropout", 0.1, "cue_dropout does nothing without injection.cues"),
        ("injection", "cue_tokens", "by_kind", "cue_tokens does nothing without injection.cues"),
        ("injection", "cue_readout", True, "cue_readout does nothing without injection.cues"),
        ("injection", "cue_values", "likeliest", "does nothing without cues of attributes"),
        ("train_report", "cue_truth", 0.5, "cue_truth does nothing without injection.cues"),
        ("generate", "cue_guidance", 1.0, "train_report.cue_case_dropout above 0"),
        ("generate", "cue_shifts", (-1.0, 1.0), "cue_shifts do nothing without cues of presence"),
        ("generate", "cue_shifts", (1.0, 1.0), "names a shift twice"),
        ("injection", "cues", "presence", "raise train_cls.evidence_folds"),
        ("injection", "cues", "both", "injection.cues both need classifier.attributes"),
        ("train_cls", "evidence_folds", 2, "are for cues; set injection.cues"),
        ("train_cls", "evidence_folds", 1, "leaves nobody to train on"),
    ],
)
def test_numbers_that_contradict_each_other_are_quoted(
    section: str, key: str, value: Any, fact: str, documents: dict[str, dict[Any, Any]]
) -> None:
    document = copy.deepcopy(documents["phantom_plain"])
    document[section][key] = value
    with pytest.raises(ConfigError, match=fact):
        parse_params(document, "params.yaml")


@pytest.mark.parametrize(
    ("values", "fact"),
    [
        ({"temperature": 1.0, "num_beams": 4}, "4 beams do not sample"),
        ({"max_tokens": 8, "min_tokens": 9}, "min_tokens 9 exceeds max_tokens 8"),
    ],
)
def test_ways_of_decoding_that_exclude_each_other_are_refused(
    values: dict[str, Any], fact: str, documents: dict[str, dict[Any, Any]]
) -> None:
    document = copy.deepcopy(documents["phantom_plain"])
    document["generate"] |= values
    with pytest.raises(ConfigError, match=fact):
        parse_params(document, "params.yaml")


def test_values_do_not_change_after_loading(documents: dict[str, dict[Any, Any]]) -> None:
    params = parse_params(documents["phantom_plain"], "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.train_seg.__setattr__("steps", 1)


@pytest.mark.parametrize("text", ["a: [1", "a: 1\n b: 2", "\x00"])
def test_a_broken_params_file_is_one_config_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="not readable as YAML"):
        load_params(path)


def test_a_missing_params_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="uvlm use phantom"):
        load_params(tmp_path / "params.yaml")


def test_use_composes_and_becomes_the_default(project: Path) -> None:
    assert use_profile(project, "chest").profile == "chest"
    assert default_profile(project) == "chest"
    assert load_params(project / "params.yaml").download.source == "ct_rate"
    assert drift(project) == []


def test_the_profile_shown_in_the_docs_composes(project: Path, root: Path) -> None:
    page = (root / "docs" / "own_data.md").read_text(encoding="utf-8")
    shown = page.partition("```yaml\n")[2].partition("```")[0]
    (project / "conf" / "profile" / "tiny.yaml").write_text(shown)
    params = use_profile(project, "tiny")
    assert (params.profile, params.preprocess.grid) == ("tiny", (32, 48, 48))
    check_params(params, project)


def test_an_unknown_profile_changes_nothing(project: Path) -> None:
    before = (project / "conf" / "config.yaml").read_bytes()
    with pytest.raises(ConfigError, match=", ".join(PROFILES)):
        use_profile(project, "head")
    assert (project / "conf" / "config.yaml").read_bytes() == before
    assert not (project / "params.yaml").exists()


def test_a_mistyped_key_in_conf_is_found_before_params_yaml_is_written(project: Path) -> None:
    path = project / "conf" / "profile" / "phantom_plain.yaml"
    path.write_text(path.read_text().replace("pooling:", "poolling:"))
    with pytest.raises(ConfigError, match=r"nearest valid key is injection\.pooling"):
        use_profile(project, "phantom")
    assert not (project / "params.yaml").exists()


def test_a_drift_names_the_key_and_both_values(project: Path) -> None:
    document = compose(project)
    document["train_seg"]["steps"] = 12345
    del document["seed"]
    write_params(project, document)
    steps = compose(project)["train_seg"]["steps"]
    assert drift(project) == [
        "seed: params.yaml has nothing, conf/ 0",
        f"train_seg.steps: params.yaml has 12345, conf/ {steps}",
    ]


def test_profiles_differ_in_values_only(documents: dict[str, dict[Any, Any]]) -> None:
    keys = {
        name: {k for k in flatten(document) if not k.startswith("download.")}
        for name, document in documents.items()
    }
    assert [name for name in PROFILES if keys[name] != keys["phantom"]] == []


def test_the_variants_of_chest_differ_where_their_first_lines_say(
    root: Path, documents: dict[str, dict[Any, Any]]
) -> None:
    chest = flatten(documents["chest"])
    changed = {
        name: {k for k, v in flatten(documents[name]).items() if k != "profile" and v != chest[k]}
        for name in ("chest_plus", "chest_rules", "chest_small")
    }
    plain, plus = flatten(documents["phantom_plain"]), flatten(documents["phantom"])
    method = set(flatten(read_document(root / "conf/method/plus.yaml")))
    assert method == {k for k in plus if k != "profile" and plus[k] != plain[k]}
    assert changed["chest_plus"] == {*method, "train_cls.head_warmup_steps"}
    assert changed["chest_rules"] == {"evaluate.labeller"}
    assert changed["chest_small"] == {
        *("evaluate.labeller", "tokenizer.kind", "pseudo_label.airway.backend"),
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [(UvlmError, 70), (ConfigError, 2), (DataError, 3), (SetupError, 4), (Interrupted, 5)],
)
def test_an_error_is_one_line_with_subject_fact_and_remedy(
    error: type[UvlmError], code: int
) -> None:
    assert error.exit_code == code
    assert str(error("ct.nii.gz", "is cut short", "copy it again")) == (
        "ct.nii.gz: is cut short; copy it again"
    )
    assert str(error("ct.nii.gz", "is cut short")) == "ct.nii.gz: is cut short"


def test_a_profile_that_counts_steps_between_saves_is_still_read(
    tiny_document: dict[Any, Any],
) -> None:
    for minutes in (None, 3.0):
        section = {**tiny_document["train_seg"], "checkpoint_every": 250}
        del section["checkpoint_minutes"]
        if minutes is not None:
            section["checkpoint_minutes"] = minutes
        read = parse_params({**tiny_document, "train_seg": section}, "tests")
        assert read.train_seg.checkpoint_minutes == (minutes or 10)

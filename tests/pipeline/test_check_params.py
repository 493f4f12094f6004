"""What a later stage would refuse, the first one refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.check_params import check_params
from pipeline.profiles import compose, profile_names
from uvlm.config import parse_params
from uvlm.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("profile", profile_names(ROOT))
def test_every_profile_can_be_built(profile: str) -> None:
    check_params(parse_params(compose(ROOT, profile), profile), ROOT)


@pytest.mark.parametrize(
    ("path", "value", "fact"),
    [
        ("profile", "head", "profile head: no such profile; choose abdomen"),
        ("preprocess.grid", [33, 48, 48], "preprocess.grid: .* not a multiple of 8"),
        ("classifier.heads", 7, "classifier.heads: 7 heads do not divide the 96 channels"),
        ("injection.layer_by_stage", {1: 1, 2: 1}, "stages 1 and 2 both feed layer 1"),
        ("label_maps.priority", ["lesion", "anatomy"], "label_maps.priority: lesion is not the"),
        ("label_maps.dataset", "abdomen", "labeller: phantom reads the 18 abnormalities"),
    ],
)
def test_what_cannot_work_is_refused_by_its_key(path: str, value: Any, fact: str) -> None:
    document = compose(ROOT, "phantom")
    *parents, name = path.split(".")
    section = document
    for parent in parents:
        section = section[parent]
    section[name] = value
    with pytest.raises(ConfigError, match=fact):
        check_params(parse_params(document, "params.yaml"), ROOT)


def test_a_data_set_that_nobody_wrote_is_refused() -> None:
    document = compose(ROOT, "phantom")
    document["download"] |= {"source": "head", "head": {}}
    with pytest.raises(ConfigError, match="there is no data set head; use phantom, ct_rate"):
        check_params(parse_params(document, "params.yaml"), ROOT)


def test_qwen_need_not_be_here_but_what_the_encoder_cannot_do_is_still_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("UVLM_QWEN3", raising=False)
    document = compose(ROOT, "phantom")
    document["tokenizer"]["kind"], document["decoder"]["kind"] = "qwen3", "qwen3_lora"
    check_params(parse_params(document, "params.yaml"), ROOT)
    document["classifier"]["heads"] = 7
    with pytest.raises(ConfigError, match="7 heads"):
        check_params(parse_params(document, "params.yaml"), ROOT)

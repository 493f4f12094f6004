"""`uvlm plan`: counts by stage, one sum for the disk, one estimator, a line for what is missing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline.plan.counts import count_by_stage, labelled, split_of
from pipeline.plan.needs import missing_disk, missing_memory
from pipeline.plan.plan import Plan, in_words, kept_files, lines, make_plan, to_json
from pipeline.profiles import compose
from pipeline.sizes import LADDER, merged
from uvlm.config import Params, parse_params
from uvlm.data.sets.survey import Expected, FileKind, Survey
from uvlm.errors import ConfigError
from uvlm.estimates.costs import stage_time, store_bytes
from uvlm.estimates.stages import Cts, estimate
from uvlm.memory import Memory
from uvlm.variable import SIZE

STAGES = ("download", "preprocess", "pseudo_label@airway", "label_maps", "train_seg", "encode")


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def small(root: Path, profile: str = "chest", **changes: Mapping[str, Any]) -> Params:
    document = merged(compose(root, profile), LADDER[0], changes)
    return parse_params(document, "params.yaml")


@pytest.fixture
def survey() -> Survey:
    """Ten training CTs, of which two are drawn and three normal, and four test CTs."""
    cases = [
        Expected(f"train_{n}", "train", is_drawn=n < 2, flags=(0, int(n < 7))) for n in range(10)
    ] + [Expected(f"valid_{n}", "test", is_drawn=False, flags=(0, 1)) for n in range(4)]
    files = [FileKind("volumes", 14, 14 * 10**9, 14), FileKind("findings masks", 2, 10**6, 2)]
    return Survey(cases, files)


@pytest.mark.parametrize(
    ("rule", "count"), [("annotated", 2), ("annotated_and_normal", 5), ("all", 14)]
)
def test_pseudo_labels_and_label_maps_count_only_the_cases_of_the_rule(
    root: Path, survey: Survey, rule: str, count: int
) -> None:
    scheme = {"scheme": "coarse", "cases": rule, "priority": ["anatomy", "airway", "vessel"]}
    params = small(root, label_maps=scheme)
    found = count_by_stage(params, survey, STAGES)
    assert found["pseudo_label@airway"] == found["label_maps"] == len(labelled(params, survey))
    assert found["label_maps"] == count
    assert found["preprocess"] == found["encode"] == 14
    assert found["train_seg"] == params.train_seg.steps
    assert "download" not in found


def test_every_case_is_in_one_split(root: Path, survey: Survey) -> None:
    found = split_of(survey, small(root, index={"val_fraction": 0.3}))
    assert found == {"train": 7, "val": 3, "test": 4}


def test_the_disk_adds_up_all_kinds_of_files_and_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 100))
    kinds = [("volumes", 60), ("preprocess", 30), ("encode", 11)]  # each of them would fit
    (line,) = missing_disk(kinds, tmp_path)
    assert "UVLM_DATA_ROOT" in line
    assert missing_disk(kinds[:2], tmp_path) == []
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "ct").write_bytes(b"x")  # what is there need not be fetched
    assert missing_disk(kinds, tmp_path) == []


def test_what_keep_raw_drops_needs_no_disk(
    root: Path, survey: Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVLM_WORKERS", "1")
    params = small(root)
    section = params.download.ct_rate
    assert section is not None

    def kept(keep: str) -> int:
        changed = section.model_copy(update={"keep_raw": keep})
        download = params.download.model_copy(update={"ct_rate": changed})
        return kept_files(params.model_copy(update={"download": download}), survey)[0].count

    assert [kept(name) for name in ("all", "annotated", "none")] == [14, 2 + 1, 1]


@pytest.mark.slow
def test_memory_is_that_of_the_one_estimator_and_compared_with_the_gpu_that_is_named(
    root: Path,
) -> None:
    params = small(root)
    found = estimate("train_cls", params, Cts(14, (300, 512, 512)))
    assert found is not None
    assert missing_memory([found], Memory(found.on_device, "--gpu-memory")) == []
    (line,) = missing_memory([found], Memory(found.on_device - 1, "--gpu-memory"))
    assert "train_cls would need" in line
    assert "(--gpu-memory)" in line
    assert "lower train_cls.batch_size" in line


@pytest.mark.slow
def test_time_of_a_network_is_a_floor_that_grows_with_the_steps(root: Path) -> None:
    params = small(root)
    one, ten = (stage_time("train_cls", params, n, (300, 512, 512)) for n in (1, 10))
    assert one.seconds is not None
    assert ten.seconds == pytest.approx(10 * one.seconds)
    assert "floor" in one.basis
    assert "A100" in one.basis


def test_a_matrix_product_is_counted_as_by_hand() -> None:
    import torch

    from uvlm.estimates.imagined import imagined

    with imagined() as held:
        torch.rand(3, 5) @ torch.rand(5, 7)
        torch.nn.functional.conv3d(torch.rand(1, 2, 4, 4, 4), torch.rand(6, 2, 1, 1, 1))
    assert held.flop == 2 * 3 * 5 * 7 + 2 * 64 * 2 * 6


def test_features_take_the_bytes_of_their_tokens(root: Path) -> None:
    params = small(root)
    made = dict(store_bytes(params, 3, 0, (300, 512, 512)))
    grid, strides = params.preprocess.grid, params.encoder.strides
    tokens = 1
    for size in grid:
        for stride in strides[: params.injection.reference_stage]:
            size //= stride
        tokens *= size
    assert made["encode"] == 3 * tokens * sum(params.encoder.channels) * 2
    assert made["label_maps"] == made["pseudo_label"] == 0


@pytest.mark.slow
def test_a_profile_without_its_parts_gets_a_line_for_each(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVLM_DATA_ROOT", str(tmp_path / "store"))
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path))
    for name in ("UVLM_ATM22_WEIGHTS", "UVLM_QWEN3", "UVLM_RADBERT_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    plan = make_plan(root, "chest", "80GB")
    named = ("HF_HUB_OFFLINE", "UVLM_ATM22_WEIGHTS", "TOTALSEG_WEIGHTS_PATH", "UVLM_QWEN3")
    for name in (*named, "UVLM_RADBERT_WEIGHTS"):
        assert sum(name in line for line in plan.missing) == 1, name
    text = "\n".join(lines(plan))
    assert "not known before the tables can be read" in text
    assert "estimate" in text
    assert plan.counts["train_seg"] == 250_000


@pytest.mark.slow
def test_text_and_json_say_the_same(root: Path, survey: Survey, tmp_path: Path) -> None:
    stages = ["code", *STAGES]
    plan = Plan(small(root), stages, survey, Memory(SIZE.convert("80GB"), "--gpu-memory"))
    document, text = to_json(plan), "\n".join(lines(plan))
    assert list(document["stages"]) == list(STAGES)
    assert document["cases"] == 14
    assert 2 * 10**9 < sum(document["disk"].values()) < 14 * 10**9  # the volumes that are drawn
    for name in document["disk"]:
        assert name in text
    rows = {line.split()[0]: line for line in text.splitlines() if line.split()}
    assert rows["preprocess"].split()[1] == "14"


def test_sizes_and_durations_that_are_none_are_refused_or_written_in_words(root: Path) -> None:
    with pytest.raises(ConfigError, match="--gpu-memory"):
        make_plan(root, "phantom", "much")
    assert [in_words(s) for s in (0.2, 5, 600, 7200 * 2, 86400 * 3)] == [
        "< 1 s",
        "5 s",
        "10.0 min",
        "4.0 h",
        "3.0 d",
    ]

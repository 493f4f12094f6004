"""Cached views: what is stored, what training draws, and that the first view is the plain one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.train.chain import Chain
from uvlm.config import Params, parse_params
from uvlm.data.contract import normalise
from uvlm.data.examples import read_examples
from uvlm.errors import ConfigError
from uvlm.inference.encode import encode_cases, encode_volumes
from uvlm.model.load import load_encoder
from uvlm.seeding import generator
from uvlm.store import load_array, resolve, rows_by_case
from uvlm.train.augmentation.augment import CachedViews, augment_volume
from uvlm.train.batches import Arrays
from uvlm.train.report_batches import TokenInputs

VIEWS = 3


@pytest.fixture
def chain(params: Params, project: Any) -> Chain:
    """A trained encoder; stage 3 shifts and scales intensities."""
    augment = params.train_report.augment.model_copy(
        update={"scale_std": 0.3, "shift_std": 0.1, "roll_voxels": (1, 1, 1)}
    )
    report = params.train_report.model_copy(update={"augment": augment})
    made = Chain(params.model_copy(update={"train_report": report}), project)
    made.seg(steps=0)
    made.cls(steps=0)
    return made


def encode(chain: Chain, views: int) -> dict[str, Any]:
    """Rows by case."""
    encode_config = chain.params.encode.model_copy(update={"views": views})
    params = chain.params.model_copy(update={"encode": encode_config})
    view = CachedViews(params.train_report.augment, params.seed)
    model = chain.models / "cls"
    encode_cases(params, **chain.inputs, model=model, out=chain.encodings, view=view)
    return rows_by_case(chain.encodings)


def arrays(rows: dict[str, Any]) -> dict[str, npt.NDArray[Any]]:
    return {case: load_array(resolve(row, "encode"), row.sha256) for case, row in rows.items()}


def test_training_cases_get_views_the_first_of_which_is_the_plain_one(chain: Chain) -> None:
    plain = arrays(encode(chain, 1))
    rows = encode(chain, VIEWS)
    several = arrays(rows)
    for case, array in several.items():
        if int(case[-2:]) < 8:  # the training split
            assert array.shape == (VIEWS, *plain[case].shape)
            assert rows[case].extra["views"] == VIEWS
            assert np.array_equal(array[0], plain[case])
            assert len({view.tobytes() for view in array}) == VIEWS
        else:
            assert np.array_equal(array, plain[case])
            assert "views" not in rows[case].extra


def test_a_view_is_the_encoding_of_the_augmented_volume_and_a_function_of_its_keys(
    chain: Chain,
) -> None:
    params = chain.params
    rows = encode(chain, VIEWS)
    stored = load_array(resolve(rows["case_03"], "encode"))
    examples = read_examples(chain.inputs["index"], chain.inputs["preprocess"], params.preprocess)
    example = next(e for e in examples if e.case.case_id == "case_03")
    x = normalise(load_array(example.volume), params.preprocess, example.statistics)
    encoder = load_encoder(chain.models / "cls").encoder
    for number in (1, 2):
        rng = generator(params.seed, "view", "case_03", number)
        voxels = augment_volume(x, params.train_report.augment, rng)
        expected = encode_volumes(
            encoder, torch.from_numpy(voxels)[None, None], params.injection
        ).numpy()[0]
        np.testing.assert_allclose(stored[number], expected, atol=2e-3, rtol=2e-3)  # float16
        other_seed = CachedViews(params.train_report.augment, params.seed + 1)
        assert not np.array_equal(other_seed(x, "case_03", number), voxels)


def test_what_is_stored_already_is_kept_until_the_augmentation_changes(chain: Chain) -> None:
    first = encode(chain, VIEWS)
    path: Path = resolve(first["case_00"], "encode")
    written = path.stat().st_mtime_ns
    assert encode(chain, VIEWS)["case_00"] == first["case_00"]
    assert path.stat().st_mtime_ns == written
    augment = chain.params.train_report.augment.model_copy(update={"scale_std": 0.5})
    report = chain.params.train_report.model_copy(update={"augment": augment})
    chain.params = chain.params.model_copy(update={"train_report": report})
    changed = encode(chain, VIEWS)
    assert changed["case_00"].key != first["case_00"].key
    assert changed["case_09"] == first["case_09"]  # of validation: no views


def test_training_draws_every_view_alike_and_validation_the_first(tmp_path: Path) -> None:
    path, single = tmp_path / "three", tmp_path / "one"
    kept: dict[Path, npt.NDArray[Any]] = {
        path: np.arange(VIEWS)[:, None, None] * np.ones((VIEWS, 4, 5)),
        single: np.full((4, 5), 7.0),
    }
    inputs = TokenInputs(
        [path, single], [VIEWS, 1], Arrays(True, kept), [2, 3], np.zeros(5, np.float32)
    )
    drawn: Counter[int] = Counter()
    for seed in range(600):
        tokens = inputs.finish(inputs([0, 1], generator(seed)))
        assert [stage.shape for stage in tokens] == [(2, 4, 2), (2, 4, 3)]
        assert (tokens[1][1] == 7).all()
        drawn[int(tokens[0][0, 0, 0])] += 1
    assert set(drawn) == {0, 1, 2}
    assert max(drawn.values()) - min(drawn.values()) < 80
    assert int(inputs.finish(inputs([0], None))[0][0, 0, 0]) == 0
    again = [int(inputs.finish(inputs([0], generator(seed)))[0][0, 0, 0]) for seed in range(20)]
    assert again == [int(inputs([0], generator(seed))[0][0, 0, 0]) for seed in range(20)]


@pytest.mark.slow
def test_stage_3_trains_on_views_and_ends_elsewhere_than_on_plain_tokens(chain: Chain) -> None:
    encode(chain, 1)
    chain.report(steps=2)
    plain = chain.bytes_of("report/decoder")
    encode(chain, VIEWS)
    chain.report(steps=2)
    assert chain.bytes_of("report/decoder") != plain


def test_views_that_would_all_be_alike_are_refused(tiny_document: dict[Any, Any]) -> None:
    tiny_document["encode"]["views"] = 2
    with pytest.raises(ConfigError, match=r"train_report\.augment changes nothing"):
        parse_params(tiny_document, "params.yaml")
    tiny_document["train_report"]["augment"]["roll_voxels"] = [0, 1, 0]
    assert parse_params(tiny_document, "params.yaml").encode.views == 2
    for count in (0, 9):
        tiny_document["encode"]["views"] = count
        with pytest.raises(ConfigError, match=r"encode\.views"):
            parse_params(tiny_document, "params.yaml")

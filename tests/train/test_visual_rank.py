"""The effective rank of visual tokens, as stage 3 reports it and warns of it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.model.test_effective_rank import by_numpy
from tests.train.chain import Chain
from uvlm.data.cases import read_index
from uvlm.store import load_array, resolve, rows_by_case


@pytest.mark.slow
def test_stage_3_reports_the_rank_of_validation_tokens_and_warns_of_a_low_one(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.seg(steps=0)
    chain.cls(steps=1, head_warmup_steps=0)
    chain.encode()
    cases = [case.case_id for case in read_index(chain.project.index) if case.split == "val"]
    found = chain.report(steps=1, val_cases=len(cases))["visual_rank"]
    assert "WARNING" not in capsys.readouterr().err
    rows = rows_by_case(chain.encodings)
    stage, channels = chain.params.injection.reference_stage, chain.params.encoder.channels
    start = sum(channels[: stage - 1])
    tokens = [load_array(resolve(rows[case_id], "encode")) for case_id in cases]
    own = np.concatenate(tokens)[:, start : start + channels[stage - 1]]
    assert found == pytest.approx(by_numpy(own.astype(float)), rel=1e-4)
    chain.report(steps=1, val_cases=len(cases), least_visual_rank=found + 0.1)
    assert f"use {found:.1f} of {channels[stage - 1]} directions" in capsys.readouterr().err

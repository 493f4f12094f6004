"""Writing reports: the cache against the full forward, batches against single rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.inference.tiny_writer import BOS, EOS, endless, greedy, tiny_visual, tiny_writer
from tests.tiny_qwen import write_qwen
from uvlm.errors import ConfigError
from uvlm.inference.decoding import Decoding
from uvlm.inference.writing import write_reports
from uvlm.model.uvlm import UVLM


@pytest.fixture
def model() -> UVLM:
    return tiny_writer()


@pytest.fixture(params=["scratch", "qwen3_full", "qwen3_lora"])
def writer(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UVLM:
    """The model with each kind of decoder."""
    if request.param != "scratch":
        monkeypatch.setenv("UVLM_QWEN3", str(write_qwen(tmp_path / "qwen")))
    return tiny_writer(kind=request.param)


@pytest.fixture
def visual() -> list[Tensor]:
    return tiny_visual()


@torch.no_grad()
def greedy_without_cache(model: UVLM, visual: list[Tensor], max_tokens: int) -> list[int]:
    """One row, the whole sequence again for every token."""
    model.eval()
    tokens = [BOS]
    while len(tokens) <= max_tokens:
        chosen = int(model(visual, torch.tensor([tokens]))[0, -1].argmax())
        if chosen == EOS:
            break
        tokens.append(chosen)
    return tokens[1:]


def row(visual: list[Tensor], case: int) -> list[Tensor]:
    return [tokens[case : case + 1] for tokens in visual]


@pytest.mark.slow
def test_greedy_reports_equal_those_written_without_a_cache(
    writer: UVLM, visual: list[Tensor]
) -> None:
    reports = greedy(writer, visual, 16)
    assert reports == [greedy_without_cache(writer, row(visual, case), 16) for case in range(6)]
    assert len({tuple(report) for report in reports}) > 1
    assert len({len(report) for report in reports}) > 1


@pytest.mark.slow
def test_a_batch_writes_what_its_rows_write_alone(writer: UVLM, visual: list[Tensor]) -> None:
    batch = write_reports(writer, visual, Decoding(16))
    for case, report in enumerate(batch):
        assert [report] == write_reports(writer, row(visual, case), Decoding(16))


def test_reports_end_before_eos_or_at_the_limit(model: UVLM, visual: list[Tensor]) -> None:
    for limit in (1, 5, 16):
        for report in greedy(model, visual, limit):
            assert len(report) <= limit
            assert EOS not in report
            assert BOS not in report[:1]


def test_a_limit_beyond_the_position_tables_is_refused(model: UVLM, visual: list[Tensor]) -> None:
    with pytest.raises(ConfigError, match=r"decoder\.max_report_tokens"):
        greedy(endless(model), visual, 100)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_while_writing_and_the_mode_is_put_back(
    model: UVLM, visual: list[Tensor], training: bool
) -> None:
    model.train(training)
    assert greedy(model, visual, 8) == greedy(model, visual, 8)
    assert model.training is training


def test_sampling_is_reproducible_and_approaches_greedy_when_cold(
    model: UVLM, visual: list[Tensor]
) -> None:
    def sample(seed: int, temperature: float) -> list[list[int]]:
        source = torch.Generator().manual_seed(seed)
        decoding = Decoding(12, temperature=temperature)
        return [report.ids for report in write_reports(model, visual, decoding, source)]

    assert sample(0, 2.0) == sample(0, 2.0)
    assert sample(0, 2.0) != sample(1, 2.0)
    assert sample(0, 1e-4) == greedy(model, visual, 12)


def test_nothing_but_eos_is_held_back_by_a_minimum(model: UVLM, visual: list[Tensor]) -> None:
    free = write_reports(model, visual, Decoding(16))
    held = write_reports(model, visual, Decoding(16, min_tokens=9))
    assert min(len(report.ids) for report in free) < 9
    for before, after in zip(free, held, strict=True):
        assert len(after.ids) >= 9
        assert after.ids[: len(before.ids)] == before.ids
        if len(before.ids) >= 9:
            assert after == before


def test_why_a_report_ended_is_told(model: UVLM, visual: list[Tensor]) -> None:
    for report in write_reports(model, visual, Decoding(16)):
        assert report.ended == ("limit" if len(report.ids) == 16 else "eos")


def test_a_runaway_loop_stops_and_keeps_what_was_said_once(
    model: UVLM, visual: list[Tensor]
) -> None:
    running = write_reports(endless(model), visual, Decoding(25))
    stopped = write_reports(model, visual, Decoding(25, stop_after_repeats=4))
    assert {report.ended for report in running} == {"limit"}
    assert "loop" in {report.ended for report in stopped}
    for whole, part in zip(running, stopped, strict=True):
        assert whole.ids[: len(part.ids)] == part.ids
        assert (part.ended == "loop") == any(
            whole.ids[end - 4 * size : end] == whole.ids[end - size : end] * 4
            for end in range(26)
            for size in range(1, end // 4 + 1)
        )


def test_no_ngram_is_written_twice_when_told(model: UVLM, visual: list[Tensor]) -> None:
    def repeats(ids: list[int], size: int) -> bool:
        pieces = [tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)]
        return len(set(pieces)) < len(pieces)

    free = write_reports(endless(model), visual, Decoding(20))
    assert any(repeats(report.ids, 3) for report in free)
    told = write_reports(model, visual, Decoding(20, no_repeat_ngram=3))
    assert not any(repeats(report.ids, 3) for report in told)


def test_a_repetition_penalty_makes_words_more_diverse(model: UVLM, visual: list[Tensor]) -> None:
    def words(penalty: float) -> int:
        decoding = Decoding(8, repetition_penalty=penalty)
        return sum(len(set(r.ids)) for r in write_reports(endless(model), visual, decoding))

    assert words(20.0) > words(1.0)


def test_a_tiny_top_p_is_greedy(model: UVLM, visual: list[Tensor]) -> None:
    decoding = Decoding(12, temperature=5.0, top_p=1e-6)
    source = torch.Generator().manual_seed(0)
    drawn = write_reports(model, visual, decoding, source)
    assert [report.ids for report in drawn] == greedy(model, visual, 12)


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(16, repetition_penalty=1.7, no_repeat_ngram=2, min_tokens=5),
        Decoding(12, num_beams=3, length_penalty=0.8),
        Decoding(12, num_beams=4, no_repeat_ngram=2),
    ],
)
def test_a_batch_writes_what_its_rows_write_alone_however_words_are_chosen(
    model: UVLM, visual: list[Tensor], decoding: Decoding
) -> None:
    batch = write_reports(model, visual, decoding)
    assert len({tuple(report.ids) for report in batch}) > 1
    for case, report in enumerate(batch):
        assert [report] == write_reports(model, row(visual, case), decoding)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_weights_in_bfloat16_write_reports_on_a_cpu(
    model: UVLM, visual: list[Tensor], num_beams: int
) -> None:
    decoding = Decoding(8, num_beams=num_beams)
    reports = write_reports(endless(model.bfloat16()), visual, decoding)
    assert [len(report.ids) for report in reports] == [8] * 6

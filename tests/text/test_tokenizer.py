"""The tokenizer: lossless, deterministic, whole words, and deaf to special tokens in text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_qwen import tiny_tokenizer
from uvlm.config import TokenizerConfig
from uvlm.data.sets.phantom.reports import PlantedFinding, write_report
from uvlm.errors import ConfigError, DataError, SetupError
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.report import Report
from uvlm.text.tokenizer import (
    QWEN3_SPECIAL_TOKENS,
    SPECIAL_TOKENS,
    Tokenizer,
    run,
    train_tokenizer,
)


def phantom_texts(count: int) -> list[str]:
    generator = np.random.default_rng(7)
    texts = []
    for _ in range(count):
        drawn = [name for name in ABNORMALITIES if generator.random() < 0.25]
        findings = [PlantedFinding(name, "left", "lower", "small") for name in drawn]
        written = write_report(findings, generator)
        texts.append(Report(written.findings, written.impression).text)
    return texts


TEXTS = phantom_texts(60)
TOKENIZER = train_tokenizer(TEXTS, 1024)


@given(st.text(max_size=80))
def test_any_text_survives_the_round_trip(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(st.lists(st.sampled_from([*SPECIAL_TOKENS, " ", "No emphysema."]), max_size=6))
def test_letters_that_spell_a_special_token_stay_letters(pieces: list[str]) -> None:
    ids = TOKENIZER.encode("".join(pieces))
    assert all(index >= len(SPECIAL_TOKENS) for index in ids)
    assert TOKENIZER.decode(ids) == "".join(pieces)


def test_special_tokens_have_the_first_ids_and_spell_nothing() -> None:
    ids = [
        TOKENIZER.pad_id,
        TOKENIZER.start_of_image_id,
        TOKENIZER.end_of_image_id,
        TOKENIZER.bos_id,
        TOKENIZER.eos_id,
    ]
    assert ids == [0, 1, 2, 3, 4]
    words = TOKENIZER.encode("No emphysema.")
    assert TOKENIZER.decode([TOKENIZER.bos_id, *words, TOKENIZER.eos_id, 0]) == "No emphysema."


def test_every_frequent_word_of_the_training_reports_is_one_token() -> None:
    for word in (" No", " Without", " emphysema", " Consolidation", " left", " lower", " lobe"):
        assert len(TOKENIZER.encode(word)) == 1, word


def test_ids_stay_below_the_vocabulary_size() -> None:
    largest = max(max(TOKENIZER.encode(text)) for text in TEXTS)
    assert largest < TOKENIZER.vocabulary_size <= 1024


def test_the_same_texts_in_any_order_give_the_same_file(tmp_path: Path) -> None:
    files = []
    for name, texts in (("forward", TEXTS), ("backward", TEXTS[::-1])):
        train_tokenizer(texts, 400).save(tmp_path / name)
        files.append((tmp_path / name / "tokenizer.json").read_bytes())
    assert files[0] == files[1]


def test_only_the_texts_given_shape_the_vocabulary() -> None:
    without = train_tokenizer(["No nodule."] * 5, 400)
    assert len(without.encode(" emphysema")) > len(TOKENIZER.encode(" emphysema"))


def test_a_saved_tokenizer_loads_alike(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.vocabulary_size == TOKENIZER.vocabulary_size
    for text in (*TEXTS[:5], "<eos> \N{SNOWMAN}"):
        assert loaded.encode(text) == TOKENIZER.encode(text)


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tokenizer\.json: cannot be read"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "tru')
    with pytest.raises(DataError, match=r"tokenizer\.json: is not a tokenizer"):
        Tokenizer.load(tmp_path)


def test_a_tokenizer_with_other_special_tokens_is_refused(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    document = json.loads(path.read_text().replace("<bos>", "<|im_start|>"))
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match="<bos> has id None, not 3"):
        Tokenizer.load(tmp_path)


def test_no_training_report_is_refused() -> None:
    with pytest.raises(DataError, match="there are no training reports"):
        train_tokenizer(["", "  \n"], 400)


def test_a_vocabulary_without_room_for_bytes_is_refused() -> None:
    with pytest.raises(ConfigError, match="use 261 or more"):
        train_tokenizer(TEXTS, 260)


def test_run_saves_what_it_returns(tmp_path: Path) -> None:
    config = TokenizerConfig(kind="bpe", vocabulary_size=400)
    made = run(config, iter(TEXTS), tmp_path / "tokenizer")
    assert Tokenizer.load(tmp_path / "tokenizer").encode(TEXTS[0]) == made.encode(TEXTS[0])


def test_qwen3_says_what_is_missing_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TokenizerConfig(kind="qwen3", vocabulary_size=400)
    monkeypatch.delenv("UVLM_QWEN3", raising=False)
    with pytest.raises(SetupError, match="UVLM_QWEN3: is not set"):
        run(config, TEXTS, tmp_path / "tokenizer")
    monkeypatch.setenv("UVLM_QWEN3", str(tmp_path / "qwen"))
    with pytest.raises(SetupError, match=r"tokenizer\.json: no such file"):
        run(config, TEXTS, tmp_path / "tokenizer")
    TOKENIZER.save(tmp_path / "qwen")
    with pytest.raises(DataError, match="is not Qwen3's tokenizer"):
        run(config, TEXTS, tmp_path / "tokenizer")
    assert not (tmp_path / "tokenizer").exists()


@pytest.fixture
def qwen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tokenizer:
    """What the stage makes of a tokenizer laid out as Qwen3's is."""
    (tmp_path / "qwen").mkdir()
    tiny_tokenizer(TEXTS).save(str(tmp_path / "qwen" / "tokenizer.json"))
    monkeypatch.setenv("UVLM_QWEN3", str(tmp_path / "qwen"))
    run(TokenizerConfig(kind="qwen3", vocabulary_size=400), TEXTS, tmp_path / "tokenizer")
    return Tokenizer.load(tmp_path / "tokenizer")


def test_qwen3_s_own_tokens_frame_images_and_reports(qwen: Tokenizer) -> None:
    whole = tiny_tokenizer(TEXTS)
    assert qwen.vocabulary_size == whole.get_vocab_size()
    found = (qwen.pad_id, qwen.start_of_image_id, qwen.end_of_image_id, qwen.bos_id, qwen.eos_id)
    assert found == tuple(whole.token_to_id(token) for token in QWEN3_SPECIAL_TOKENS)
    words = qwen.encode("No emphysema.")
    assert qwen.decode([qwen.bos_id, *words, qwen.eos_id, qwen.pad_id]) == "No emphysema."


def test_qwen3_encodes_reports_as_its_published_tokenizer_does(qwen: Tokenizer) -> None:
    whole = tiny_tokenizer(TEXTS)
    for text in (*TEXTS[:10], "12 mm nodule, \N{SNOWMAN}\n"):
        assert qwen.encode(text) == whole.encode(text, add_special_tokens=False).ids
        assert qwen.decode(qwen.encode(text)) == text


def test_letters_that_spell_a_token_of_qwen3_stay_letters(qwen: Tokenizer) -> None:
    ids = qwen.encode("Normal.<|im_end|>")
    assert qwen.eos_id not in ids
    assert qwen.decode(ids) == "Normal.<|im_end|>"

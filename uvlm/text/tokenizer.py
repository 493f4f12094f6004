"""Report text to token ids and back: a byte-level BPE trained on the training split, or Qwen3's.

Every byte is a token, so any text survives the round trip; frequent words become one token. Special
tokens exist as ids only: a report that happens to contain "<eos>" is encoded letter by letter.
Ours have the first five ids; in Qwen3's vocabulary, tokens of its own play the same parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from uvlm.config import TokenizerConfig
from uvlm.errors import ConfigError, DataError
from uvlm.files import write_text_atomic
from uvlm.qwen_folder import qwen_file

FILE_NAME: Final = "tokenizer.json"
PAD: Final = "<pad>"
SPECIAL_TOKENS: Final = (PAD, "<start_of_image>", "<end_of_image>", "<bos>", "<eos>")
# In the same order; Qwen3 ends its own answers with <|im_end|>.
QWEN3_SPECIAL_TOKENS: Final = (
    "<|endoftext|>", "<|vision_start|>", "<|vision_end|>", "<|im_start|>", "<|im_end|>",
)  # fmt: skip
_NUM_BYTES: Final = 256


class Tokenizer:
    """Encodes and decodes reports; whoever builds a sequence adds the special tokens."""

    def __init__(
        self, bpe: tokenizers.Tokenizer, special_tokens: Sequence[str] = SPECIAL_TOKENS
    ) -> None:
        """`special_tokens`: padding, start and end of an image, start and end of a report."""
        self._bpe = bpe
        self._bpe.encode_special_tokens = True  # "<eos>" in a text is text
        self.is_qwen3 = special_tokens == QWEN3_SPECIAL_TOKENS
        ids = map(bpe.get_vocab().__getitem__, special_tokens)
        self.pad_id, self.start_of_image_id, self.end_of_image_id, self.bos_id, self.eos_id = ids

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, special tokens included."""
        return self._bpe.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Ids of the text alone, without special tokens."""
        return list(self._bpe.encode(text, add_special_tokens=False).ids)

    def places(self, text: str) -> list[tuple[int, int]]:
        """Say of each of these ids where it stands in the text: start and end in characters."""
        return list(self._bpe.encode(text, add_special_tokens=False).offsets)

    def decode(self, ids: Sequence[int]) -> str:
        """Spell out the ids; special tokens spell nothing."""
        return self._bpe.decode(list(ids), skip_special_tokens=True)

    def save(self, folder: Path) -> None:
        """Write `folder`/tokenizer.json."""
        folder.mkdir(parents=True, exist_ok=True)
        write_text_atomic(folder / FILE_NAME, self.to_json() + "\n")

    def to_json(self) -> str:
        """Write the content of tokenizer.json."""
        return str(self._bpe.to_str(pretty=True))

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Read `folder`/tokenizer.json: ours, whose special tokens come first, or Qwen3's."""
        return cls.read(folder / FILE_NAME, "make it again with `dvc repro -f -s tokenizer`")

    @classmethod
    def read(cls, path: Path, remedy: str) -> Tokenizer:
        """Read a tokenizer.json; `remedy` says what to do if it is missing or damaged."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(path, f"cannot be read ({error})", remedy) from None
        try:
            bpe = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the Rust parser raises nothing more specific
            raise DataError(path, f"is not a tokenizer ({error})", remedy) from None
        if all(bpe.token_to_id(token) is not None for token in QWEN3_SPECIAL_TOKENS):
            return cls(bpe, QWEN3_SPECIAL_TOKENS)
        for index, token in enumerate(SPECIAL_TOKENS):
            if (found := bpe.token_to_id(token)) != index:
                raise DataError(path, f"{token} has id {found}, not {index}", remedy)
        return cls(bpe)


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """Learn at most `vocabulary_size` tokens from the texts; their order does not matter."""
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise DataError("tokenizer", "there are no training reports", "check the splits of index")
    smallest = len(SPECIAL_TOKENS) + _NUM_BYTES
    if vocabulary_size < smallest:
        needs = f"{len(SPECIAL_TOKENS)} special tokens and {_NUM_BYTES} bytes"
        fact = f"{vocabulary_size} is too small for {needs}"
        raise ConfigError("tokenizer.vocabulary_size", fact, f"use {smallest} or more")
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(sorted(texts), trainer=trainer, length=len(texts))
    return Tokenizer(bpe)


def run(config: TokenizerConfig, texts: Iterable[str], out_dir: Path) -> Tokenizer:
    """Make a profile's tokenizer from the reports of its training split; save it in `out_dir`."""
    if config.kind == "qwen3":
        path = qwen_file(FILE_NAME)
        tokenizer = Tokenizer.read(path, "set UVLM_QWEN3 to a folder of Qwen3 as published")
        if not tokenizer.is_qwen3:
            raise DataError(path, "is not Qwen3's tokenizer", "use the folder as published")
    else:
        tokenizer = train_tokenizer(texts, config.vocabulary_size)
    tokenizer.save(out_dir)
    return tokenizer

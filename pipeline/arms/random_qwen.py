"""A small Qwen3 with random weights, for arms with Qwen3 where nobody downloaded one.

It takes the same way through the code as the published weights, and learns from the reports alone.
What it reaches says nothing about Qwen3-4B, so its config.json and every table say what it is.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from uvlm.errors import SetupError, install
from uvlm.files import filling_folder

if TYPE_CHECKING:
    import tokenizers

MARK: Final = "uvlm_random_weights"  # a key of its config.json
NOTE: Final = "random weights, not Qwen3-4B's"
RANDOM_SIZES: Final = {"layers": 8, "width": 64, "heads": 4, "ffn": 192}
_VOCABULARY: Final = 2048
_POSITIONS: Final = 8192  # of image and report together
_SEED: Final = 0
# The tokens that frame image and report have ids behind the merges, as in the published vocabulary.
_SPECIALS: Final = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
)  # fmt: skip


def random_qwen(folder: Path) -> Path:
    """Write config.json, tokenizer.json and model.safetensors, unless the folder is there."""
    if not folder.is_dir():
        with filling_folder(folder) as unfinished:
            vocabulary = _tokenizer()
            vocabulary.save(str(unfinished / "tokenizer.json"))
            _write_model(unfinished, vocabulary.get_vocab_size())
    return folder


def _write_model(folder: Path, vocabulary_size: int) -> None:
    import torch

    try:
        from transformers import Qwen3Config, Qwen3ForCausalLM
    except ModuleNotFoundError:
        raise SetupError("transformers", "is not installed", install("qwen")) from None
    sizes: dict[str, Any] = {
        "num_hidden_layers": RANDOM_SIZES["layers"],
        "hidden_size": RANDOM_SIZES["width"],
        "intermediate_size": RANDOM_SIZES["ffn"],
        "num_attention_heads": RANDOM_SIZES["heads"],
        "num_key_value_heads": RANDOM_SIZES["heads"] // 2,
        "head_dim": RANDOM_SIZES["width"] // RANDOM_SIZES["heads"],
    }
    config = Qwen3Config(
        vocab_size=vocabulary_size,
        max_position_embeddings=_POSITIONS,
        tie_word_embeddings=True,
        **sizes,
        **{MARK: True},
    )
    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
        Qwen3ForCausalLM(config).save_pretrained(folder)


def _tokenizer() -> tokenizers.Tokenizer:
    """Learn a byte-level BPE from the words of English reports, which come with the package."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
    from tokenizers import pre_tokenizers as pre
    from tokenizers.trainers import BpeTrainer

    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    split = pre.Split(Regex(r"\s?\p{L}+|\p{N}|[^\s\p{L}\p{N}]+|\s+"), "isolated")
    made.pre_tokenizer = pre.Sequence([split, pre.ByteLevel(False, use_regex=False)])
    made.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=_VOCABULARY,
        initial_alphabet=pre.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = files("uvlm.text").joinpath("known_words.txt").read_text(encoding="utf-8").split()
    made.train_from_iterator([f" {word}" for word in words], trainer=trainer)
    made.add_special_tokens([AddedToken(token, special=True) for token in _SPECIALS])
    return made

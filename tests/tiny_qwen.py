"""A random Qwen3 of a few thousand weights in a folder laid out as the published ones are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

# Ids follow the merges, as in the published tokenizer.json; the last one is not a special token.
ADDED = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
)
LAYERS, WIDTH, HEADS, FFN = 8, 16, 2, 32
SIZES: dict[str, Any] = {"layers": LAYERS, "width": WIDTH, "heads": HEADS, "ffn": FFN}


def write_qwen(
    folder: Path, texts: Sequence[str] = ("A heart.",), seed: int = 0, spare_rows: int = 0
) -> Path:
    """Write config.json, model.safetensors and tokenizer.json; no token spells the spare rows."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer(texts)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = Qwen3Config(
        vocab_size=tokenizer.get_vocab_size() + spare_rows,
        hidden_size=WIDTH,
        intermediate_size=FFN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=1,
        head_dim=12,  # as in Qwen3-4B, not width / heads
        max_position_embeddings=256,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
        for weight in model.parameters():
            weight.data.add_(0.2 * torch.randn_like(weight))
        model.save_pretrained(folder)
    return folder


def tiny_tokenizer(texts: Sequence[str]) -> tokenizers.Tokenizer:
    """Byte-level BPE with NFC, a splitting pattern, and special tokens after the merges."""
    made = tokenizers.Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(r"\s?\p{L}+|\p{N}|[^\s\p{L}\p{N}]+|\s+"), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(list(texts), trainer=trainer)
    made.add_special_tokens([AddedToken(token, special=True) for token in ADDED])
    made.add_tokens([AddedToken("<think>", special=False)])
    return made

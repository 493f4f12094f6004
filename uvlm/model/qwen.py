"""Qwen3 behind the interface of `LanguageDecoder`: same injection, same mask, same cache.

The layers are those of transformers, called one after the other. LoRA comes from peft and sits in
the four projections of the attention; the rest of Qwen3 then stays as published, and a state of the
decoder holds the adapter alone.

B batch, L sequence, K visual tokens, E width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from uvlm.errors import ConfigError, DataError, SetupError, install
from uvlm.model.attention import hybrid_mask
from uvlm.model.cache import Cache, LayerCache
from uvlm.model.inject import Position, inject
from uvlm.model.pretrained import QwenOrigin

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")


class QwenDecoder(nn.Module):
    """A Qwen3ForCausalLM that takes embedded positions and visual injections."""

    def __init__(
        self, model: Any, vocabulary_size: int, position: Position, is_adapted: bool
    ) -> None:
        """Wrap a Qwen3ForCausalLM.

        Args:
            model: with or without LoRA layers in it.
            vocabulary_size: ids of the tokenizer; the further rows of Qwen3 spell nothing.
            position: where injections are added.
            is_adapted: only the adapter trains, and a state holds nothing else.
        """
        super().__init__()
        self.is_adapted = is_adapted
        self.model = model
        self.vocabulary_size = vocabulary_size
        self.position = position
        if position == "after_attention":
            for layer in model.model.layers:
                layer.self_attn.register_forward_hook(_add_visual, with_kwargs=True)
        self.register_state_dict_post_hook(_keep_what_trains)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_frozen_may_be_missing)  # type: ignore[no-untyped-call]

    @property
    def layers(self) -> nn.ModuleList:
        """The layers of Qwen3, first to last."""
        layers: nn.ModuleList = self.model.model.layers
        return layers

    def embed(self, token_ids: Tensor) -> Tensor:
        """Embed token ids (..., T): (..., T, E)."""
        embedded: Tensor = self.model.model.embed_tokens(token_ids)
        return embedded

    def new_cache(self, capacity: int) -> Cache:
        """Make an empty cache, one entry per layer, for at most `capacity` positions."""
        return Cache(LayerCache(capacity) for _ in self.layers)

    def forward(
        self,
        hidden: Tensor,
        injections: Mapping[int, Tensor],
        num_visual: int | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Run all layers over embedded positions; see `LanguageDecoder.forward`."""
        start = cache[0].length if cache else 0
        end, limit = start + hidden.shape[1], self.model.config.max_position_embeddings
        if end > limit:
            fact = f"a sequence of {end} positions is longer than Qwen3's {limit}"
            remedy = "lower it or use a deeper reference stage"
            raise ConfigError("decoder.max_report_tokens", fact, remedy)
        mask = None
        if num_visual is not None:
            mask = hybrid_mask(num_visual, hidden.shape[1] - num_visual, hidden.device)[None, None]
        positions = torch.arange(start, end, device=hidden.device)[None]
        arguments = {
            "position_embeddings": self.model.model.rotary_emb(hidden, positions),
            "attention_mask": mask,
            "is_causal": False,  # transformers takes "no mask" for causal otherwise
            "cache": cache,
        }
        for number, layer in enumerate(self.layers, start=1):
            visual = injections.get(number)
            if visual is not None and self.position == "before_layer":
                hidden, visual = inject(hidden, visual), None
            hidden = layer(hidden, **arguments, after_attention=visual)
        normed: Tensor = self.model.model.norm(hidden)
        return normed

    def logits(self, hidden: Tensor) -> Tensor:
        """Turn hidden states (..., E) into logits (..., V)."""
        return F.linear(hidden, self.output_weight)

    @property
    def output_weight(self) -> Tensor:
        """Weight (V, E) of the output layer, without the rows beyond the tokenizer's ids."""
        weight: Tensor = self.model.lm_head.weight[: self.vocabulary_size]
        return weight

    def merge_adapter(self) -> None:
        """Fold the adapter into the weights it adapts: same outputs, fewer products."""
        from peft.tuners.lora import LoraLayer

        for module in list(self.model.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, LoraLayer):
                    child.merge()
                    setattr(module, name, child.get_base_layer())
        self.is_adapted = False


def _add_visual(
    _: nn.Module, __: Any, given: Mapping[str, Any], outputs: tuple[Tensor, Any]
) -> tuple[Tensor, Any]:
    """Add to the output of a layer's attention, which is the input of its feed-forward."""
    visual = given.get("after_attention")  # as the layer was called with: a recomputed one is, too
    return outputs if visual is None else (inject(outputs[0], visual), outputs[1])


def adapted(model: Any, rank: int, alpha: float, dropout: float) -> Any:
    """Freeze Qwen3 and add an adapter: `alpha` / `rank` times a product of that rank."""
    from peft import LoraConfig, inject_adapter_in_model

    # Any: peft declares alpha as an int, but only ever divides it by r.
    sizes: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "lora_dropout": dropout}
    model.requires_grad_(False)
    return inject_adapter_in_model(LoraConfig(**sizes, target_modules=list(LORA_TARGETS)), model)


def qwen3(origin: QwenOrigin, vocabulary_size: int, attention_dropout: float) -> Any:
    """Make a Qwen3ForCausalLM in fp32, with its published weights if the origin has a folder.

    Args:
        origin: architecture, and the folder of the weights.
        vocabulary_size: ids of the tokenizer, at most as many as Qwen3 has rows.
        attention_dropout: while training.
    """
    try:
        from transformers import Qwen3Config, Qwen3ForCausalLM
    except ImportError:
        fact = "Qwen3 needs transformers and peft"
        raise SetupError("decoder.kind", fact, install("qwen")) from None
    if vocabulary_size > (rows := origin.pretrained.architecture["vocab_size"]):
        fact = f"the tokenizer has {vocabulary_size} ids but Qwen3 {rows} rows"
        remedy = "use the tokenizer.json of the same Qwen3"
        raise DataError(origin.folder or "tokenizer.json", fact, remedy)
    architecture = dict(origin.pretrained.architecture) | {"attention_dropout": attention_dropout}
    for key in ("dtype", "torch_dtype", "quantization_config"):  # trained in fp32, never quantised
        architecture.pop(key, None)
    config = Qwen3Config(**architecture, attn_implementation="sdpa")
    if origin.folder is None:
        return Qwen3ForCausalLM(config)
    try:
        model, found = Qwen3ForCausalLM.from_pretrained(
            origin.folder,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        fact = f"not readable as Qwen3 ({' '.join(str(error).split())})"
        raise DataError(origin.folder, fact, "download it again") from None
    if found["missing_keys"]:  # transformers would only warn, and start them at random
        fact = f"no tensor {min(found['missing_keys'])}"
        raise DataError(origin.folder, fact, "download it again")
    return model


def _frozen_names(decoder: nn.Module, prefix: str = "") -> list[str]:
    """Name the weights that an adapter leaves frozen; a decoder trained whole has none."""
    assert isinstance(decoder, QwenDecoder)
    if not decoder.is_adapted:
        return []
    named = decoder.named_parameters(remove_duplicate=False)
    return [prefix + name for name, _ in named if ".lora_" not in name]


def _keep_what_trains(module: nn.Module, state: Any, prefix: str, _: Any) -> None:
    for name in _frozen_names(module, prefix):
        state.pop(name, None)


def _frozen_may_be_missing(module: nn.Module, keys: Any) -> None:
    frozen = tuple(_frozen_names(module))
    keys.missing_keys[:] = [key for key in keys.missing_keys if not key.endswith(frozen)]

"""The classifier of CT-RATE's official scorer: RadBERT, its pooled output, one linear layer.

    text -> tokens (512 at most) -> RoBERTa -> pooled (B, H) -> linear (B, 18) -> sigmoid >= 0.5

The user brings the weights: `uvlm import-radbert` turns the published checkpoint into the folder
that UVLM_RADBERT_WEIGHTS names (model.safetensors, config.json and the tokenizer's files).

B texts of a batch, H hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from uvlm.environment import RADBERT_WEIGHTS
from uvlm.errors import SetupError, first_line, install
from uvlm.text.abnormalities import ABNORMALITIES

if TYPE_CHECKING:
    import torch

WEIGHTS_FILE: Final = "model.safetensors"
_TOKENS: Final = {"max_length": 512, "truncation": True, "padding": True, "return_tensors": "pt"}
_THRESHOLD: Final = 0.5
_BATCH_SIZE: Final = 16


class RadbertLabeller:
    """Labels by the official classifier.

    Args:
        folder: written by `uvlm import-radbert`; by default UVLM_RADBERT_WEIGHTS.
    """

    name: Final = "radbert"

    def __init__(self, folder: Path | None = None) -> None:
        from uvlm.device import choose_device_of_published

        self._device = choose_device_of_published()
        self._tokenizer, self._model = load_radbert(folder or radbert_folder())
        self._model.to(self._device).eval()

    def label(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """One row per text, one column per abnormality in CT-RATE's order; 1 is present."""
        return (self.probabilities(texts) >= _THRESHOLD).astype(np.int64)

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """One row per text, one column per abnormality in CT-RATE's order."""
        import torch

        rows = np.zeros((len(texts), len(ABNORMALITIES)), dtype=np.float32)
        # Texts of similar length need the least padding; rows keep the order of the texts.
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        for start in range(0, len(order), _BATCH_SIZE):
            batch = order[start : start + _BATCH_SIZE]
            tokens = self._tokenizer([texts[row] for row in batch], **_TOKENS).to(self._device)
            with torch.inference_mode():
                logits = self._model(tokens["input_ids"], tokens["attention_mask"])  # (B, 18)
            rows[batch] = logits.sigmoid().float().cpu().numpy()
        return rows


def radbert_folder() -> Path:
    """Return the folder that UVLM_RADBERT_WEIGHTS names; SetupError if a file of it is missing."""
    remedy = "set it to the folder that `uvlm import-radbert` wrote"
    folder = RADBERT_WEIGHTS.needed(remedy, "no weights for the radbert labeller")
    _check_files(folder)
    return folder


def load_radbert(folder: Path) -> tuple[Any, torch.nn.Module]:
    """Build tokenizer and classifier from a folder of `uvlm import-radbert`.

    Raises:
        SetupError: a file or the package is missing, or the weights belong to another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    transformers = import_transformers()
    _check_files(folder)
    try:
        model = build_radbert(transformers.RobertaConfig.from_pretrained(folder))
        model.load_state_dict(load_file(folder / WEIGHTS_FILE))
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, do_lower_case=True
        )
    except (RuntimeError, SafetensorError, OSError, ValueError) as error:
        fact = f"is not a RadBERT classifier ({first_line(error)})"
        raise SetupError(folder, fact, "import it again") from None
    return tokenizer, model


def _check_files(folder: Path) -> None:
    missing = [n for n in ("config.json", WEIGHTS_FILE) if not (folder / n).is_file()]
    if missing:
        raise SetupError(folder, f"no {' and no '.join(missing)}", "run `uvlm import-radbert`")


def build_radbert(config: Any) -> torch.nn.Module:
    """Make the untrained classifier of a RoBERTa configuration."""
    import torch

    transformers = import_transformers()

    class Radbert(torch.nn.Module):
        """Names its parts as the published checkpoint does, so that the weights fit."""

        def __init__(self) -> None:
            super().__init__()
            self.model = transformers.RobertaModel(config)
            self.classifier = torch.nn.Linear(config.hidden_size, len(ABNORMALITIES))

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            """Compute the logits (B, 18) of tokens (B, T)."""
            pooled = self.model(input_ids, attention_mask=attention_mask).pooler_output  # (B, H)
            logits: torch.Tensor = self.classifier(pooled)
            return logits

    return Radbert()


def import_transformers() -> Any:
    """Import the package, or say how to get it."""
    try:
        import transformers
    except ImportError:
        fact = "the radbert labeller needs this package"
        raise SetupError("transformers", fact, install("radbert")) from None
    return transformers

"""The llm labeller: a language model behind any OpenAI-compatible endpoint reads the reports.

Its answer must be a JSON object with every abnormality as a key and present, absent or uncertain as
the value; after any other it is asked again. Answers are kept in <store>/labels/llm, keyed by
prompt, model and report, so that a run that stops resumes where it was and no report is paid for
twice. Doubt stays doubt: `answers` has -1 for uncertain, and `label` counts it as present, as
CT-RATE's annotators did with "nodule?".

This is the only labeller that opens a connection: it sends the reports to the endpoint.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np

from uvlm.arrays import Counts
from uvlm.evaluation.labelling.chat import Answer, Endpoint, Message, NotNow, ask
from uvlm.files import key_of, store_root, write_json_atomic
from uvlm.text.abnormalities import ABNORMALITIES

UNCERTAIN: Final = -1
_VALUES: Final = {"present": 1, "absent": 0, "uncertain": UNCERTAIN}
_NUM_THREADS: Final = 8


class LlmLabeller:
    """Asks an endpoint about each distinct report once.

    Args:
        abnormalities: the columns of the labels, in this order.
        endpoint: by default the one that the environment names (see chat.py).
        cache: folder of answers, by default <store>/labels/llm.
    """

    name: Final = "llm"

    def __init__(
        self,
        abnormalities: Sequence[str] = ABNORMALITIES,
        endpoint: Endpoint | None = None,
        cache: Path | None = None,
    ) -> None:
        self._abnormalities = tuple(abnormalities)
        self._endpoint = endpoint or Endpoint.from_environment()
        self._cache = cache or store_root() / "labels" / "llm"
        self._instructions = _instructions(self._abnormalities)
        self._lock = threading.Lock()
        self._used = Counter(requests=0, tokens_in=0, tokens_out=0)

    def label(self, texts: Sequence[str]) -> Counts:
        """One row per text, one column per abnormality; 1 is present or uncertain."""
        return np.abs(self.answers(texts))

    def answers(self, texts: Sequence[str]) -> Counts:
        """One row per text, one column per abnormality; 1 present, 0 absent, -1 uncertain."""
        different = list(dict.fromkeys(texts))
        with ThreadPoolExecutor(_NUM_THREADS) as pool:
            futures = [pool.submit(self._answer, text) for text in different]
            try:
                rows = [future.result() for future in futures]
            except BaseException:  # do not pay for reports that nobody will count
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        row_by_text = dict(zip(different, rows, strict=True))
        table = [row_by_text[text] for text in texts]
        return np.array(table, dtype=np.int64).reshape(len(texts), len(self._abnormalities))

    @property
    def usage(self) -> dict[str, float]:
        """What was asked and paid so far; answers from the cache cost nothing."""
        endpoint, used = self._endpoint, self._used
        cost = used["tokens_in"] * endpoint.price_in + used["tokens_out"] * endpoint.price_out
        return {**used, "cost": cost / 1e6}  # prices are per million tokens

    def _answer(self, text: str) -> list[int]:
        """Look the report up, else ask and keep the answer."""
        if not text.strip():
            return [0] * len(self._abnormalities)
        messages: list[Message] = [
            {"role": "system", "content": self._instructions},
            {"role": "user", "content": text},
        ]
        key = key_of("llm", self._endpoint.url, self._endpoint.model, messages)
        path = self._cache / key[:2] / f"{key}.json"
        known = self._read_cache(path)
        if known is not None:
            return known
        values = ask(self._endpoint, messages, self._understand)
        write_json_atomic(path, dict(zip(self._abnormalities, values, strict=True)))
        return values

    def _read_cache(self, path: Path) -> list[int] | None:
        """Look an answer up; None where it is absent or damaged."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            values = [document[name] for name in self._abnormalities]
        except (OSError, ValueError, LookupError, TypeError):
            return None
        return values if all(value in _VALUES.values() for value in values) else None

    def _understand(self, answer: Answer) -> list[int]:
        """Count an answer and check it against the schema; nonsense is paid for, too."""
        with self._lock:  # threads ask side by side
            self._used.update(requests=1, tokens_in=answer.tokens_in, tokens_out=answer.tokens_out)
        return parse_answer(answer.content, self._abnormalities)


def _instructions(abnormalities: Sequence[str]) -> str:
    text = (files(__package__) / "llm_prompt.txt").read_text(encoding="utf-8")
    return text.strip().format(names=", ".join(abnormalities))


def parse_answer(content: str, abnormalities: Sequence[str]) -> list[int]:
    """Read the JSON object of an answer, which may stand in a code fence.

    Raises:
        NotNow: it is not such an object, or a key or value is missing, unknown or repeated.
    """
    fenced = content.strip().removeprefix("```json").removeprefix("```").removesuffix("```")
    try:
        # As pairs: a dict would hide a key that comes twice.
        pairs: Any = json.loads(fenced, object_pairs_hook=list)
        keys = [key for key, _ in pairs]
        value_by_key = dict(pairs)
        values = [_VALUES[value_by_key[name]] for name in abnormalities]
    except (ValueError, TypeError, LookupError):
        raise NotNow("the answer does not follow the schema") from None
    if sorted(keys) != sorted(abnormalities):
        raise NotNow("the answer has the wrong keys")
    return values

"""Patient questions to an OpenAI-compatible endpoint.

After 429 (too many requests), 5xx (server errors), timeouts and broken connections it tries again,
after a growing pause or the one that the server asks for. Redirects are not followed.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

from uvlm.environment import LLM_KEY, LLM_MODEL, LLM_PRICES, LLM_URL
from uvlm.errors import ConfigError, SetupError

_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_MAX_ANSWER_BYTES: Final = 1 << 20
_LONGEST_PAUSE_S: Final = 60.0
Message = Mapping[str, str]
T = TypeVar("T")


class Answer(NamedTuple):
    """What the model said, and the tokens it counted."""

    content: str
    tokens_in: int
    tokens_out: int


class NotNow(Exception):
    """An attempt failed; another may succeed."""

    def __init__(self, fact: str, pause_s: float | None = None) -> None:
        super().__init__(fact)
        self.fact, self.pause_s = fact, pause_s


@dataclass(frozen=True)
class Endpoint:
    """Where questions go; `pause_s` doubles from attempt to attempt."""

    url: str
    model: str
    key: str | None = None
    price_in: float = 0.0
    price_out: float = 0.0
    timeout_s: float = 120.0
    attempts: int = 6
    pause_s: float = 1.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(LLM_URL.name, f"{self.url!r} is not an http(s) address")
        if self.key and parts.scheme == "http" and parts.hostname not in _LOCAL:
            fact = f"{self.url} would receive the key unencrypted"
            raise ConfigError(LLM_URL.name, fact, "use https")

    @classmethod
    def from_environment(cls) -> Endpoint:
        """Read the variables UVLM_LLM_..."""
        remedy = "the llm labeller needs an endpoint and a model"
        url, model = LLM_URL.needed(remedy), LLM_MODEL.needed(remedy)
        return cls(url, model, LLM_KEY.read(), *LLM_PRICES.read())


def ask(endpoint: Endpoint, messages: Sequence[Message], understand: Callable[[Answer], T]) -> T:
    """Ask until `understand` accepts the answer; it raises NotNow for nonsense.

    Raises:
        SetupError: the endpoint refuses, or no attempt brought an answer that can be understood.
    """
    fact = ""
    for attempt in range(endpoint.attempts):
        try:
            return understand(_post(endpoint, messages))
        except NotNow as failure:
            fact, pause_s = failure.fact, failure.pause_s
        if attempt + 1 < endpoint.attempts:
            pause_s = endpoint.pause_s * 2**attempt if pause_s is None else pause_s
            time.sleep(min(pause_s, _LONGEST_PAUSE_S))
    remedy = "run it again: the answers so far are kept"
    raise SetupError(endpoint.url, f"{endpoint.attempts} attempts failed, last: {fact}", remedy)


def _post(endpoint: Endpoint, messages: Sequence[Message]) -> Answer:
    """Send one request and read its answer."""
    form = {"temperature": 0, "response_format": {"type": "json_object"}}
    question = {"model": endpoint.model, "messages": list(messages), **form}
    headers = {"Content-Type": "application/json"}
    if endpoint.key:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    request = urllib.request.Request(
        f"{endpoint.url.rstrip('/')}/chat/completions", json.dumps(question).encode(), headers
    )
    try:
        with _OPENER.open(request, timeout=endpoint.timeout_s) as response:
            body = response.read(_MAX_ANSWER_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 429 or error.code >= 500:
                raise NotNow(f"status {error.code}", _retry_after(error)) from None
            remedy = "check UVLM_LLM_URL, UVLM_LLM_MODEL and UVLM_LLM_KEY"
            raise SetupError(endpoint.url, f"status {error.code}", remedy) from None
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        raise NotNow(str(error) or type(error).__name__) from None
    return _read_answer(body)


def _read_answer(body: bytes) -> Answer:
    try:
        document: Any = json.loads(body)
        content = document["choices"][0]["message"]["content"]
        usage = document.get("usage") or {}
        tokens = [int(usage.get(f"{side}_tokens") or 0) for side in ("prompt", "completion")]
    except (ValueError, TypeError, LookupError, AttributeError):
        raise NotNow("the answer is not a chat completion") from None
    if not isinstance(content, str):
        raise NotNow("the answer has no text")
    return Answer(content, *tokens)


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    """Read the pause that a server asks for; dates are ignored."""
    try:
        return max(0.0, float(error.headers.get("Retry-After", "")))
    except ValueError:
        return None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses to follow: a redirect would carry the key and the report elsewhere."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER: Final = urllib.request.build_opener(_NoRedirect)

"""Requests to the Hugging Face hub with patient retries, and errors that say what to do.

A request is repeated after 429 (not before Retry-After has passed), 408, 5xx, a timeout or a broken
connection; any other answer is final. The token is the one that huggingface_hub finds (`$HF_TOKEN`,
or its command line's login), the server `$HF_ENDPOINT`.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from uvlm.environment import HF_ENDPOINT
from uvlm.errors import DataError, Interrupted, SetupError, UvlmError, first_line

if TYPE_CHECKING:
    import httpx2

Answer = TypeVar("Answer")
_WORTH_REPEATING: Final = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Patience:
    """How long to wait before each retry, and for an answer (seconds)."""

    waits: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0, 60.0, 120.0)
    longest_wait: float = 600.0
    timeout: float = 30.0


@dataclass(frozen=True)
class Repo:
    """One commit of a data set on the hub."""

    name: str
    commit: str


class UnverifiedError(Exception):
    """An answer that is not what the listing promises; asking again may help."""


@dataclass
class Hub:
    """A server, and how patient to be with it."""

    endpoint: str = ""
    patience: Patience = field(default_factory=Patience)
    stop: threading.Event = field(default_factory=threading.Event)
    sleep: Callable[[float], object] | None = None
    _is_said: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        self.endpoint = self.endpoint or HF_ENDPOINT.read()

    def wait(self, seconds: float) -> None:
        """Sleep, but wake up as soon as the whole download is stopped."""
        (self.sleep or self.stop.wait)(seconds)

    def commit_of(self, name: str, revision: str) -> str:
        """Ask which commit a branch or tag points to."""
        from urllib.parse import quote

        url = f"{self.endpoint}/api/datasets/{name}/revision/{quote(revision, safe='')}"
        # Unless told what to expand, the hub lists every file of the repository.
        answer = self.patiently(name, lambda: self._json("GET", url, params={"expand": ["sha"]}))
        return str(answer.get("sha"))

    def paths_info(self, repo: Repo, paths: list[str]) -> list[dict[str, Any]]:
        """Ask for size and digests of these paths; the answer omits those that do not exist."""
        url = f"{self.endpoint}/api/datasets/{repo.name}/paths-info/{repo.commit}"
        data = {"paths": paths, "expand": False}
        answer = self.patiently(repo.name, lambda: self._json("POST", url, data=data))
        return list(map(dict, answer))

    @contextmanager
    def stream(self, repo: Repo, path: str, offset: int) -> Iterator[httpx2.Response]:
        """Open a file of the repository at an offset, without retries: the caller resumes."""
        from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status
        from huggingface_hub.utils import build_hf_headers

        where = {"revision": repo.commit, "endpoint": self.endpoint}
        url = hf_hub_url(repo.name, path, repo_type="dataset", **where)
        # Compressed on the way, the bytes would have other offsets than the file.
        headers = build_hf_headers() | {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        timeout = self.patience.timeout
        with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
            if response.status_code != 416:  # the caller has as many bytes as there are, or more
                hf_raise_for_status(response)
            yield response

    def patiently(self, subject: str, request: Callable[[], Answer]) -> Answer:
        """Repeat a request until it is answered or patience ends; errors name the `subject`."""
        waits = iter(self.patience.waits)
        while True:
            try:
                return request()
            except Exception as error:
                pause = self.pause_after(error, subject, next(waits, None))
            self.wait(pause)

    def pause_after(self, error: Exception, subject: str, wait: float | None) -> float:
        """Decide how long to wait before asking again, or raise what the user should read.

        Args:
            error: what a request raised.
            subject: the file or repository.
            wait: what patience allows next; None if it has ended.
        """
        asked_for = _pause_asked_for(error)
        # The order matters: what cannot succeed is explained even when the download is stopping.
        if asked_for is None:
            raise explain(error, subject, self.endpoint) from error
        if self.stop.is_set():
            raise interrupted(subject) from error
        self._say_if_out_of_reach(error)
        if wait is None:
            raise _gave_up(error, f"{subject} at {self.host}", len(self.patience.waits)) from error
        if asked_for > self.patience.longest_wait:
            fact = f"the hub asks to wait {asked_for:.0f} s"
            raise SetupError(subject, fact, "run the same command later; it resumes") from error
        return max(wait, asked_for)

    def _say_if_out_of_reach(self, error: Exception) -> None:
        """Say once that nothing can be reached: patience may last for minutes."""
        import httpx2

        if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout)) and not self._is_said:
            self._is_said = True
            seconds = sum(self.patience.waits)
            fact = f"cannot be reached ({first_line(error)})"
            sys.stderr.write(f"{self.host}: {fact}; trying again for {seconds:.0f} s\n")

    @property
    def host(self) -> str:
        """The server's name, for messages."""
        from urllib.parse import urlsplit

        return urlsplit(self.endpoint).netloc or self.endpoint

    def _json(self, method: str, url: str, **content: Any) -> Any:
        from huggingface_hub import get_session, hf_raise_for_status
        from huggingface_hub.utils import build_hf_headers

        headers, timeout = build_hf_headers(), self.patience.timeout
        response = get_session().request(method, url, headers=headers, timeout=timeout, **content)
        hf_raise_for_status(response)
        try:
            return response.json()
        except ValueError:
            kind = response.headers.get("Content-Type", "no type")
            raise UnverifiedError(f"answered {kind} where JSON was expected") from None


def explain(error: Exception, subject: str, endpoint: str) -> Exception:
    """Say in one line why a request cannot succeed and what would help; bugs are passed through."""
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return SetupError(subject, "HF_HUB_OFFLINE forbids the network", "unset it to download")
    # These are subclasses of HTTP errors with a status: they have to come before it.
    if isinstance(error, errors.RevisionNotFoundError):
        return DataError(subject, "has no such revision", "correct download.*.revisions")
    if isinstance(error, errors.EntryNotFoundError):
        return DataError(subject, "is not on the hub", "list it in download.*.exclude")
    status = _status(error)
    if status in (401, 403) or isinstance(error, errors.RepositoryNotFoundError):
        fact = f"the hub refuses access (HTTP {status})"
        remedy = f"accept the terms on the data set's page at {endpoint} and set HF_TOKEN"
        return SetupError(subject, fact, remedy)
    if status is not None:
        return SetupError(subject, f"the hub answered: {first_line(error)}", "see docs/datasets.md")
    if isinstance(error, OSError):
        fact = f"cannot be written ({error.strerror})"
        return SetupError(subject, fact, "free space or repair the disk, then run it again")
    return error


def interrupted(subject: str) -> Interrupted:
    """Say that a download was stopped from outside."""
    return Interrupted(subject, "the download was stopped", "run the same command to continue")


def _gave_up(error: Exception, subject: str, retries: int) -> UvlmError:
    fact = f"gave up after {retries} retries: {first_line(error)}"
    if isinstance(error, UnverifiedError):
        return DataError(subject, fact, "nothing was kept; run the same command to try again")
    return SetupError(subject, fact, "run the same command to continue where it stopped")


def _pause_asked_for(error: Exception) -> float | None:
    """Find how long the server asks to wait (0: it does not say); None if retrying cannot help."""
    import httpx2

    if isinstance(error, (UnverifiedError, httpx2.TransportError)):
        return 0.0
    status = _status(error)
    if status not in _WORTH_REPEATING:
        return None
    response: httpx2.Response = error.response  # type: ignore[attr-defined]
    return _retry_after(response.headers)


def _retry_after(headers: Any) -> float:
    """Read Retry-After (seconds or a date), or else the hub's own rate-limit header."""
    from huggingface_hub.utils import parse_ratelimit_headers

    text = headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    if text:
        try:
            return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
        except (ValueError, TypeError):
            return 0.0
    limit = parse_ratelimit_headers(headers)
    return float(limit.reset_in_seconds) if limit and not limit.remaining else 0.0


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)

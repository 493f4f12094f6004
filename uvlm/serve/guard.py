"""What every request has to pass, before anything looks at it.

- The header Host names this page: a foreign name that was pointed at this computer does not.
- The key of this run, from the link in the terminal: other users of this computer do not have it.
  A link sets it as a cookie that no other site's request carries.
- A request that changes something comes from this page, which its Origin says, or has the key in a
  header, which no other site can set. There are no CORS headers.

No answer is kept by a browser, shown in a frame, or allowed to load anything but what it holds.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qs

HOST: Final = "127.0.0.1"
KEY_HEADER: Final = "x-uvlm-key"
_SAFE: Final = ("GET", "HEAD")
_METHODS: Final = (*_SAFE, "POST")
_ALWAYS: Final = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",  # without, a form would not say its Origin
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_NOTHING: Final = "default-src 'none'; frame-ancestors 'none'"

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def new_key() -> str:
    """Make the key of a run."""
    return secrets.token_urlsafe(24)


class Guard:
    """Passes to `inner` what may pass.

    Args:
        inner: the application.
        port: where it listens.
        key: of this run.
    """

    def __init__(self, inner: Application, port: int, key: str) -> None:
        self._inner, self._key = inner, key
        self._hosts = (f"{HOST}:{port}", f"localhost:{port}")
        self._cookie = f"uvlm_{port}"  # cookies are shared by all ports of a host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = _headers_of(scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _answer(send, *refusal)
        elif self._key_in_link(scope):
            name, value = self._cookie, f"{self._key}; Path=/; HttpOnly; SameSite=Strict"
            await _answer(send, 303, "", {"location": "/", "set-cookie": f"{name}={value}"})
        elif not self._has_key(headers):
            await _answer(send, 403, "Open the link that `uvlm serve` printed.")
        else:
            await self._inner(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if host not in self._hosts:
            return 421, "This page answers on the address that `uvlm serve` printed."
        if scope["method"] not in _METHODS:
            return 405, "Not a method of this page."
        if scope["method"] not in _SAFE and KEY_HEADER not in headers:
            is_ours = headers.get("origin") == f"http://{host}"
            if not is_ours or headers.get("sec-fetch-site", "same-origin") != "same-origin":
                return 403, "This request comes from another page."
        return None

    def _key_in_link(self, scope: Scope) -> bool:
        if scope["method"] != "GET" or scope["path"] != "/":
            return False
        found = parse_qs(scope["query_string"].decode("latin-1")).get("key", [""])
        return self._is_key(found[0])

    def _has_key(self, headers: dict[str, str]) -> bool:
        if self._is_key(headers.get(KEY_HEADER, "")):
            return True
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return self._cookie in cookies and self._is_key(cookies[self._cookie].value)

    def _is_key(self, text: str) -> bool:
        return hmac.compare_digest(text.encode("utf-8", "replace"), self._key.encode("ascii"))


def _headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers; one that occurs twice counts as none of its values."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1")
        found[key] = "" if key in found else value.decode("latin-1")
    return found


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = _added(message.get("headers", []))
        await send(message)

    return sending


def _added(headers: Any) -> list[tuple[bytes, bytes]]:
    """Add what is missing of the headers that every answer has."""
    own = [(name.lower(), value) for name, value in headers]
    wanted = _ALWAYS | {"content-security-policy": _NOTHING}
    there = {name for name, _ in own}
    added = [(k.encode(), v.encode()) for k, v in wanted.items() if k.encode() not in there]
    return own + added


async def _answer(
    send: Send, status: int, line: str, headers: dict[str, str] | None = None
) -> None:
    """Answer in one line of text, and close: what is left of a refused body is not read."""
    body = line.encode("utf-8")
    told = (headers or {}) | {
        "content-type": "text/plain; charset=utf-8",
        "content-length": str(len(body)),
        "connection": "close",
    }
    start = {"type": "http.response.start", "status": status}
    await send(start | {"headers": _added([(k.encode(), v.encode()) for k, v in told.items()])})
    await send({"type": "http.response.body", "body": body})

"""What passes the guard, for every combination of host, origin, method and key."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest

from uvlm.serve.guard import Guard, Receive, Scope, Send

KEY, PORT = "k" * 32, 8080
OURS = f"127.0.0.1:{PORT}"
HOSTS = {
    OURS: True,
    f"localhost:{PORT}": True,
    "127.0.0.1": False,
    "evil.example": False,
    f"evil.example:{PORT}": False,
    f"127.0.0.1:{PORT}.evil.example": False,
    "127.0.0.1:8081": False,
    "": False,
}


async def inner(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inner"})


def asked(
    method: str = "GET",
    headers: Sequence[tuple[str, str]] = (("host", OURS),),
    path: str = "/",
    query: str = "",
) -> tuple[int, dict[str, str], bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("the guard reads no body")

    scope = {
        "type": "http", "method": method, "path": path, "query_string": query.encode("latin-1"),
        "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers],
    }  # fmt: skip
    asyncio.run(Guard(inner, PORT, KEY)(scope, receive, send))
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, sent[1]["body"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_only_this_page_with_its_key_gets_through(method: str) -> None:
    keys = {
        None: False,
        ("cookie", f"uvlm_{PORT}={KEY}"): True,
        ("cookie", f"uvlm_{PORT}=wrong"): False,
        ("cookie", f"uvlm_1={KEY}"): False,
        ("cookie", "=;;\x01=\xff"): False,
        ("x-uvlm-key", KEY): True,
        ("x-uvlm-key", "\xfc" * 32): False,
    }
    origins = (None, f"http://{OURS}", "null", "http://evil.example", f"https://{OURS}")
    for (host, is_host), origin, (key, is_key) in product(HOSTS.items(), origins, keys.items()):
        headers = [("host", host)]
        headers += [("origin", origin)] if origin is not None else []
        headers += [key] if key is not None else []
        status, _, body = asked(method, headers)
        in_header = key is not None and key[0] == "x-uvlm-key"
        comes_from_here = origin == f"http://{host}" or in_header or method in ("GET", "HEAD")
        may = is_host and is_key and comes_from_here and method in ("GET", "HEAD", "POST")
        assert (status == 200) == may, (host, origin, key)
        assert (body == b"inner") == may


def test_a_form_of_another_site_is_refused_whatever_its_origin_says() -> None:
    headers = [("host", OURS), ("origin", f"http://{OURS}"), ("cookie", f"uvlm_{PORT}={KEY}")]
    assert asked("POST", headers)[0] == 200
    assert asked("POST", [*headers, ("sec-fetch-site", "same-origin")])[0] == 200
    for site in ("cross-site", "same-site", "none"):
        assert asked("POST", [*headers, ("sec-fetch-site", site)])[0] == 403


def test_a_header_that_comes_twice_is_none() -> None:
    assert asked(headers=[("host", OURS), ("host", OURS), ("x-uvlm-key", KEY)])[0] == 421


def test_the_link_sets_a_cookie_for_this_port_and_leaves_the_address() -> None:
    status, headers, _ = asked(query=f"key={KEY}")
    assert (status, headers["location"]) == (303, "/")
    assert headers["set-cookie"] == f"uvlm_{PORT}={KEY}; Path=/; HttpOnly; SameSite=Strict"
    for query in ("key=wrong", "key=", "key", f"Key={KEY}", "\xff=%ff"):
        status, headers, _ = asked(query=query)
        assert status == 403
        assert "set-cookie" not in headers


def test_every_answer_forbids_frames_copies_and_other_sites() -> None:
    for key, host in product((KEY, "wrong"), HOSTS):
        _, headers, _ = asked(headers=[("host", host), ("x-uvlm-key", key)])
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert not [name for name in headers if name.startswith("access-control")]

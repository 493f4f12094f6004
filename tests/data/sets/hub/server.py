"""A hub of the tests' own, on the loopback interface, that can misbehave once or for ever.

It speaks what huggingface_hub asks of the real one: the commit of a revision, paths-info, the tree
of a folder, and HEAD and GET of resolve/ with etag, x-linked-etag, x-linked-size, x-repo-commit and
ranges. Files of more than `LFS_FROM` bytes are LFS files, as on the real hub (there from 10 MB).
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

COMMIT: Final = "5c" * 20
LFS_FROM: Final = 256
_PIECE: Final = 1 << 17
SMALL, LARGE = "tables/reports.csv", "volumes/train_1/train_1_a_1.nii.gz"
FILES = {SMALL: b"id,report\n1,clear\n", LARGE: np.random.default_rng(0).bytes(200_000)}
_REPO: Final = re.compile(r"/(?:api/)?datasets/([^/]+/[^/]+)/(.*)")
FAULTS: Final = (
    "429_retry_after",
    "429",
    "500",
    "503",
    "timeout",
    "reset",
    "short_body",
    "wrong_etag",
    "html_body",
    "wrong_size",
    "wrong_sha256",
    "missing_in_listing",
)


@dataclass
class FakeHub:
    """What the server holds and how it behaves; tests change it between requests."""

    files: dict[str, bytes]
    repo: str = "someone/a-set"
    others: dict[str, dict[str, bytes]] = field(default_factory=dict)  # more repositories
    endpoint: str = ""
    fault: str = ""
    times: int = 0  # how many answers the fault spoils; negative: all
    pace: float = 0.0  # seconds between the pieces of a body
    gate: str = ""  # a token without which everything is refused
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, range

    def __post_init__(self) -> None:
        self.lock = threading.Lock()

    def files_of(self, repo: str) -> dict[str, bytes] | None:
        """The files of a repository, if there is one."""
        return self.files if repo == self.repo else self.others.get(repo)

    def counted(self, part: str) -> int:
        """How many requests had this part in their path."""
        return sum(part in path for _, path, _ in self.requests)

    def spoils(self, *faults: str) -> bool:
        """Whether this answer is to be spoilt by one of these faults; uses up one of `times`."""
        with self.lock:
            if self.fault not in faults or self.times == 0:
                return False
            self.times -= 1
            return True


@contextmanager
def serve(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve `hub` until the block ends; `hub.endpoint` says where."""

    class Handler(_Handler):
        fake = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Stay quiet."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if self._is_refused() or self._is_spoilt():
            return
        match = _REPO.match(self.path)
        files = (self.fake.files_of(match[1]) if match else None) or {}
        entries = [self._entry(path, files) for path in form["paths"] if path in files]
        if entries and self.fake.spoils("missing_in_listing"):
            entries.pop()
        self._json(entries)

    def _answer(self, *, with_body: bool) -> None:
        if self._is_refused() or self._is_spoilt():
            return
        match = _REPO.match(unquote(urlsplit(self.path).path))
        files = self.fake.files_of(match[1]) if match else None
        if match is None or files is None:
            self._plain(404, "Repository not found", {"X-Error-Code": "RepoNotFound"})
            return
        action, _, path = match[2].partition("/")
        if action == "revision":
            light = parse_qs(urlsplit(self.path).query).get("expand") == ["sha"]
            everything = {"siblings": [{"rfilename": name} for name in files]}
            self._json({"id": match[1], "sha": COMMIT} | ({} if light else everything))
        elif action == "tree":
            folder = path.partition("/")[2]
            self._json([self._entry(p, files) for p in files if p.rpartition("/")[0] == folder])
        else:
            self._file(files.get(path.partition("/")[2]), with_body=with_body)

    def _file(self, content: bytes | None, *, with_body: bool) -> None:
        if content is None:
            self._plain(404, "Entry not found", {"X-Error-Code": "EntryNotFound"})
            return
        if with_body and self.fake.spoils("html_body"):
            self._plain(200, "<html>busy</html>", {"Content-Type": "text/html; charset=utf-8"})
            return
        start = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
        if start >= len(content) > 0:
            self._plain(416, "", {"Content-Range": f"bytes */{len(content)}"})
            return
        etag = sha256(content) if len(content) > LFS_FROM else _sha1(content)
        if self.fake.spoils("wrong_etag"):
            etag = "0" * len(etag)
        self.send_response(206 if start else 200)
        if start:
            last = len(content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Linked-ETag", f'"{etag}"')
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if with_body:
            self._body(content[start:])

    def _body(self, content: bytes) -> None:
        if self.fake.spoils("wrong_sha256"):
            content = content[:-1] + bytes([content[-1] ^ 1])
        half = (len(content) + 1) // 2
        if self.fake.spoils("reset"):
            self.wfile.write(content[:half])
            threading.Event().wait(0.05)  # a reset also discards what has not been read yet
            linger = struct.pack("ii", 1, 0)  # close with RST
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._hang_up()
        elif self.fake.spoils("short_body"):
            self.wfile.write(content[:half])
            self._hang_up()
        else:
            self._paced(content)

    def _paced(self, content: bytes) -> None:
        """Send piece by piece; a client that is killed in between is no error here."""
        try:
            for start in range(0, len(content), _PIECE):
                self.wfile.write(content[start : start + _PIECE])
                if self.fake.pace:
                    threading.Event().wait(self.fake.pace)
        except (BrokenPipeError, ConnectionResetError):
            self._hang_up()

    def _is_refused(self) -> bool:
        asked = self.headers.get("Range") or ""
        self.fake.requests.append((self.command, self.path, asked))
        if not self.fake.gate or self.headers.get("Authorization") == f"Bearer {self.fake.gate}":
            return False
        self._plain(401, "Access is restricted", {"X-Error-Code": "GatedRepo"})
        return True

    def _is_spoilt(self) -> bool:
        """Answer with an error instead, or not in time."""
        if self.fake.spoils("429_retry_after"):
            self._plain(429, "slow down", {"Retry-After": "7"})
        elif self.fake.spoils("429"):
            self._plain(429, "slow down", {})
        elif self.fake.spoils("500"):
            self._plain(500, "<html>oops</html>", {"Content-Type": "text/html"})
        elif self.fake.spoils("503"):
            self._plain(503, "maintenance", {})
        elif self.fake.spoils("timeout"):
            threading.Event().wait(1.0)
            self._hang_up()
        else:
            return False
        return True

    def _entry(self, path: str, files: dict[str, bytes]) -> dict[str, Any]:
        entry = _entry_of(path, files[path])
        if "lfs" in entry and self.fake.spoils("wrong_size"):
            entry["size"] = entry["lfs"]["size"] = entry["size"] + 5
        return entry

    def _hang_up(self) -> None:
        self.close_connection = True

    def _json(self, document: object) -> None:
        self._plain(200, json.dumps(document), {"Content-Type": "application/json"})

    def _plain(self, status: int, text: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        body = text.encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _entry_of(path: str, content: bytes) -> dict[str, Any]:
    """Describe a file as the real hub's paths-info and tree do."""
    entry: dict[str, Any] = {"type": "file", "path": path}
    entry |= {"size": len(content), "oid": _sha1(content)}
    if len(content) > LFS_FROM:
        entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 134}
    return entry


def sha256(content: bytes) -> str:
    """Digest of an LFS file."""
    return hashlib.sha256(content).hexdigest()


def _sha1(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def ranges(hub: FakeHub) -> Counter[str]:
    """The ranges that were asked for."""
    return Counter(asked for _, _, asked in hub.requests if asked)

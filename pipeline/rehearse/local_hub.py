"""A hub on the loopback interface that serves folders of this computer as data sets.

It answers what the download asks of the real one: the commit of a revision, paths-info, and files
with ranges. The commit is made up and never changes.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from uvlm.files import file_sha256

_COMMIT: Final = "5c" * 20
_LFS_FROM: Final = 10_000_000
_PATH: Final = re.compile(r"/(?:api/)?datasets/([^/]+/[^/]+)/([^/]+)/([^/]+)/?(.*)")


@contextmanager
def serve(folders: Mapping[str, Path]) -> Iterator[str]:
    """Serve the folder of each repository until the block ends; yields the address."""

    class Handler(_Handler):
        roots = folders

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    roots: Mapping[str, Path]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Stay quiet."""

    def do_POST(self) -> None:
        """Answer paths-info; files that do not exist are left out."""
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        repo, _, _ = self._asked()
        found = ((path, self._file(repo, path)) for path in form.get("paths", []))
        self._json([_entry(path, file) for path, file in found if file is not None])

    def do_GET(self) -> None:
        """Answer the commit, or send a file from the offset that is asked for."""
        repo, action, path = self._asked()
        file = self._file(repo, path) if action == "resolve" else None
        if action == "revision" and repo in self.roots:
            self._json({"id": repo, "sha": _COMMIT})
        elif file is not None:
            self._send(file)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _asked(self) -> tuple[str, str, str]:
        match = _PATH.match(unquote(urlsplit(self.path).path))
        return (match[1], match[2], match[4]) if match else ("", "", "")

    def _file(self, repo: str, path: str) -> Path | None:
        """Find a file of a repository; nothing outside its folder."""
        if repo not in self.roots:
            return None
        root = self.roots[repo].resolve()
        file = (root / path).resolve()
        return file if file.is_relative_to(root) and file.is_file() else None

    def _send(self, file: Path) -> None:
        size = file.stat().st_size
        start = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        with file.open("rb") as stream:
            stream.seek(start)
            shutil.copyfileobj(stream, self.wfile)

    def _json(self, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@cache
def _entry(path: str, file: Path) -> dict[str, Any]:
    """Describe a file as the hub does: git's digest, and a sha256 of large ones."""
    size = file.stat().st_size
    digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    if size >= _LFS_FROM:  # git keeps a pointer, whose digest nobody checks
        lfs = {"oid": file_sha256(file), "size": size, "pointerSize": 134}
        return {"type": "file", "path": path, "size": size, "oid": digest.hexdigest(), "lfs": lfs}
    digest.update(file.read_bytes())
    return {"type": "file", "path": path, "size": size, "oid": digest.hexdigest()}

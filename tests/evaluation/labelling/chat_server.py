"""A chat endpoint on the loopback interface, as a language model behind the llm labeller."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, str], bytes]


def completion(content: Any, tokens: tuple[int, int] = (100, 20)) -> Reply:
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    document = {"choices": [{"message": {"content": content}}], "usage": usage}
    return 200, {}, json.dumps(document).encode()


@dataclass
class Server:
    """A chat endpoint whose first replies can be set; it remembers what it was asked."""

    then: Callable[[str], Reply]
    url: str = ""
    first: list[Reply] = field(default_factory=list)
    delays_s: list[float] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reply(self, request: dict[str, Any], headers: dict[str, str]) -> Reply:
        with self.lock:
            self.requests.append(request)
            self.headers.append(headers)
            delay = self.delays_s.pop(0) if self.delays_s else 0.0
            first = self.first.pop(0) if self.first else None
        time.sleep(delay)
        return first or self.then(request["messages"][-1]["content"])


@contextmanager
def serve(state: Server) -> Iterator[Server]:
    """Answer on a port of the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = json.loads(body) | {"path": self.path}
            status, headers, answer = state.reply(request, dict(self.headers))
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)
            except OSError:
                pass  # the client gave up waiting

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/v1"
    yield state
    http.shutdown()
    thread.join()
    http.server_close()

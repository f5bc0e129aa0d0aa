"""A node that passes everything on, but for what it lies about."""

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Liar", "lying"]

Lie = Callable[[list[Any], Any], Any]
"""(parameters, the truth) -> what is answered."""


class Liar:
    """What it does; a test may change that at any time."""

    def __init__(self, upstream: str, url: str) -> None:
        self.upstream = upstream
        self.url = url
        self.lies: dict[str, Lie] = {}
        """By method."""
        self.raw: bytes | None = None
        """Answered to everything, if it is set."""
        self.asked: list[str] = []

    def answer(self, body: bytes) -> bytes:
        request = json.loads(body)
        self.asked.append(request["method"])
        if self.raw is not None:
            return self.raw
        headers = {"Content-Type": "application/json"}
        passed = urllib.request.Request(self.upstream, body, headers)
        with urllib.request.urlopen(passed, timeout=20) as response:
            answer = json.load(response)
        lie = self.lies.get(request["method"])
        if lie is not None:
            answer["result"] = lie(request["params"], answer.get("result"))
            answer.pop("error", None)
        return json.dumps(answer).encode()


@contextmanager
def lying(upstream: str) -> Iterator[Liar]:
    """Run one in front of a node."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            data = liar.answer(body)
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    liar = Liar(upstream, f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield liar
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

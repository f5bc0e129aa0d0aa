"""What answers behind a gateway: an endpoint as OpenAI's, that mirrors the words."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

__all__ = ["upstream"]

HEAD = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": "mirror"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        size = int(self.headers["content-length"])
        asked = json.loads(self.rfile.read(size))
        words = asked["messages"][-1]["content"].split()[::-1]
        if asked.get("stream"):
            self._answer("text/event-stream", _events(words))
        else:
            self._answer("application/json", json.dumps(_whole(words)).encode())

    def _answer(self, media_type: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _whole(words: list[str]) -> dict[str, Any]:
    message = {"role": "assistant", "content": " ".join(words)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    count = len(words)
    usage = {
        "prompt_tokens": count,
        "completion_tokens": count,
        "total_tokens": 2 * count,
    }
    return HEAD | {"object": "chat.completion", "choices": [choice], "usage": usage}


def _events(words: list[str]) -> bytes:
    deltas: list[tuple[dict[str, str], str | None]] = [
        ({"content": f"{word} "}, None) for word in words
    ]
    chunks = [
        HEAD
        | {
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        }
        for delta, reason in [*deltas, ({}, "stop")]
    ]
    data = [*map(json.dumps, chunks), "[DONE]"]
    return "".join(f"data: {one}\n\n" for one in data).encode()


@contextmanager
def upstream() -> Iterator[str]:
    """Answer until the block ends; yield the address, as clients of OpenAI want it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()

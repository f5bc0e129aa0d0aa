"""Logs of other people: tlog-tiles, notes and policies straight from the definitions.

Shares no code with the product but the errors of its own making. `TiledLog` says what
stands under each path at a size; `served` gives it over HTTP, as anybody likes.
"""

import base64
import contextlib
import gzip
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from auditlog.core.checkpoint import parse_policy
from auditlog.monitor.account import NO_LIMITS, Limits
from auditlog.monitor.alerts import Webhook
from auditlog.monitor.round import Options, Round
from auditlog.monitor.source import Source, Terms
from auditlog.monitor.state import StateDirectory
from auditlog.monitor.watch import Monitor
from tests.reference import MTH

__all__ = ["NOW", "Answer", "Site", "TiledLog", "look", "served"]

ORIGIN = "log.example/monitored"
NOW = 1_800_000_000.0


class Key:
    """An Ed25519 key of a log (0x01) or a witness (0x04), as signed-note says."""

    def __init__(self, name: str, type_: int = 1, seed: bytes = b"k" * 32) -> None:
        self.name = name
        self.type = type_
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        public = bytes([type_]) + self._private.public_key().public_bytes_raw()
        self.id = hashlib.sha256(name.encode() + b"\n" + public).digest()[:4]
        self.vkey = f"{name}+{self.id.hex()}+{base64.b64encode(public).decode()}"

    def line(self, text: bytes, when: int = 0) -> bytes:
        stamp, message = b"", text
        if self.type == 4:
            stamp = when.to_bytes(8, "big")
            message = b"cosignature/v1\ntime %d\n" % when + text
        signed = self.id + stamp + self._private.sign(message)
        return f"— {self.name} {base64.b64encode(signed).decode()}\n".encode()


class TiledLog:
    """A log of given entries, at any size of it."""

    def __init__(self, entries: Sequence[bytes], origin: str = ORIGIN) -> None:
        self.entries = list(entries)
        self.origin = origin
        self.key = Key(origin)
        self.witness = Key("w.example/1", 4, b"w" * 32)

    @cached_property
    def _leaves(self) -> list[bytes]:
        return [hashlib.sha256(b"\0" + entry).digest() for entry in self.entries]

    def rewritten(self, index: int, size: int | None = None) -> "TiledLog":
        """The dishonest operator's: one entry is another one, under the same key."""
        entries = self.entries[:size]
        entries[index] = b"rewritten " + entries[index]
        return TiledLog(entries, self.origin)

    def root(self, size: int) -> bytes:
        return MTH(self.entries[:size])

    def text(self, size: int, root: bytes | None = None) -> bytes:
        encoded = base64.b64encode(root or self.root(size)).decode()
        return f"{self.origin}\n{size}\n{encoded}\n".encode()

    def note(self, size: int, *, root: bytes | None = None, when: int = 0) -> bytes:
        """The signed checkpoint, cosigned if a time is given."""
        text = self.text(size, root)
        lines = self.key.line(text) + (self.witness.line(text, when) if when else b"")
        return text + b"\n" + lines

    def policy(self, quorum: str = "none") -> str:
        """A policy that believes this log, and knows one witness."""
        return f"log {self.key.vkey}\nwitness w {self.witness.vkey}\nquorum {quorum}\n"

    def files(self, size: int) -> dict[str, bytes]:
        """All paths of tlog-tiles at a size, full tiles and the partial ones of it."""
        found = {"checkpoint": self.note(size)}
        found.update(self._bundles(size))
        level, hashes, span = 0, self._leaves[:size], 1
        while hashes:
            for start in range(0, len(hashes), 256):
                part = hashes[start : start + 256]
                path = _path(str(level), start // 256, len(part))
                found[path] = b"".join(part)
            span *= 256
            ends = range(span, size + 1, span)
            level += 1
            hashes = [MTH(self.entries[end - span : end]) for end in ends]
        return found

    def _bundles(self, size: int) -> Iterator[tuple[str, bytes]]:
        for start in range(0, size, 256):
            part = self.entries[start : min(start + 256, size)]
            data = b"".join(len(one).to_bytes(2, "big") + one for one in part)
            yield _path("entries", start // 256, len(part)), data


def _path(level: str, index: int, width: int) -> str:
    name = f"{index % 1000:03d}"
    while index := index // 1000:
        name = f"x{index % 1000:03d}/{name}"
    return f"tile/{level}/{name}" + (f".p/{width}" if width < 256 else "")


class Answer(NamedTuple):
    """What a site says to a request."""

    body: bytes
    status: int = 200
    delay: float = 0.0
    """Seconds before the body."""


class Site:
    """Files at paths, which a test changes while they are served."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files = dict(files or {})
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.posted: list[bytes] = []
        self.respond: Callable[[str], Answer | None] = lambda _: None
        """Asked first; None leaves it to the files."""

    def show(self, log: TiledLog, size: int, *, keep: bool = True) -> None:
        """Show a log at a size, as an honest server would."""
        new = log.files(size)
        self.files = {**self.files, **new} if keep else new

    def zip_bundles(self) -> None:
        """Store the bundles as gzip."""
        for path, data in self.files.items():
            if path.startswith("tile/entries/"):
                self.files[path] = gzip.compress(data)

    def drop(self, *beginnings: str) -> None:
        """Serve nothing whose path begins so."""
        for path in list(self.files):
            if path.startswith(beginnings):
                del self.files[path]

    def answer(self, path: str) -> Answer:
        found = self.respond(path)
        if found is not None:
            return found
        if path in self.files:
            return Answer(self.files[path])
        return Answer(b"nothing here", 404)


@contextlib.contextmanager
def served(site: Site) -> Iterator[str]:
    """Serve a site over HTTP; yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            site.requests.append(path)
            site.headers.append(dict(self.headers))
            self._say(site.answer(path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            site.posted.append(body)
            self._say(site.respond(self.path) or Answer(b""))

        def _say(self, answer: Answer) -> None:
            with contextlib.suppress(OSError):  # whoever asked has had enough
                self.send_response(answer.status)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                time.sleep(answer.delay)
                self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def look(
    directory: Path,
    url: str,
    *,
    policy: str,
    vantages: Sequence[str] = (),
    origin: str = ORIGIN,
    token: str = "",
    limits: Limits = NO_LIMITS,
    webhook: str | None = None,
    now: float = NOW,
    start: int = 0,
    max_time: float = 60.0,
    timeout: float = 5.0,
) -> Round:
    """Run one round of a new monitor on a directory, as a process of its own would."""
    terms = Terms(timeout)
    options = Options(
        origin=origin,
        policy=parse_policy(policy),
        limits=limits,
        start=start,
        max_time=max_time,
    )
    with StateDirectory(directory) as state:
        monitor = Monitor(
            state,
            Source(url, terms, token),
            [Source(one, terms) for one in vantages],
            options,
            Webhook(webhook) if webhook else None,
        )
        return monitor.round(now)
